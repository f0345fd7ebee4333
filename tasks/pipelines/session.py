"""A pipeline that goes on: the runs that it starts, and its page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from tasks.labelling.labelled_archive import NOTHING_LABELLED
from tasks.orchestration.artifacts import UpdatedPage
from tasks.orchestration.awaited_runs import AwaitedRuns
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.current_run import first_attempt_start, flow_run_id, log_step
from tasks.orchestration.flow_runs import call_when_cancelled
from tasks.parameters import MergePolicy, Parameters, SelectionParams, TrainingParams, ValidationPolicy
from tasks.pipelines import steps
from tasks.pipelines.report import Stage, pipeline_markdown
from tasks.pipelines.rules import ChosenArchive, PipelineError, PipelinePlan, invalid_message
from tasks.review.asked_images import REVIEWED, list_reviewed_archives, loop_folder
from tasks.review.rounds import NOTHING_REVIEWED
from tasks.settings import Settings
from tasks.tracking.trained_versions import (
    ChampionTraining,
    TrainedVersion,
    find_champion_training,
    find_trained_version,
)

CHECKS_AT_ONCE = 2  # people who check an archive find room on the worker
INVALID = "Invalid"  # the state in which validate-dataset refuses an archive
NO_CHAMPION = ChampionTraining(
    base_model="yolo11n.pt",
    training=TrainingParams(),
    merge=MergePolicy(),
    guessed="the model has no champion to train like",
)


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """The archive of what a model has labelled, None if it was sure of nothing, and the input that lists what is not.

    `listed` is None if there is no such image; `sentence` says what became of the images.
    """

    archive: str | None
    listed: str | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class ReviewedImages:
    """The archive of what people have corrected, None if nothing was chosen or kept; `sentence` says what or why."""

    archive: str | None
    sentence: str

    def remark_on(self, renewed: str, val: float) -> str:
        """Return what became of the new version, with what that does not tell of the images of this loop.

        Args:
            renewed: What became of it, as a sentence.
            val: The share of the images that were corrected that goes into val.
        """
        remark = "" if val else "It was measured on none of the images that people have corrected: review.val is 0"
        if self.archive is None:
            remark = f"People have corrected nothing: {self.sentence}"
        return ". ".join(filter(None, [renewed.rstrip("."), remark]))


NOBODY_ASKED = ReviewedImages(archive=None, sentence="label-images has listed no image to ask about")


@dataclass(frozen=True, kw_only=True)
class RenewedChampion:
    """What became of a training in a sentence, and whether clients get its version."""

    sentence: str
    is_deployed: bool


class PipelineSession:
    """The runs that one run of a pipeline needs. Each is started once, whatever attempt of the pipeline it is."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self.plan = PipelinePlan()
        self._checks: dict[str, UUID] = {}  # of the archives that are valid, by their names
        self._run = flow_run_id()
        self._runs = AwaitedRuns(self._show)
        self._page = UpdatedPage("pipeline", "The runs of this pipeline")

    def choose_archives(self, entries: Sequence[str], gold: str | None = None) -> None:
        """Choose what the pipeline trains on, and the archive that it only measures on.

        Raises:
            StudioError: An entry of `archives` or `gold` stands for nothing, or an archive is named twice.
        """
        self._take(steps.plan_archives(self._run, self.model_name, entries, gold))

    def require_training(
        self, base_model: str | None, entries: Sequence[str], gold: str | None, policy: ValidationPolicy
    ) -> None:
        """Check what a training would begin from and train on, before anything is labelled; what is chosen stays so.

        Raises:
            StudioError: The base model is not there, an entry of `archives` or `gold` stands for nothing, or an archive
                is named twice or not valid.
        """
        if not steps.has_chosen(self._run):
            steps.require_base_model(base_model or self._find_champion().base_model)
            self._take(steps.find_archives(self.model_name, entries, gold))
            self.check_archives(policy)

    def check_archives(self, policy: ValidationPolicy) -> None:
        """Have each archive checked, unless these bytes were checked under this policy; for gold it is the default.

        Raises:
            PipelineError: Archives are not valid; it links their reports.
        """
        self._check(self.plan.archives, policy)
        if self.plan.gold:
            self._check([self.plan.gold], ValidationPolicy())  # as train-model does

    def train(self, **parameters: Any) -> TrainedVersion:  # noqa: ANN401 - those of train_model
        """Return the version that a training on the archives made, which may have been refused.

        Raises:
            StudioError: The training failed.
        """
        names = [archive.name for archive in self.plan.archives]
        run = self._do(f"train {self.model_name}", "train-model", {"archives": names, **parameters}, "train")
        return find_trained_version(self.model_name, str(run.id))

    def deploy(self, version: TrainedVersion, serving: BaseModel) -> RunState:
        """Return the run that has made a version the champion.

        Raises:
            AwaitedRunError: It was not deployed.
        """
        title = f"deploy {self.model_name} version {version.number}"
        parameters = {"version": version.number, "serving": serving}
        return self._do(title, "deploy-model", parameters, f"deploy-{version.number}")

    def infer(self, inputs: Sequence[str], inference: BaseModel) -> RunState:
        """Return the run that has detected with the champion.

        Raises:
            AwaitedRunError: It failed.
        """
        parameters = {"inputs": list(inputs), "inference": inference}
        return self._do(f"detect with {self.model_name}", "run-inference", parameters, "infer")

    def require_versions(self, selection: SelectionParams) -> None:
        """Check that a selection will find its versions, before anything is labelled; a loop that has begun goes on.

        Raises:
            TrackingError: One is not there, they are of different tasks, or MLflow cannot be reached.
        """
        if first_attempt_start() is None:
            steps.require_versions(self.model_name, selection)

    def label(self, inputs: Sequence[str], labelling: BaseModel) -> LabelledImages:
        """Return what the champion has labelled by itself, and where the images are listed that people should see.

        Raises:
            StudioError: It failed, or its archive or its list is gone.
        """
        archive = steps.loop_archive(self.model_name, self._run, "labelled.zip")
        parameters = {"inputs": list(inputs), "archive": archive, "labelling": labelling}
        run = self._do(f"label with {self.model_name}", "label-images", parameters, "label")
        labelled = None if run.state == NOTHING_LABELLED else steps.require_archive(archive)
        listed = steps.find_listed_images(str(run.id))
        if listed is None:
            log_step("nobody is asked: %s", NOBODY_ASKED.sentence)
        return LabelledImages(archive=labelled, listed=listed, sentence=run.message)

    def review(self, inputs: Sequence[str], selection: BaseModel, review: BaseModel) -> ReviewedImages:
        """Return the archive of the images from which most is learnt, when people have corrected their labels.

        Raises:
            StudioError: It failed, nobody has answered, or its archive is gone.
        """
        archive = steps.loop_archive(self.model_name, self._run, REVIEWED)
        title = f"select images for {self.model_name}"
        chosen = self._do(title, "select-images", {"inputs": list(inputs), "selection": selection}, "select")
        listed = steps.find_listed_images(str(chosen.id))
        if listed is None:
            log_step("no image was chosen: nobody is asked")
            return ReviewedImages(archive=None, sentence=chosen.message)
        parameters = {"inputs": [listed], "archive": archive, "review": review}
        reviewed = self._do(f"review for {self.model_name}", "review-images", parameters, "review")
        corrected = None if reviewed.state == NOTHING_REVIEWED else steps.require_archive(archive)
        return ReviewedImages(archive=corrected, sentence=reviewed.message)

    def find_reviewed(self) -> list[str]:
        """Return what stands for the archives that people have reviewed in loops of this model; empty without any.

        Raises:
            StorageError: The object store does not answer.
        """
        found = list_reviewed_archives(self.model_name)
        log_step("%d archives of reviews in loops of %s", len(found), self.model_name)
        return [f"{loop_folder(self.model_name)}*-{REVIEWED}"] if found else []

    def train_as_champion(
        self,
        base_model: str | None,
        training: TrainingParams | None,
        merge: MergePolicy | None,
    ) -> dict[str, Any]:
        """Return these as `train` takes them: what is not given is as the champion was trained. Archives are checked.

        Raises:
            TrackingError: MLflow cannot be reached.
            StorageError: The report of a check is gone, or the object store does not answer.
        """
        champion = self._find_champion()
        base = base_model or champion.base_model
        chosen = champion.training.model_copy(update=_given(training))
        guessed = f", with defaults: {champion.guessed}" if champion.guessed else ""
        log_step("training will start from %s, %d epochs at %d pixels%s", base, chosen.epochs, chosen.imgsz, guessed)
        read = self.plan.all if champion.merge.classes else ()
        merged = champion.merge_again(steps.read_class_names({each.name: self._checks[each.name] for each in read}))
        if left_out := champion.merge.classes.keys() - merged.classes.keys():
            log_step("no archive needs the new names of %s, which the champion's archives needed", sorted(left_out))
        return {"base_model": base, "training": chosen, "merge": merged.model_copy(update=_given(merge))}

    def renew_champion(self, serving: BaseModel, **training: Any) -> RenewedChampion:  # noqa: ANN401
        """Train on the archives, and serve the new version if it is better; `training` as `train` takes it.

        Raises:
            StudioError: The training or the deployment failed.
        """
        version = self.train(**training)
        if not version.promoted:
            sentence = f"{self.model_name} version {version.number} is not deployed: {version.reason}"
            return RenewedChampion(sentence=sentence, is_deployed=False)
        return RenewedChampion(sentence=self.deploy(version, serving).message, is_deployed=True)

    def cancel(self) -> None:
        """Cancel the runs that this pipeline has started, in whichever attempt; a check of somebody else goes on."""
        self._runs.cancel()

    def _find_champion(self) -> ChampionTraining:
        found: ChampionTraining | None = find_champion_training(self.model_name)
        return found or NO_CHAMPION

    def _take(self, plan: PipelinePlan) -> None:
        self.plan = plan
        log_step("%d archives: %s", len(plan.archives), ", ".join(each.name for each in plan.archives[:10]))
        self._show()

    def _check(self, archives: Sequence[ChosenArchive], policy: ValidationPolicy) -> None:
        done = self._find_done(archives, policy)
        waiting = [archive for archive in archives if archive.name not in done]
        checks: dict[str, UUID] = {}
        while waiting or not self._runs.are_over(checks.values()):
            while waiting and sum(not self._runs.is_over(run) for run in checks.values()) < CHECKS_AT_ONCE:
                archive = waiting.pop(0)
                parameters = {"archive": archive.name, "policy": policy}
                checks[archive.name] = self._runs.start(
                    f"check {archive.name}", "validate-dataset", parameters, archive.check_key(policy), exact=True
                )
            self._runs.poll()
        self._require_valid(checks)
        self._checks |= {**done, **checks}

    def _find_done(self, archives: Sequence[ChosenArchive], policy: ValidationPolicy) -> dict[str, UUID]:
        """The runs that have found archives valid, whoever asked for it, by their names; they are shown if known.

        Nobody has noted under which policy that was: so another policy than the default has no verdict yet.
        """
        if policy != ValidationPolicy():
            return {}
        done: dict[str, UUID] = steps.find_valid_checks(archives)
        self._runs.know({run: f"check {name}" for name, run in done.items()})
        return done

    def _do(self, title: str, flow: str, parameters: Mapping[str, Any], key: str) -> RunState:
        """Start a run about the model, and return it when it has completed."""
        return self._runs.do(title, flow, {"model_name": self.model_name, **parameters}, key)

    def _require_valid(self, checks: Mapping[str, UUID]) -> None:
        states = self._runs.states
        failed = {name: states[run] for name, run in checks.items() if not states[run].completed}
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
        stages = [Stage(title=title, run=self._runs.states[run]) for run, title in self._runs.titles.items()]
        gold = [f"{self.plan.gold.name}, only to measure on"] if self.plan.gold else []
        names = [*(archive.name for archive in self.plan.archives), *gold]
        self._page(pipeline_markdown(names, stages, Settings().addresses, datetime.now(UTC)))


def _given(parameters: Parameters | None) -> dict[str, Any]:
    return {name: getattr(parameters, name) for name in parameters.model_fields_set} if parameters else {}


@contextmanager
def pipeline_session(model_name: str) -> Iterator[PipelineSession]:
    """Yield the session of this flow run; if the run is cancelled, so are the runs that it has started."""
    session = PipelineSession(model_name)
    with call_when_cancelled(session.cancel):
        yield session
