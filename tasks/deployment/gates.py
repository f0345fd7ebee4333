"""The gates that a version must pass before clients get it: parity and canary."""

from pathlib import Path

from tasks.deployment.precision import AUTO, MEASURED_ON, PRECISION, compare_precisions, measured_on
from tasks.deployment.refusals import VersionRefusedError
from tasks.deployment.rollout import Rollout
from tasks.deployment.version_sample import VersionSample
from tasks.orchestration.artifacts import show_markdown
from tasks.orchestration.current_run import log_step
from tasks.orchestration.flow_runs import OwnershipGuard
from tasks.parameters import CanaryParams, ParityPolicy
from tasks.rendering.links import links_markdown
from tasks.serving.canary import run_canary
from tasks.serving.canary_rules import Canary, canary_table, canary_violations
from tasks.serving.canary_stats import CanaryStatsReader
from tasks.serving.parity.report import parity_markdown, parity_page
from tasks.serving.parity.rules import parity_tags
from tasks.serving.parity.visuals import draw_worst
from tasks.serving.served_model import ServedModel
from tasks.tracking.canaries import announced_canary
from tasks.tracking.deployment_runs import RolloutRecord, rollout_link
from tasks.tracking.links import page_links
from tasks.tracking.registry import tag_version


def require_parity(
    change: Rollout,
    candidate: ServedModel,
    weights: Path,
    sample: VersionSample,
    policy: ParityPolicy,
    record: RolloutRecord,
) -> ServedModel:
    """Compare Triton's answers with those of the weights, on validation images of the training.

    Returns the candidate in the precision in which it is to serve: of those that are tried and pass, the quickest.

    Raises:
        VersionRefusedError: They differ more than the policy allows.
        StudioError: There is nothing to compare them on.
    """
    title = f"{candidate.name} version {candidate.version}"
    compared = compare_precisions(change, candidate, weights, sample, policy)
    choice = compared.choice
    parity, precision = choice.judged, choice.chosen.precision

    exhibits = draw_worst(parity, sample.unpacked, compared.reference, compared.served[precision])
    record.pages["parity.html"] = parity_page(parity, exhibits, title, choice)
    record.metrics |= {"parity/agreement": parity.agreement, "parity/drop": parity.map_drop} | choice.metrics
    tags = parity_tags(parity)
    if change.serving.precision == AUTO:
        tags |= {PRECISION: precision, MEASURED_ON: measured_on(change.serving)}
    record.tags |= tags
    links = page_links("", candidate.run_id, candidate.name, candidate.version) | rollout_link(record.flow_run_id)
    show_markdown("parity", parity_markdown(parity, title, links_markdown(links), choice))
    if not parity.passed:
        tag_version(candidate.name, candidate.version, parity_tags(parity))
        raise VersionRefusedError(
            "parity",
            f"{title} does not answer as its weights do, so clients do not get it. {' '.join(parity.reasons)}",
        )
    tag_version(candidate.name, candidate.version, tags)
    log_step("version %d is to be served in %s: %s", candidate.version, precision, choice.reason(choice.chosen))
    return change.serve_in(precision, choice.chosen.digest)


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
            [candidate], lambda: run_canary(champion, candidate, params, reader, require_ownership)
        )
    record.pages["canary.md"] = canary_table(of_champion, of_candidate)
    show_markdown("canary", record.pages["canary.md"])
    if violations := canary_violations(of_champion, of_candidate, params):
        raise VersionRefusedError(
            "canary",
            f"{candidate.name} version {candidate.version} did not do as well as the champion. {' '.join(violations)}",
        )
