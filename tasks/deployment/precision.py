"""In which precision a version is served: as somebody asked, as was found before, or the quickest that is right."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.dataset.validation_sample import ValidationSample
from tasks.deployment.rollout import Rollout
from tasks.parameters import ParityPolicy, ServingParams
from tasks.serving.model_control import read_server_version
from tasks.serving.parity.precisions import EXACT, PrecisionChoice, PrecisionTrial, answers_alike
from tasks.serving.parity.rules import compare_predictions
from tasks.serving.parity.steps import TimedPredictions, predict_in_turns
from tasks.serving.served_model import ServedModel
from tasks.serving.servers import current_server
from tasks.serving.triton_names import trial_name
from tasks.tracking.registry import ModelVersion, read_tags
from tasks.training.steps import predict_reference
from tasks.vision.predictions import PredictionStore

AUTO = "auto"
PRECISION = "precision"
MEASURED_ON = "precision_measured_on"
# Tried beside f32. No processor has the arithmetic of f16 and not that of bf16.
_REDUCED = {"python": "bf16", "onnxruntime": "f16"}


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
        return tags.get(PRECISION)
    return None


def serving_in(serving: ServingParams, precision: str | None) -> ServingParams:
    """Return the same with the precision that was found, if one was."""
    return serving.model_copy(update={"precision": precision}) if precision else serving


def measured_on(serving: ServingParams) -> str:
    """Return what a choice of the precision depends on beside the version, as JSON: the server, and how it serves."""
    chosen = serving.model_dump(include={"backend", "threads", "instances", "max_batch_size", "parity"}, mode="json")
    return json.dumps({"server": str(current_server()), "triton": read_server_version(), **chosen}, sort_keys=True)


def compare_precisions(
    change: Rollout,
    candidate: ServedModel,
    weights: Path,
    sample: tuple[Path, ValidationSample],
    policy: ParityPolicy,
    folder: Path,
) -> Comparison:
    """Return how Triton answers, and how fast, in each precision that may serve.

    `sample` is the zip and what was unpacked of it. Unless the change is to find the precision, it is the candidate's
    own alone.
    """
    comparer = _Comparer(change, weights, sample[0], sample[1], policy, folder)
    if change.serving.precision != AUTO:
        return comparer.compare([candidate])
    reduced = replace(candidate, precision=_REDUCED[change.serving.backend])
    return comparer.compare([candidate, replace(reduced, aside=trial_name(candidate.name, reduced.precision))])


@dataclass(frozen=True)
class _Comparer:
    change: Rollout
    weights: Path
    packed: Path
    sample: ValidationSample
    policy: ParityPolicy
    folder: Path

    def compare(self, models: Sequence[ServedModel]) -> Comparison:
        """Compare the candidate, which comes first, and the same in other precisions."""
        candidate = models[0]
        with self.change.loaded_trials(models[1:]) as left_out:
            timed = self._ask([model for model in models if model.precision not in left_out])
        own = timed[candidate.precision].predictions
        for precision in [*timed]:
            if precision != candidate.precision and answers_alike(own, timed[precision].predictions):
                left_out[precision] = (
                    f"Triton answers with the numbers of {candidate.precision}: it has no {precision}."
                )
                del timed[precision]
        reference, scores = predict_reference(
            self.weights,
            self.packed,
            [self._served(precision) for precision in timed],
            candidate.task,
            candidate.image_size,
            self.folder,
        )
        trials = {
            precision: PrecisionTrial(
                precision=precision,
                parity=compare_predictions(
                    reference, timed[precision].predictions, self.sample, (scores[0], own_scores), self.policy
                ),
                rates=timed[precision].rates,
                seconds=timed[precision].seconds + self.change.load_seconds[precision],
            )
            for precision, own_scores in zip(timed, scores[1:], strict=True)
        } | {precision: PrecisionTrial(precision=precision, left_out=reason) for precision, reason in left_out.items()}
        return Comparison(
            choice=PrecisionChoice(trials=tuple(trials[model.precision] for model in models)),
            reference=reference,
            served={precision: found.predictions for precision, found in timed.items()},
        )

    def _ask(self, models: Sequence[ServedModel]) -> dict[str, TimedPredictions]:
        def predict() -> dict[str, TimedPredictions]:
            shutil.rmtree(self._served(""), ignore_errors=True)  # of an attempt during which Triton died
            return predict_in_turns(models, self.sample, self._served(""))

        return self.change.ask_candidate(models, predict)

    def _served(self, precision: str) -> Path:
        return self.folder / "served" / precision
