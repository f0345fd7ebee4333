"""Back to a version that clients had before, in one click."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import current_run, flow_runs, outcome
from tasks.parameters import ModelName, RollbackVersion
from tasks.serving import model_control, model_repository, rollout
from tasks.storage import leases, locks
from tasks.tracking import canaries, champions, deployment_runs, registry
from tasks.tracking.champion_history import history_after_rollback


@flow
@outcome.fail_flow_with_message
def rollback_model(model_name: ModelName, version: RollbackVersion | None = None) -> State:
    """Make the champion before the present one (or the version that is named) the champion again.

    It was compared with its weights when it was deployed, and its graph is there still: so it is loaded as it was
    served then, and takes over while the present one answers. A deployment of the model that goes on is cancelled.
    """
    run = current_run.flow_run_id()
    with (
        locks.serving_lock(model_name, run, flow_runs.flow_run_is_final, flow_runs.cancel_flow_run) as require_lock,
        deployment_runs.recorded_rollout("roll back", model_name, run) as record,
    ):
        registry.require_model(model_name)
        canaries.end_canary(model_name)
        config, asides = model_repository.ConfigFile(model_name), model_repository.AsideVersions(model_name)
        places = rollout.RolloutStore(config, asides, leases.lease_holders, require_lock)
        champion = model_control.read_snapshot(model_name).champion_model
        line = champions.champion_history(model_name, champion.version if champion else None)
        chosen = champions.find_chosen_version(model_name, run, current_run.first_attempt_start())
        record.version = chosen or champions.rollback_target(model_name, line, version)
        current_run.log_step("going back to %s version %d", model_name, record.version)
        registered = registry.find_version(model_name, record.version)
        digest = model_repository.require_published(model_name, record.version)
        serving = champions.serving_params_of(model_name, record.version) or model_control.current_serving_params(
            model_name
        )
        model = registered.served(digest, serving.precision)
        line_with = history_after_rollback(line, model.version)
        crowning = rollout.ChampionChange(
            lambda: champions.announce_champion(model_name, model.version, run, line_with),
            lambda: champions.set_champion(model_name, model.version, line_with),
            lambda: None,
        )
        beside = rollout.make_champion(model, serving, places, crowning)
        champions.tag_champion_dates(model_name, line[-1], model.version, serving)
        rollout.unload_leftovers(model_name, asides, leases.lease_holders)
        rollout.unload_replaced(model, beside, serving, places)
        record.outcome = f"{model_name} version {model.version} is the champion again"
    return outcome.completed(record.outcome)
