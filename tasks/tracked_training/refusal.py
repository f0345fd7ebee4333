"""Why a version was refused: what fell most against the champion, with its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.errors import safe_repr
from tasks.evaluation.falls import NOTHING_FELL, Fall, find_falls
from tasks.evaluation.labelled_images import EvaluationSet, measure_images, read_val_split
from tasks.evaluation.page import Refusal, evaluation_page
from tasks.evaluation.robustness import Robustness
from tasks.evaluation.version_evaluation import VersionEvaluation, evaluate_version
from tasks.merge.steps import MergedDataset
from tasks.orchestration.current_run import flow_run_id, log_step, run_logger
from tasks.parameters import EvaluationParams, TrainingParams
from tasks.promotion.rules import GOLD, VALIDATION, Decision
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracked_training.contenders import Contender
from tasks.tracking import runs
from tasks.tracking.version_pages import VersionPage, keep_page

WORST_IMAGES = 20
PAGE = "refusal.html"


def explain_refusal(
    decision: Decision,
    challenger: Contender,
    champion: Contender,
    robustness: Mapping[Contender, Robustness],
    dataset: MergedDataset,
    training: TrainingParams,
) -> Decision:
    """Return a refusal by scores with what fell most and the address of its page; never raises.

    The verdict stays as it is. Both versions predict in the images on which the new one was worse: Ultralytics has
    measured them without keeping what was found. A retried run goes on after what was predicted.
    """
    if decision.promoted or not decision.means:
        return decision
    log_step("looking for what fell most against the champion")
    try:
        data = _compared_images(decision, dataset)
        both = [_evaluate(each, data, robustness, training) for each in (challenger, champion)]
        falls = find_falls(data.class_names, *both)
        page = _publish(decision, challenger, data, both, falls)
    except Exception as error:  # noqa: BLE001 - a version is not worth less because its pictures cannot be drawn
        run_logger().warning("what fell most could not be found", exc_info=True)
        told = safe_repr(str(error), 300)
        return replace(decision, falls=(f"What fell most against the champion could not be found: {told}.",))
    return replace(decision, falls=tuple(each.sentence for each in falls) or (NOTHING_FELL,), falls_page=page)


def _compared_images(decision: Decision, dataset: MergedDataset) -> EvaluationSet:
    paths = {VALIDATION: dataset.data, GOLD: dataset.gold}
    chosen = [path for kind in decision.worse_on or (VALIDATION,) if (path := paths[kind])]
    sets = [read_val_split(path, dataset.task, dataset.class_names) for path in chosen]
    return measure_images(replace(sets[0], images=tuple(image for each in sets for image in each.images)))


def _evaluate(
    contender: Contender, data: EvaluationSet, robustness: Mapping[Contender, Robustness], training: TrainingParams
) -> VersionEvaluation:
    version = contender.version
    found = contender.predict(data, "predictions", training)
    params = EvaluationParams(seed=training.seed)
    measured = evaluate_version(version.version, version.task, version.class_names, data, found, params)
    return replace(measured, robustness=robustness.get(contender))


def _publish(
    decision: Decision,
    challenger: Contender,
    data: EvaluationSet,
    both: Sequence[VersionEvaluation],
    falls: Sequence[Fall],
) -> str:
    version = challenger.version
    refusal = Refusal(reasons=decision.reasons, falls=falls)
    html = evaluation_page(version.name, data, both, (), WORST_IMAGES, refusal)
    runs.log_page(version.run_id, html, PAGE)
    run = flow_run_id()
    address = storage_steps.write_text(html, Bucket.RUNS, f"{run}/{PAGE}")
    keep_page(version, VersionPage(name=PAGE, run=run, archives={}, split="val"))
    return address
