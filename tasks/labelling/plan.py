"""What holds for a whole run of label-images: its version, and from which confidence labels are taken."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from tasks.evaluation.labelled_images import ALL_SPLITS
from tasks.evaluation.validation_matching import ValidationSource
from tasks.labelling.likeness import mean_confidences
from tasks.labelling.thresholds import Expectation, LabelThreshold, compute_thresholds, expect, override_thresholds
from tasks.orchestration.current_run import flow_run_id
from tasks.parameters import LabellingParams
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.tracked_evaluation.subjects import Subject, fetch_images, find_subjects
from tasks.tracked_evaluation.validation import find_validation, join_as_trained, match_images, measure_validation

_VALIDATION, _COMPARED = "validation", "compared"  # folders
_RUNS = ObjectStore(Bucket.RUNS)


@dataclass(frozen=True, kw_only=True)
class LabellingPlan:
    """The version by its number, and the thresholds of its classes.

    `expected` is what they give on its `validation` images, in which its mean `confidences` are these, and `measured`
    what they give on the archive `labelling.compare`; None if none is named.
    """

    version: int
    thresholds: tuple[LabelThreshold, ...]
    validation: ValidationSource
    expected: Expectation
    measured: Expectation | None
    confidences: tuple[float, ...] = ()


_PLANS = TypeAdapter(LabellingPlan)


def open_or_plan(model_name: str, labelling: LabellingParams, folder: Path) -> tuple[Subject, LabellingPlan]:
    """Return the version and the plan of this run: tried again, it keeps both, whatever is deployed meanwhile.

    Raises:
        StudioError: There is no such version, no validation data of it, or a person's thresholds cannot be.
    """
    key = f"{flow_run_id()}/labelling.json"
    if stored := _RUNS.get(key):
        plan = _PLANS.validate_json(stored)
        return find_subjects(model_name, [plan.version])[0], plan
    (subject,) = find_subjects(model_name, [labelling.version] if labelling.version else None)
    for name in (_VALIDATION, _COMPARED):
        (folder / name).mkdir()
    matching = find_validation(subject.version) or measure_validation(subject, labelling.device, folder / _VALIDATION)
    computed = compute_thresholds(matching, labelling.precision, labelling.recall)
    names = subject.version.class_names
    thresholds = override_thresholds(computed, names, labelling.take_from, labelling.drop_below)
    measured = _measure(subject, labelling, thresholds, folder / _COMPARED) if labelling.compare else None
    plan = LabellingPlan(
        version=subject.version.version,
        thresholds=tuple(thresholds),
        validation=matching.source,
        expected=expect(matching, thresholds),
        measured=measured,
        confidences=mean_confidences(matching),
    )
    _RUNS.put(key, _PLANS.dump_json(plan))
    return subject, plan


def _measure(
    subject: Subject, labelling: LabellingParams, thresholds: list[LabelThreshold], folder: Path
) -> Expectation:
    data = join_as_trained(subject.version, [fetch_images([str(labelling.compare)], ALL_SPLITS, {}, folder)])
    return expect(match_images(subject, data, labelling.device, folder), thresholds)
