"""A pipeline that goes on: the runs that it starts, waits for and cancels, and its page.

While such a run is suspended, the pipeline is, too, and holds no place of a worker; `infra/patrol.py` resumes it.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from tasks.errors import REFUSED, VERSION_REFUSED
from tasks.inference.image_lists import run_input
from tasks.orchestration import child_runs, deployed_flows
from tasks.orchestration.artifacts import UpdatedPage
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.current_run import flow_run_id, flow_run_name, log_step
from tasks.orchestration.flow_runs import call_when_cancelled, may_continue
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.orchestration.run_history import begun_at
from tasks.orchestration.step import SERVICE_RESTART
from tasks.orchestration.suspension import can_be_suspended, suspend
from tasks.parameters import ValidationPolicy
from tasks.pipelines import steps
from tasks.pipelines.report import Stage, pipeline_markdown
from tasks.pipelines.rules import (
    ChosenArchive,
    PipelineError,
    PipelineRefusedError,
    PipelineVersionRefusedError,
    invalid_message,
)
from tasks.settings import Settings
from tasks.tracking.trained_versions import TrainedVersion, find_trained_version

POLL_S = 2.0
CHECKS_AT_ONCE = 2  # people who check an archive find room on the worker
INVALID = "Invalid"  # the state in which validate-dataset refuses an archive
_MAX_NAME = 100


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The archive of what a model has labelled, None if it was sure of nothing, and the input that lists the rest.

    `uncertain` is None if it was sure of everything.
    """

    archive: str | None
    uncertain: str | None


@dataclass(frozen=True, kw_only=True)
class RenewedChampion:
    """What became of a training in a sentence, and whether clients get its version."""

    sentence: str
    is_deployed: bool


class PipelineSession:
    """The runs that one run of a pipeline needs. Each is started once, whatever attempt of the pipeline it is."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self.archives: tuple[ChosenArchive, ...] = ()
        self._run = flow_run_id()
        self._began = begun_at()
        self._tag = child_runs.child_tag(child_runs.PIPELINE, self._run)
        self._titles: dict[UUID, str] = {}
        self._states: dict[UUID, RunState] = {}
        self._page = UpdatedPage("pipeline", "The runs of this pipeline")
        self._may_continue = may_continue()

    def choose_archives(self, entries: Sequence[str]) -> None:
        """Choose what the pipeline trains on.

        Raises:
            StudioError: An entry of `archives` stands for nothing, or an archive is named twice.
        """
        self.archives = steps.plan_archives(self._run, self.model_name, entries)
        log_step("%d archives: %s", len(self.archives), ", ".join(each.name for each in self.archives[:10]))
        self._show()

    def check_archives(self, policy: ValidationPolicy) -> None:
        """Have each archive checked, unless these bytes were checked under this policy.

        Raises:
            PipelineError: Archives are not valid; it links their reports.
        """
        done = self._find_done(policy)
        waiting = [archive for archive in self.archives if archive.name not in done]
        checks: dict[str, UUID] = {}
        while waiting or not self._are_over(checks.values()):
            while waiting and sum(not self._is_over(run) for run in checks.values()) < CHECKS_AT_ONCE:
                archive = waiting.pop(0)
                parameters = {"archive": archive.name, "policy": policy}
                checks[archive.name] = self._start(
                    f"check {archive.name}", "validate-dataset", parameters, archive.check_key(policy)
                )
            self._poll()
        self._require_valid(checks)

    def train(self, **parameters: Any) -> TrainedVersion:  # noqa: ANN401 - those of train_model
        """Return the version that a training on the archives made, which may have been refused.

        Raises:
            StudioError: The training failed.
        """
        names = [archive.name for archive in self.archives]
        run = self._do(f"train {self.model_name}", "train-model", {"archives": names, **parameters}, "train")
        return find_trained_version(self.model_name, str(run.id))

    def deploy(self, version: TrainedVersion, serving: BaseModel) -> RunState:
        """Return the run that has made a version the champion.

        Raises:
            PipelineError: It was not deployed.
        """
        title = f"deploy {self.model_name} version {version.number}"
        parameters = {"version": version.number, "serving": serving}
        return self._do(title, "deploy-model", parameters, f"deploy-{version.number}")

    def infer(self, inputs: Sequence[str], inference: BaseModel) -> RunState:
        """Return the run that has detected with the champion.

        Raises:
            PipelineError: It failed.
        """
        parameters = {"inputs": list(inputs), "inference": inference}
        return self._do(f"detect with {self.model_name}", "run-inference", parameters, "infer")

    def label(self, inputs: Sequence[str], labelling: BaseModel) -> LabelledImages:
        """Return what the champion has labelled by itself, and where the images are listed that it is unsure about.

        Raises:
            PipelineError: It failed.
        """
        archive = self._name_archive("labelled")
        parameters = {"inputs": list(inputs), "archive": archive, "labelling": labelling}
        run = self._do(f"label with {self.model_name}", "label-images", parameters, "label")
        return LabelledImages(archive=steps.find_archive(archive), uncertain=steps.find_listed_images(str(run.id)))

    def review(self, inputs: Sequence[str], selection: BaseModel, review: BaseModel) -> str:
        """Return the archive of the images from which most is learnt, when people have corrected their labels.

        Raises:
            PipelineError: It failed, or nobody has answered.
        """
        archive = self._name_archive("reviewed")
        title = f"select images for {self.model_name}"
        chosen = self._do(title, "select-images", {"inputs": list(inputs), "selection": selection}, "select")
        parameters = {"inputs": [run_input(str(chosen.id))], "archive": archive, "review": review}
        self._do(f"review for {self.model_name}", "review-images", parameters, "review")
        return archive

    def renew_champion(
        self,
        archives: Sequence[str],
        policy: ValidationPolicy,
        serving: BaseModel,
        **training: Any,  # noqa: ANN401
    ) -> RenewedChampion:
        """Check the archives, train on them, and serve the new version if it is better; `training` as `train` takes it.

        Raises:
            StudioError: An archive is not there or not valid, or the training or the deployment failed.
        """
        self.choose_archives(archives)
        self.check_archives(policy)
        version = self.train(policy=policy, **training)
        if not version.promoted:
            sentence = f"{self.model_name} version {version.number} is not deployed: {version.reason}"
            return RenewedChampion(sentence=sentence, is_deployed=False)
        return RenewedChampion(sentence=self.deploy(version, serving).message, is_deployed=True)

    def cancel(self) -> None:
        """Cancel the runs that this pipeline has started, in whichever attempt; a check of somebody else goes on."""
        child_runs.cancel_children({UUID(self._run): datetime.now(UTC)})

    def _find_done(self, policy: ValidationPolicy) -> Collection[str]:
        """The names of the archives that have a verdict, whoever asked for it; their runs are shown if they are known.

        Nobody has noted under which policy that was: so another policy than the default has no verdict yet.
        """
        if policy != ValidationPolicy():
            return ()
        done = steps.find_valid_checks(self.archives)
        self._states |= SERVICE_RESTART.call(lambda: child_runs.read_runs(done.values()))
        self._titles |= {run: f"check {name}" for name, run in done.items() if run in self._states}
        return done

    def _name_archive(self, kind: str) -> str:
        return f"{self.model_name}-{self._run[:8]}-{kind}.zip"

    def _do(self, title: str, flow: str, parameters: Mapping[str, Any], key: str) -> RunState:
        """Start a run about the model, and return it when it has completed."""
        run = self._start(title, flow, {"model_name": self.model_name, **parameters}, f"{self._run}-{key}")
        while not self._is_over(run):
            if self._states[run].is_paused and can_be_suspended():
                suspend(f"Goes on when flow run '{self._states[run].name}' does.", awaited=run)
            self._poll()
        ended = self._states[run]
        if ended.state == REFUSED:
            raise PipelineRefusedError(f"{title}: {ended.message}")
        if not ended.completed:
            page = Settings().addresses.flow_run(str(run))
            failure = PipelineVersionRefusedError if ended.state == VERSION_REFUSED else PipelineError
            raise failure(
                f"Expected the run '{title}' to complete, found it {ended.state}: {ended.message} ({page}) Retry this "
                "pipeline to try that run again."
            )
        return ended

    def _start(self, title: str, flow: str, parameters: Mapping[str, Any], key: str) -> UUID:
        """Start a run, or find the one of this key; what had failed when this pipeline was begun is tried again."""
        self._may_continue()
        plain = {name: _to_json(value) for name, value in parameters.items()}
        run = SERVICE_RESTART.call(
            lambda: deployed_flows.start(
                flow,
                plain,
                name=f"{title}, {flow_run_name()}"[:_MAX_NAME],
                idempotency_key=key,
                tags=[self._tag],
            )
        )
        state = SERVICE_RESTART.call(lambda: child_runs.read_runs([run])).get(run)
        if state is None:
            raise PipelineError(f"Expected the run '{title}', found that it was deleted. Start the pipeline again.")
        if state.is_over(self._began) and state.can_be_retried and state.since < self._began:
            log_step("flow run '%s' was %s: it is tried again", state.name, state.state)
            deployed_flows.retry(run, f"Pipeline '{flow_run_name()}' needs it.")
            state = SERVICE_RESTART.call(lambda: child_runs.read_runs([run]))[run]
        log_step("%s: flow run '%s'", title, state.name)
        self._titles[run] = title
        self._states[run] = state
        self._show()
        return run

    def _is_over(self, run: UUID) -> bool:
        return self._states[run].is_over(datetime.now(UTC))

    def _are_over(self, runs: Iterable[UUID]) -> bool:
        return all(map(self._is_over, runs))

    def _poll(self) -> None:
        """Wait a little, and look at the runs that go on; a server that is away is asked again.

        Raises:
            PipelineError: A run was deleted.
        """
        time.sleep(POLL_S)
        self._may_continue()
        active = [run for run in self._states if not self._is_over(run)]
        try:
            newest = child_runs.read_runs(active)
        except PrefectUnavailableError:
            return
        if missing := [self._titles[run] for run in active if run not in newest]:
            raise PipelineError(
                f"Expected the runs {', '.join(missing)}, found that they were deleted. Start the pipeline again."
            )
        self._states |= newest
        self._show()

    def _require_valid(self, checks: Mapping[str, UUID]) -> None:
        failed = {name: self._states[run] for name, run in checks.items() if not self._states[run].completed}
        if broken := {name: run for name, run in failed.items() if run.state != INVALID}:
            run = next(iter(broken.values()))
            raise PipelineError(
                f"Expected a verdict about {', '.join(broken)}, found that the check is {run.state}: {run.message} "
                f"({Settings().addresses.flow_run(str(run.id))}) Retry this pipeline to check again."
            )
        if failed:
            raise PipelineError(
                invalid_message({name: steps.report_address(str(run.id)) for name, run in failed.items()})
            )

    def _show(self) -> None:
        stages = [Stage(title=title, run=self._states[run]) for run, title in self._titles.items()]
        names = [archive.name for archive in self.archives]
        self._page(pipeline_markdown(names, stages, Settings().addresses, datetime.now(UTC)))


@contextmanager
def pipeline_session(model_name: str) -> Iterator[PipelineSession]:
    """Yield the session of this flow run; if the run is cancelled, so are the runs that it has started."""
    session = PipelineSession(model_name)
    with call_when_cancelled(session.cancel):
        yield session


def _to_json(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
