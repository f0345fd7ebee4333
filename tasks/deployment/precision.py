"""In which precision a version is served: as somebody asked, as was found before, or the quickest that is right."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.deployment.rollout import Rollout
from tasks.deployment.version_sample import VersionSample
from tasks.errors import StudioError
from tasks.export.steps import quantize_graph
from tasks.files import sha256_of
from tasks.media.images import read_image
from tasks.orchestration.current_run import log_step
from tasks.parameters import ParityPolicy, ServingParams
from tasks.serving.model_control import read_server_version
from tasks.serving.model_repository import GRAPH, fetch_graph, read_precision_digest
from tasks.serving.parity.precisions import EXACT, PrecisionChoice, PrecisionTrial, answers_alike
from tasks.serving.parity.rules import compare_predictions
from tasks.serving.parity.steps import TimedPredictions, predict_in_turns
from tasks.serving.pre_postprocess import preprocess
from tasks.serving.served_model import PRECISION_GRAPHS, ServedModel
from tasks.serving.servers import current_server
from tasks.serving.triton_names import trial_name
from tasks.tracking.registry import ModelVersion, read_tags
from tasks.training.steps import predict_reference
from tasks.vision.predictions import PredictionStore

AUTO = "auto"
PRECISION = "precision"
MEASURED_ON = "precision_measured_on"
CALIBRATION_IMAGES = 32
# Tried beside f32. No processor has the arithmetic of f16 and not that of bf16.
_REDUCED = {"python": "bf16", "onnxruntime": "f16"}
# Tried where the server has no such floats: INT8 that agrees as well is slower than they are. The more exact first.
_INTEGER = ("int8-mixed", "int8")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The precisions that were tried, and the predictions of the weights and of Triton in each."""

    choice: PrecisionChoice
    reference: PredictionStore
    served: dict[str, PredictionStore]


def find_precision(registered: ModelVersion, serving: ServingParams, *, approved: bool) -> str | None:
    """Return the precision that was named, or found before for this version and this server; None to try them.

    A person who has approved the version gets the one that was found then.
    """
    if serving.precision != AUTO:
        return serving.precision
    if serving.parity is None:  # nothing says which answers are right
        return EXACT
    tags = read_tags(registered.name, registered.version)
    if approved or tags.get(MEASURED_ON) == measured_on(serving):
        return tags.get(PRECISION, EXACT)
    return None


def serving_in(serving: ServingParams, precision: str | None) -> ServingParams:
    """Return the same with the precision that was found, if one was."""
    return serving.model_copy(update={"precision": precision}) if precision else serving


def measured_on(serving: ServingParams) -> str:
    """Return what a choice of the precision depends on beside the version, as JSON: the server, and how it serves."""
    chosen = serving.model_dump(include={"backend", "threads", "instances", "max_batch_size", "parity"}, mode="json")
    return json.dumps({"server": str(current_server()), "triton": read_server_version(), **chosen}, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class PrecisionGraph:
    """The graph by which a version is served in a precision: its SHA-256 (hex), and its file if it is new."""

    precision: str
    digest: str
    new: Path | None = None


def ensure_graph(
    registered: ModelVersion, exported: str, precision: str | None, sample: VersionSample
) -> PrecisionGraph:
    """Return the graph by which a version is served first: `exported`, unless the precision has one of its own.

    Without a precision it is the most exact.
    """
    if precision not in PRECISION_GRAPHS:
        return PrecisionGraph(precision=precision or EXACT, digest=exported)
    return ensure_graphs(registered, [precision], sample)[precision]


def ensure_graphs(
    registered: ServedModel | ModelVersion, precisions: Sequence[str], sample: VersionSample
) -> dict[str, PrecisionGraph]:
    """Return the graphs of precisions that have one of their own; those that are not in the repository are made.

    Raises:
        ExportError: One cannot be made.
        StudioError: There are no images to measure the ranges of numbers on.
    """
    name, version = registered.name, registered.version
    found = {precision: read_precision_digest(name, version, precision) for precision in precisions}
    graphs = {
        precision: PrecisionGraph(precision=precision, digest=digest) for precision, digest in found.items() if digest
    }
    folder = sample.folder / "quantized"
    targets = {precision: folder / PRECISION_GRAPHS[precision] for precision in found if precision not in graphs}
    if targets:
        log_step("quantising version %d", version)
        folder.mkdir(exist_ok=True)
        images = sample.unpacked.images[:CALIBRATION_IMAGES]
        squares = [preprocess(read_image(each.path), registered.task, registered.image_size)[0] for each in images]
        fetch_graph(name, version, folder / GRAPH)
        quantize_graph(folder / GRAPH, squares, targets)
    return graphs | {
        precision: PrecisionGraph(precision=precision, digest=sha256_of(path), new=path)
        for precision, path in targets.items()
    }


def compare_precisions(
    change: Rollout, candidate: ServedModel, weights: Path, sample: VersionSample, policy: ParityPolicy
) -> Comparison:
    """Return how Triton answers, and how fast, in each precision that may serve.

    Unless the change is to find the precision, it is the candidate's own alone.
    """
    return _Comparer(change, weights, sample, policy).compare(candidate)


@dataclass(frozen=True)
class _Comparer:
    change: Rollout
    weights: Path
    sample: VersionSample
    policy: ParityPolicy

    def compare(self, candidate: ServedModel) -> Comparison:
        """Compare the candidate, and the same in other precisions if one is to be found."""
        models, left_out = [candidate], dict[str, str]()
        with self.change.loaded_trials() as load:
            if self.change.serving.precision == AUTO:
                models += self._load_others(candidate, load, left_out)
            timed = self._ask(models)
        own = timed[candidate.precision].predictions
        for precision in [*timed]:
            if precision != candidate.precision and answers_alike(own, timed[precision].predictions):
                left_out[precision] = f"Triton answers with the numbers of {candidate.precision}, so it has none of it."
                del timed[precision]
        return self._judge(candidate, timed, left_out, {model.precision: model.digest for model in models})

    def _load_others(
        self, candidate: ServedModel, load: Callable[[ServedModel], str], left_out: dict[str, str]
    ) -> list[ServedModel]:
        """Load the other precisions; return them, and say of those that cannot be why."""

        def try_loading(precision: str, digest: str) -> list[ServedModel]:
            trial = replace(candidate, precision=precision, digest=digest, aside=trial_name(candidate.name, precision))
            reason = load(trial)
            if reason:
                left_out[precision] = reason
            return [] if reason else [trial]

        if reduced := try_loading(_REDUCED[self.change.serving.backend], candidate.digest):
            return reduced
        try:
            graphs = ensure_graphs(candidate, _INTEGER, self.sample)
        except StudioError as error:
            if error.transient:
                raise
            left_out |= dict.fromkeys(_INTEGER, str(error))
            return []
        self.change.new_graphs |= {precision: graph.new for precision, graph in graphs.items() if graph.new}
        return [trial for precision in _INTEGER for trial in try_loading(precision, graphs[precision].digest)]

    def _ask(self, models: Sequence[ServedModel]) -> dict[str, TimedPredictions]:
        log_step("comparing what Triton answers with what the weights find")

        def predict() -> dict[str, TimedPredictions]:
            shutil.rmtree(self._served(""), ignore_errors=True)  # of an attempt during which Triton died
            return predict_in_turns(models, self.sample.unpacked, self._served(""))

        return self.change.ask_candidate(models, predict)

    def _judge(
        self,
        candidate: ServedModel,
        timed: dict[str, TimedPredictions],
        left_out: dict[str, str],
        digests: dict[str, str],
    ) -> Comparison:
        served = [self._served(precision) for precision in timed]
        reference, scores = predict_reference(
            self.weights, self.sample.packed, served, candidate.task, candidate.image_size, self.sample.folder
        )
        trials = [
            PrecisionTrial(
                precision=precision,
                digest=digests[precision],
                parity=compare_predictions(
                    reference, found.predictions, self.sample.unpacked, (scores[0], own_scores), self.policy
                ),
                rates=found.rates,
                seconds=found.seconds + self.change.load_seconds[precision],
            )
            for (precision, found), own_scores in zip(timed.items(), scores[1:], strict=True)
        ]
        trials += [PrecisionTrial(precision=precision, left_out=reason) for precision, reason in left_out.items()]
        return Comparison(
            choice=PrecisionChoice(trials=tuple(trials)),
            reference=reference,
            served={precision: found.predictions for precision, found in timed.items()},
        )

    def _served(self, precision: str) -> Path:
        return self.sample.folder / "served" / precision
