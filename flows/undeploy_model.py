"""A model that is served no longer."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import reporting
from tasks.core.parameters import ModelName
from tasks.serving import rollout
from tasks.storage import leases, locks, repository
from tasks.tracking import canaries, rollouts


@flow
@reporting.fails_with_reason
def undeploy_model(model_name: ModelName) -> State:
    """Take a model out of Triton. Its versions, aliases and graphs stay, so deploying it again needs no export.

    Runs of inference that use one of its versions finish on it; this waits for them, and may be cancelled meanwhile.
    """
    run = reporting.flow_run_id()
    with (
        locks.alone_with(model_name, run, reporting.is_over),
        rollouts.recording("undeploy", model_name, run) as record,
    ):
        canaries.end_trial(model_name)
        reporting.say("taking %s out of Triton: live clients are refused, runs that use it are waited for", model_name)
        rollout.take_out(model_name, repository.ConfigFile(model_name), leases.users)
        record.outcome = f"{model_name} is served no longer; deploy-model serves it again"
    return reporting.completed(record.outcome)
