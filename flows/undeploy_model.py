"""A model that is served no longer."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import flow_runs
from tasks.parameters import ModelName
from tasks.serving import model_repository, rollout
from tasks.serving.triton_config import NOBODY
from tasks.storage import leases, locks
from tasks.tracking import canaries, champions, deployment_runs, registry


@flow
@flow_runs.fails_with_reason
def undeploy_model(model_name: ModelName) -> State:
    """Take a model out of Triton. Its versions, aliases and graphs stay, so deploying it again needs no export.

    Clients are refused from now on. Runs of inference that use one of its versions finish on it.
    """
    run = flow_runs.flow_run_id()
    with (
        locks.alone_with(model_name, run, flow_runs.is_over) as require_lock,
        deployment_runs.recording("undeploy", model_name, run) as record,
    ):
        registry.require_model(model_name)
        champions.chosen_by(model_name, run, flow_runs.first_attempt())
        canaries.end_trial(model_name)
        flow_runs.say("taking %s out of Triton: clients are refused, runs that hold a version finish on it", model_name)
        config, asides = model_repository.ConfigFile(model_name), model_repository.Asides(model_name)
        rollout.clear(model_name, asides, leases.users)
        champions.announce(model_name, NOBODY, run, champions.line_of(model_name))
        rollout.take_out(model_name, rollout.Places(config, asides, leases.users, require_lock))
        record.outcome = f"{model_name} is served no longer; deploy-model serves it again"
    return flow_runs.completed(record.outcome)
