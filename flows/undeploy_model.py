"""A model that is served no longer."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.deployment import rollout
from tasks.deployment.session import deployment_session
from tasks.orchestration import current_run, outcome
from tasks.parameters import ModelName
from tasks.serving import kept_versions
from tasks.serving.triton_config import NO_DEFAULT_VERSION
from tasks.tracking import canaries, champions, owners, registry


@flow
@outcome.fail_flow_with_message
def undeploy_model(model_name: ModelName) -> State:
    """Take a model out of Triton. Its versions, aliases and graphs stay, so deploying it again needs no export.

    Clients are refused from now on. Runs of inference that use one of its versions finish on it.
    Of people who came by the front door, its owner and admins may.
    """
    with deployment_session("undeploy", model_name) as session:
        registry.require_model(model_name)
        owners.require_owner(model_name)
        session.find_chosen_version()
        canaries.end_canary(model_name)
        current_run.log_step(
            "taking %s out of Triton: clients are refused, runs that hold a version finish on it", model_name
        )
        kept_versions.unload_leftovers(model_name)
        history = champions.champion_history(model_name)
        champions.announce_champion(model_name, NO_DEFAULT_VERSION, session.record.flow_run_id, history)
        away = rollout.undeploy(model_name, session.require_lock)
        left = rollout.away_text(away)
        session.record.outcome = f"{model_name} is served no longer; deploy-model serves it again{left}"
    return outcome.completed(session.record.outcome)
