"""A registered version, exported, compared with its weights, and answering in Triton."""

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.dataset.validation_sample import unpack_sample
from tasks.errors import StudioError
from tasks.export.steps import export_onnx
from tasks.merge import steps as merge_steps
from tasks.orchestration import flow_runs
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import CanaryParams, ModelName, NewVersion, ParityPolicy, ServingParams
from tasks.rendering.links import links_markdown
from tasks.serving import canary_stats, grpc_client, model_control, model_repository, rollout
from tasks.serving.canary import watch
from tasks.serving.canary_rules import Canary, canary_table, objections
from tasks.serving.parity.report import parity_markdown, parity_page
from tasks.serving.parity.rules import compare, parity_tags
from tasks.serving.parity.visuals import draw_worst
from tasks.serving.served_model import ServedModel
from tasks.storage import leases, locks
from tasks.tracking import canaries, champions, deployment_runs, registry, runs
from tasks.tracking.champion_history import onward
from tasks.tracking.deployment_runs import Rollout
from tasks.tracking.links import page_links
from tasks.tracking.registry import ModelVersion
from tasks.training import steps as training_steps


@flow
@flow_runs.fails_with_reason
def deploy_model(
    model_name: ModelName, version: NewVersion | None = None, serving: ServingParams = ServingParams()
) -> State:
    """Serve a version (the challenger, unless one is named) and make it the champion.

    It is compared with its weights first, and tried on a share of inference where `serving.canary` says so, under a
    name of its own. Clients get the version that is served now until the new one is the champion, whatever happens.
    """
    run, owner = flow_runs.flow_run_id(), flow_runs.Ownership()
    with (
        locks.alone_with(model_name, run, flow_runs.is_over) as require_lock,
        deployment_runs.recording("deploy", model_name, run) as record,
        scratch_folder("deploy") as folder,
    ):
        chosen = champions.chosen_by(model_name, run, flow_runs.first_attempt())
        wanted = version or chosen
        registered = registry.find_version(model_name, wanted) if wanted else registry.find_candidate(model_name)
        record.version = registered.version
        canaries.end_trial(model_name)
        config, asides = model_repository.ConfigFile(model_name), model_repository.Asides(model_name)
        places = rollout.Places(config, asides, leases.users, require_lock)
        rollout.clear(model_name, asides, leases.users)
        champion = model_control.snapshot(model_name).champion_model
        line = champions.line_of(model_name, champion.version if champion else None)
        weights = registry.fetch_weights(registered, folder / "weights")
        digest, is_new = _published(registered, weights, folder)
        model = registered.served(digest, serving.precision)
        line_with = onward(line, model.version)
        crowning = rollout.Crowning(
            lambda: champions.announce(model_name, model.version, run, line_with),
            lambda: champions.crown(model_name, model.version, line_with),
            lambda: model_repository.withdraw_version(model_name, model.version) if is_new else None,
        )
        flow_runs.say("loading version %d into Triton, aside of what clients get", model.version)
        with rollout.tried_out(model, serving, places, crowning) as candidate:
            if serving.parity:
                _compare(candidate, weights, serving.parity, folder, record)
            if serving.canary and champion and champion.version != model.version:
                _try_out(candidate, champion, serving.canary, record, owner)
            owner()
            grpc_client.smoke_test(candidate)  # a Triton that was started anew meanwhile has no candidate
            flow_runs.say("making version %d the champion", model.version)
            beside = rollout.take_over(model, serving, places, crowning)
        champions.keep_history(model_name, line[-1] if line else None, model.version, serving)
        rollout.put_away(model, beside, serving, places)
        record.outcome = f"{model_name} version {model.version} is served and is the champion"
    return flow_runs.completed(record.outcome)


def _published(registered: ModelVersion, weights: Path, folder: Path) -> tuple[str, bool]:
    """The digest of the version's graph, exported where it is not in the repository yet, and whether that was so."""
    known = model_repository.published_digest(registered.name, registered.version)
    if known is not None:
        return known, False
    flow_runs.say("exporting %s version %d to ONNX", registered.name, registered.version)
    graph = export_onnx(weights, folder / "export", registered.image_size)
    return model_repository.publish_version(registered.name, registered.version, graph), True


def _compare(model: ServedModel, weights: Path, policy: ParityPolicy, folder: Path, record: Rollout) -> None:
    """What Triton answers beside what the weights find, on validation images of the training."""
    flow_runs.say("comparing what Triton answers with what the weights find")
    packed = runs.fetch_file(model.run_id, merge_steps.SAMPLE, folder / "sample")
    if packed is None:
        raise StudioError(
            f"Expected {merge_steps.SAMPLE} in the MLflow run of {model.name} version {model.version}, found none: an "
            f"earlier release trained it. Train it again, or go without the comparison: serving.parity = null."
        )
    sample = unpack_sample(packed, model.task, folder / "shown")
    served = grpc_client.find(model, sample, folder / "served")
    reference, own, other = training_steps.refer(
        weights, packed, folder / "served", model.task, model.image_size, folder
    )
    parity = compare(reference, served, sample, (own, other), policy)

    title = f"{model.name} version {model.version}"
    page = parity_page(parity, draw_worst(parity, sample, reference, served), title)
    record.pages["parity.html"] = page
    record.metrics |= {"parity/agreement": parity.agreement, "parity/drop": parity.drop}
    record.tags |= parity_tags(parity)
    registry.tag_version(model.name, model.version, parity_tags(parity))
    pages = page_links("", model.run_id, model.name, model.version) | deployment_runs.rollout_link(record.flow_run_id)
    flow_runs.show_markdown("parity", parity_markdown(parity, title, links_markdown(pages)))
    if not parity.passed:
        raise StudioError(
            f"{title} does not answer as its weights do, so clients do not get it. {' '.join(parity.reasons)}"
        )


def _try_out(
    model: ServedModel,
    champion: ServedModel,
    params: CanaryParams,
    record: Rollout,
    owner: flow_runs.Ownership,
) -> None:
    """Give the new version a share of inference, beside the champion, until it can be judged."""
    flow_runs.say(
        "trying version %d on %.0f %% of the runs, for %g min", model.version, 100 * params.share, params.minutes
    )
    canary = Canary(model.version, params.share, record.flow_run_id)
    with canaries.trying_out(model.name, canary, 60 * params.minutes):
        answers = watch(champion, model, params, canary_stats.Tallies(canary.flow_run_id), owner)
    flow_runs.show_markdown("canary", canary_table(*answers))
    record.pages["canary.md"] = canary_table(*answers)
    if against := objections(*answers, params):
        title = f"{model.name} version {model.version}"
        raise StudioError(f"{title} did not do as well as the champion. {' '.join(against)}")
