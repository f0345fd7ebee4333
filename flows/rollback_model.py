"""Back to a version that clients had before, in one click."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.deployment import announcements, live_thresholds
from tasks.deployment.session import deployment_session
from tasks.orchestration import current_run, flow_runs, outcome
from tasks.parameters import ModelName, RollbackVersion
from tasks.serving import kept_versions, model_control, model_repository
from tasks.tracking import canaries, champion_history, champions, registry


@flow
@outcome.fail_flow_with_message
def rollback_model(model_name: ModelName, version: RollbackVersion | None = None) -> State:
    """Make the champion before the present one (or the version that is named) the champion again.

    It was compared with its weights when it was deployed, and its graph is there still: so it is loaded as it was
    served then, and takes over while the present one answers. A deployment of the model that goes on is cancelled.
    """
    with deployment_session("roll back", model_name, flow_runs.cancel_flow_run) as session:
        registry.require_model(model_name)
        canaries.end_canary(model_name)
        history = session.read_champions().history
        target = session.find_chosen_version() or champions.rollback_target(model_name, history, version)
        session.record.version = target
        current_run.log_step("going back to %s version %d", model_name, target)
        registered = registry.find_version(model_name, target)
        serving = champions.serving_params_of(model_name, target) or model_control.current_serving_params(model_name)
        digest = model_repository.require_published(model_name, target, serving.precision)
        thresholds = live_thresholds.read_live_thresholds_once(model_name, target)
        model = registered.served(digest, serving.precision, thresholds)
        change = session.rollout(model, serving, history, champion_history.history_after_rollback)
        change.make_champion()
        announcements.announce_rolled_back(session.record, change)
        change.tag_dates()
        kept_versions.unload_leftovers(model_name)
        change.unload_replaced()
        session.record.outcome = f"{model_name} version {target} is the champion again{change.away_text}"
    return outcome.completed(session.record.outcome)
