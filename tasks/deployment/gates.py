"""The gates that a version must pass before clients get it: parity and canary."""

import shutil
from pathlib import Path

from tasks.dataset.validation_sample import unpack_sample
from tasks.deployment.refusals import VersionRefusedError
from tasks.deployment.rollout import Rollout
from tasks.errors import StudioError
from tasks.merge.steps import SAMPLE
from tasks.orchestration.artifacts import show_markdown
from tasks.orchestration.current_run import log_step
from tasks.orchestration.flow_runs import OwnershipGuard
from tasks.parameters import CanaryParams, ParityPolicy
from tasks.rendering.links import links_markdown
from tasks.serving.canary import run_canary
from tasks.serving.canary_rules import Canary, canary_table, canary_violations
from tasks.serving.canary_stats import CanaryStatsReader
from tasks.serving.parity.report import parity_markdown, parity_page
from tasks.serving.parity.rules import compare_predictions, parity_tags
from tasks.serving.parity.steps import predict_sample
from tasks.serving.parity.visuals import draw_worst
from tasks.serving.served_model import ServedModel
from tasks.tracking.canaries import announced_canary
from tasks.tracking.deployment_runs import RolloutRecord, rollout_link
from tasks.tracking.links import page_links
from tasks.tracking.registry import tag_version
from tasks.tracking.runs import download_artifact
from tasks.training.steps import predict_reference
from tasks.vision.predictions import PredictionStore


def require_parity(
    change: Rollout, candidate: ServedModel, weights: Path, policy: ParityPolicy, folder: Path, record: RolloutRecord
) -> None:
    """Compare Triton's answers with those of the weights, on validation images of the training.

    Raises:
        VersionRefusedError: They differ more than the policy allows.
        StudioError: There is nothing to compare them on.
    """
    log_step("comparing what Triton answers with what the weights find")
    title = f"{candidate.name} version {candidate.version}"
    packed = download_artifact(candidate.run_id, SAMPLE, folder / "sample")
    if packed is None:
        raise StudioError(
            f"Expected {SAMPLE} in the MLflow run of {title}, found none. Train it again, or go without the "
            f"comparison: serving.parity = null."
        )
    sample = unpack_sample(packed, candidate.task, folder / "shown")

    def predict() -> PredictionStore:
        shutil.rmtree(folder / "served", ignore_errors=True)  # of an attempt during which Triton died
        return predict_sample(candidate, sample, folder / "served")

    served = change.ask_candidate(candidate, predict)
    reference, reference_scores, served_scores = predict_reference(
        weights, packed, folder / "served", candidate.task, candidate.image_size, folder
    )
    parity = compare_predictions(reference, served, sample, (reference_scores, served_scores), policy)

    record.pages["parity.html"] = parity_page(parity, draw_worst(parity, sample, reference, served), title)
    record.metrics |= {"parity/agreement": parity.agreement, "parity/drop": parity.map_drop}
    record.tags |= parity_tags(parity)
    tag_version(candidate.name, candidate.version, parity_tags(parity))
    links = page_links("", candidate.run_id, candidate.name, candidate.version) | rollout_link(record.flow_run_id)
    show_markdown("parity", parity_markdown(parity, title, links_markdown(links)))
    if not parity.passed:
        raise VersionRefusedError(
            "parity",
            f"{title} does not answer as its weights do, so clients do not get it. {' '.join(parity.reasons)}",
        )


def require_canary(
    change: Rollout,
    candidate: ServedModel,
    champion: ServedModel,
    params: CanaryParams,
    record: RolloutRecord,
    require_ownership: OwnershipGuard,
) -> None:
    """Compare the candidate with the champion on a share of the runs of inference.

    Raises:
        VersionRefusedError: The candidate does not do as well.
    """
    share = 100 * params.share
    log_step("trying version %d on %.0f %% of the runs, for %g min", candidate.version, share, params.minutes)
    canary = Canary(version=candidate.version, share=params.share, flow_run_id=record.flow_run_id)
    with announced_canary(candidate.name, canary, 60 * params.minutes):
        reader = CanaryStatsReader(canary.flow_run_id)
        of_champion, of_candidate = change.ask_candidate(
            candidate, lambda: run_canary(champion, candidate, params, reader, require_ownership)
        )
    record.pages["canary.md"] = canary_table(of_champion, of_candidate)
    show_markdown("canary", record.pages["canary.md"])
    if violations := canary_violations(of_champion, of_candidate, params):
        raise VersionRefusedError(
            "canary",
            f"{candidate.name} version {candidate.version} did not do as well as the champion. {' '.join(violations)}",
        )
