"""A flow run that may change the served versions of a model: it holds the lock, and MLflow records it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tasks.deployment.announcements import announced_refusal
from tasks.deployment.rollout import RequireLock, Rollout
from tasks.orchestration.current_run import first_attempt_start, flow_run_id
from tasks.orchestration.flow_runs import OwnershipGuard, flow_run_is_final
from tasks.orchestration.step import retried
from tasks.parameters import ServingParams
from tasks.serving.kept_versions import warn_on_error
from tasks.serving.model_control import read_snapshot
from tasks.serving.repair import repair_model
from tasks.serving.served_model import ServedModel
from tasks.serving.servers import are_several
from tasks.storage.fence import announced_change
from tasks.storage.locks import never_cancel, serving_lock
from tasks.tracking.champion_history import history_after_deploy
from tasks.tracking.champions import champion_history, find_chosen_version
from tasks.tracking.deployment_runs import RolloutRecord, recorded_rollout


@dataclass(frozen=True, kw_only=True)
class Champions:
    """The champion in Triton, if one is served, and the versions that were champion, the present one last."""

    served: ServedModel | None
    history: list[int]

    def find_rival(self, version: int) -> ServedModel | None:
        """Return the served champion if it is another version."""
        return self.served if self.served and self.served.version != version else None


@dataclass(frozen=True, kw_only=True)
class DeploymentSession:
    """The means of a flow run to change the served versions of a model.

    `require_lock` raises Superseded if another flow run does that now, and `require_ownership` if another process has
    been given this flow run.
    """

    model_name: str
    record: RolloutRecord
    require_lock: RequireLock
    require_ownership: OwnershipGuard

    def find_chosen_version(self) -> int | None:
        """Return the version that this flow run chose in an earlier attempt, if it did.

        Raises:
            TrackingError: Another flow run has changed the champion since then.
        """
        return find_chosen_version(self.model_name, self.record.flow_run_id, first_attempt_start())

    def read_champions(self) -> Champions:
        """Return the champions of the model; an alias that a killed rollout left behind follows Triton now."""
        served = retried(read_snapshot)(self.model_name).champion_model
        return Champions(served=served, history=champion_history(self.model_name, served.version if served else None))

    def rollout(
        self,
        model: ServedModel,
        serving: ServingParams,
        history: list[int],
        next_history: Callable[[list[int], int], list[int]] = history_after_deploy,
    ) -> Rollout:
        """Return the change to `model`; `next_history` gives the champions after it."""
        return Rollout(
            model=model,
            serving=serving,
            former=history[-1] if history else None,
            history=next_history(history, model.version),
            flow_run_id=self.record.flow_run_id,
            require_lock=self.require_lock,
        )


@contextmanager
def deployment_session(
    action: str, model_name: str, cancel_holder: Callable[[str], bool] = never_cancel
) -> Iterator[DeploymentSession]:
    """Hold the lock of a model in the block, and record in MLflow what the block does.

    Of several servers, one that was away during an earlier rollout is put right first.

    `cancel_holder` may end the flow run, given by its id, that holds the lock.

    Raises:
        StorageError: The lock stays taken.
    """
    require_ownership = OwnershipGuard()
    run = flow_run_id()
    with (
        serving_lock(model_name, run, flow_run_is_final, cancel_holder) as require_lock,
        announced_change(run),
        recorded_rollout(action, model_name, run) as record,
        announced_refusal(record),
    ):
        if are_several():
            with warn_on_error("a server that serves something else is left to the rollout"):
                repair_model(model_name)
        yield DeploymentSession(
            model_name=model_name, record=record, require_lock=require_lock, require_ownership=require_ownership
        )
