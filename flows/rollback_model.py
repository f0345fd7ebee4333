"""Back to a version that clients had before, in one click."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import flow_runs
from tasks.parameters import FormerVersion, ModelName
from tasks.serving import model_control, model_repository, rollout
from tasks.storage import leases, locks
from tasks.tracking import canaries, champions, deployment_runs, registry
from tasks.tracking.champion_history import back_to


@flow
@flow_runs.fails_with_reason
def rollback_model(model_name: ModelName, version: FormerVersion | None = None) -> State:
    """Make the champion before the present one (or the version that is named) the champion again.

    It was compared with its weights when it was deployed, and its graph is there still: so it is loaded as it was
    served then, and takes over while the present one answers. A deployment of the model that goes on is cancelled.
    """
    run = flow_runs.flow_run_id()
    with (
        locks.alone_with(model_name, run, flow_runs.is_over, flow_runs.overtake) as require_lock,
        deployment_runs.recording("roll back", model_name, run) as record,
    ):
        registry.require_model(model_name)
        canaries.end_trial(model_name)
        config, asides = model_repository.ConfigFile(model_name), model_repository.Asides(model_name)
        places = rollout.Places(config, asides, leases.users, require_lock)
        champion = model_control.snapshot(model_name).champion_model
        line = champions.line_of(model_name, champion.version if champion else None)
        chosen = champions.chosen_by(model_name, run, flow_runs.first_attempt())
        record.version = chosen or champions.earlier(model_name, line, version)
        flow_runs.say("going back to %s version %d", model_name, record.version)
        registered = registry.find_version(model_name, record.version)
        digest = model_repository.require_published(model_name, record.version)
        serving = champions.served_as(model_name, record.version) or model_control.how_served(model_name)
        model = registered.served(digest, serving.precision)
        line_with = back_to(line, model.version)
        crowning = rollout.Crowning(
            lambda: champions.announce(model_name, model.version, run, line_with),
            lambda: champions.crown(model_name, model.version, line_with),
            lambda: None,
        )
        beside = rollout.take_over(model, serving, places, crowning)
        champions.keep_history(model_name, line[-1], model.version, serving)
        rollout.clear(model_name, asides, leases.users)
        rollout.put_away(model, beside, serving, places)
        record.outcome = f"{model_name} version {model.version} is the champion again"
    return flow_runs.completed(record.outcome)
