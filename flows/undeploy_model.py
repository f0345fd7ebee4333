"""A model that is served no longer."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import current_run, flow_runs, outcome
from tasks.parameters import ModelName
from tasks.serving import model_repository, rollout
from tasks.serving.triton_config import NO_DEFAULT_VERSION
from tasks.storage import leases, locks
from tasks.tracking import canaries, champions, deployment_runs, registry


@flow
@outcome.fail_flow_with_message
def undeploy_model(model_name: ModelName) -> State:
    """Take a model out of Triton. Its versions, aliases and graphs stay, so deploying it again needs no export.

    Clients are refused from now on. Runs of inference that use one of its versions finish on it.
    """
    run = current_run.flow_run_id()
    with (
        locks.serving_lock(model_name, run, flow_runs.flow_run_is_final) as require_lock,
        deployment_runs.recorded_rollout("undeploy", model_name, run) as record,
    ):
        registry.require_model(model_name)
        champions.find_chosen_version(model_name, run, current_run.first_attempt_start())
        canaries.end_canary(model_name)
        current_run.log_step(
            "taking %s out of Triton: clients are refused, runs that hold a version finish on it", model_name
        )
        config, asides = model_repository.ConfigFile(model_name), model_repository.AsideVersions(model_name)
        rollout.unload_leftovers(model_name, asides, leases.lease_holders)
        champions.announce_champion(model_name, NO_DEFAULT_VERSION, run, champions.champion_history(model_name))
        rollout.undeploy(model_name, rollout.RolloutStore(config, asides, leases.lease_holders, require_lock))
        record.outcome = f"{model_name} is served no longer; deploy-model serves it again"
    return outcome.completed(record.outcome)
