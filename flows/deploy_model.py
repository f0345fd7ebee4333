"""A registered version, exported, compared with its weights, and answering in Triton."""

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.dataset.validation_sample import unpack_sample
from tasks.errors import StudioError
from tasks.export.steps import export_onnx
from tasks.merge import steps as merge_steps
from tasks.orchestration import artifacts, current_run, flow_runs, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import CanaryParams, DeployableVersion, ModelName, ParityPolicy, ServingParams
from tasks.rendering.links import links_markdown
from tasks.serving import canary_stats, grpc_client, model_control, model_repository, rollout
from tasks.serving.canary import run_canary
from tasks.serving.canary_rules import Canary, canary_table, canary_violations
from tasks.serving.parity.report import parity_markdown, parity_page
from tasks.serving.parity.rules import compare_predictions, parity_tags
from tasks.serving.parity.steps import predict_sample
from tasks.serving.parity.visuals import draw_worst
from tasks.serving.served_model import ServedModel
from tasks.storage import leases, locks
from tasks.tracking import canaries, champions, deployment_runs, registry, runs
from tasks.tracking.champion_history import history_after_deploy
from tasks.tracking.deployment_runs import RolloutRecord
from tasks.tracking.links import page_links
from tasks.tracking.registry import ModelVersion
from tasks.training import steps as training_steps


@flow
@outcome.fail_flow_with_message
def deploy_model(
    model_name: ModelName, version: DeployableVersion | None = None, serving: ServingParams = ServingParams()
) -> State:
    """Serve a version (the challenger, unless one is named) and make it the champion.

    It is compared with its weights first, and tried on a share of inference where `serving.canary` says so, under a
    name of its own. Clients get the version that is served now until the new one is the champion, whatever happens.
    """
    run, owner = current_run.flow_run_id(), flow_runs.OwnershipGuard()
    with (
        locks.serving_lock(model_name, run, flow_runs.flow_run_is_final) as require_lock,
        deployment_runs.recorded_rollout("deploy", model_name, run) as record,
        scratch_folder("deploy") as folder,
    ):
        chosen = champions.find_chosen_version(model_name, run, current_run.first_attempt_start())
        wanted = version or chosen
        registered = registry.find_version(model_name, wanted) if wanted else registry.find_candidate(model_name)
        record.version = registered.version
        canaries.end_canary(model_name)
        config, asides = model_repository.ConfigFile(model_name), model_repository.AsideVersions(model_name)
        places = rollout.RolloutStore(config, asides, leases.lease_holders, require_lock)
        rollout.unload_leftovers(model_name, asides, leases.lease_holders)
        champion = model_control.read_snapshot(model_name).champion_model
        line = champions.champion_history(model_name, champion.version if champion else None)
        weights = registry.fetch_weights(registered, folder / "weights")
        digest, is_new = _ensure_published(registered, weights, folder)
        model = registered.served(digest, serving.precision)
        line_with = history_after_deploy(line, model.version)
        crowning = rollout.ChampionChange(
            lambda: champions.announce_champion(model_name, model.version, run, line_with),
            lambda: champions.set_champion(model_name, model.version, line_with),
            lambda: model_repository.delete_version(model_name, model.version) if is_new else None,
        )
        current_run.log_step("loading version %d into Triton, aside of what clients get", model.version)
        with rollout.loaded_candidate(model, serving, places, crowning) as candidate:
            if serving.parity:
                _compare(candidate, weights, serving.parity, folder, record)
            if serving.canary and champion and champion.version != model.version:
                _run_canary(candidate, champion, serving.canary, record, owner)
            owner()
            grpc_client.smoke_test(candidate)  # a Triton that was started anew meanwhile has no candidate
            current_run.log_step("making version %d the champion", model.version)
            beside = rollout.make_champion(model, serving, places, crowning)
        champions.tag_champion_dates(model_name, line[-1] if line else None, model.version, serving)
        rollout.unload_replaced(model, beside, serving, places)
        record.outcome = f"{model_name} version {model.version} is served and is the champion"
    return outcome.completed(record.outcome)


def _ensure_published(registered: ModelVersion, weights: Path, folder: Path) -> tuple[str, bool]:
    """The digest of the version's graph, exported where it is not in the repository yet, and whether that was so."""
    known = model_repository.read_published_digest(registered.name, registered.version)
    if known is not None:
        return known, False
    current_run.log_step("exporting %s version %d to ONNX", registered.name, registered.version)
    graph = export_onnx(weights, folder / "export", registered.image_size)
    return model_repository.publish_version(registered.name, registered.version, graph), True


def _compare(model: ServedModel, weights: Path, policy: ParityPolicy, folder: Path, record: RolloutRecord) -> None:
    """What Triton answers beside what the weights find, on validation images of the training."""
    current_run.log_step("comparing what Triton answers with what the weights find")
    packed = runs.download_artifact(model.run_id, merge_steps.SAMPLE, folder / "sample")
    if packed is None:
        raise StudioError(
            f"Expected {merge_steps.SAMPLE} in the MLflow run of {model.name} version {model.version}, found none: an "
            f"earlier release trained it. Train it again, or go without the comparison: serving.parity = null."
        )
    sample = unpack_sample(packed, model.task, folder / "shown")
    served = predict_sample(model, sample, folder / "served")
    reference, own, other = training_steps.predict_reference(
        weights, packed, folder / "served", model.task, model.image_size, folder
    )
    parity = compare_predictions(reference, served, sample, (own, other), policy)

    title = f"{model.name} version {model.version}"
    page = parity_page(parity, draw_worst(parity, sample, reference, served), title)
    record.pages["parity.html"] = page
    record.metrics |= {"parity/agreement": parity.agreement, "parity/drop": parity.map_drop}
    record.tags |= parity_tags(parity)
    registry.tag_version(model.name, model.version, parity_tags(parity))
    pages = page_links("", model.run_id, model.name, model.version) | deployment_runs.rollout_link(record.flow_run_id)
    artifacts.show_markdown("parity", parity_markdown(parity, title, links_markdown(pages)))
    if not parity.passed:
        raise StudioError(
            f"{title} does not answer as its weights do, so clients do not get it. {' '.join(parity.reasons)}"
        )


def _run_canary(
    model: ServedModel,
    champion: ServedModel,
    params: CanaryParams,
    record: RolloutRecord,
    owner: flow_runs.OwnershipGuard,
) -> None:
    """Give the new version a share of inference, beside the champion, until it can be judged."""
    current_run.log_step(
        "trying version %d on %.0f %% of the runs, for %g min", model.version, 100 * params.share, params.minutes
    )
    canary = Canary(model.version, params.share, record.flow_run_id)
    with canaries.announced_canary(model.name, canary, 60 * params.minutes):
        answers = run_canary(champion, model, params, canary_stats.CanaryStatsReader(canary.flow_run_id), owner)
    artifacts.show_markdown("canary", canary_table(*answers))
    record.pages["canary.md"] = canary_table(*answers)
    if against := canary_violations(*answers, params):
        title = f"{model.name} version {model.version}"
        raise StudioError(f"{title} did not do as well as the champion. {' '.join(against)}")
