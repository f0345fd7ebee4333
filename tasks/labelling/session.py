"""The archive of a run of label-images: each image is read, checked and written once."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tasks.dataset.yolo_archive import YoloArchive
from tasks.inference.concurrency import ordered_map
from tasks.inference.media_inputs import MediaStore
from tasks.inference.results.predicted_images import PredictedImage
from tasks.inference.results.summary import Failure, to_valid_unicode
from tasks.inference.usable_images import UsableImage, read_usable_image
from tasks.labelling.labelled_archive import VIDEO, LabelledArchive, Labeller, Labelling
from tasks.labelling.plan import LabellingPlan
from tasks.labelling.predictions import READERS, PredictedInputs
from tasks.orchestration.artifacts import RunProgress
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.parameters import LabellingParams
from tasks.review.asked_images import find_asked_images
from tasks.tracked_evaluation.subjects import Subject

_SHOWN_EVERY = 100  # images
_UNPREDICTED = (
    "expected that the version has predicted it, found that it came after the run had begun, or that another version "
    "answered; label it in a new run"
)


def write_archive(
    path: Path, subject: Subject, plan: LabellingPlan, predicted: PredictedInputs, labelling: LabellingParams
) -> Labelling:
    """Write the archive of the images that are labelled to `path`, where no file is; return what became of all.

    Raises:
        StorageError: The store stays away.
    """
    log_step("labelling %d images", len(predicted.sources))
    version = subject.version
    labeller = Labeller(
        model_name=version.name,
        version=version.version,
        task=version.task,
        class_names=version.class_names,
        thresholds=plan.thresholds,
        learnt=subject.ancestry.images,
        asked=find_asked_images(version.name),
        flow_run_id=flow_run_id(),
    )
    left = dict(predicted.sources)
    progress = RunProgress("images")
    with YoloArchive(path, version.task) as zipped:
        archive = LabelledArchive(zipped, labeller, background=labelling.background)
        for done, (found, image) in enumerate(_read_images(predicted), 1):
            source = left.pop(found.source)
            if isinstance(image, Failure):
                archive.labelling.fail([image])
            else:
                archive.add(source, image, found)
            if done % _SHOWN_EVERY == 0:
                progress(done / len(predicted.sources), done)
        archive.finish(_provenance(labeller, plan, labelling))
    archive.labelling.images[VIDEO] += predicted.videos
    archive.labelling.fail(predicted.failures)
    known = {to_valid_unicode(each.source) for each in predicted.failures}
    archive.labelling.fail(Failure(source=name, reason=_UNPREDICTED) for name in left if name not in known)
    return archive.labelling


def _read_images(predicted: PredictedInputs) -> Iterator[tuple[PredictedImage, UsableImage | Failure]]:
    def read(media: MediaStore, found: PredictedImage) -> tuple[PredictedImage, UsableImage | Failure]:
        return found, read_usable_image(media, predicted.sources[found.source])

    return ordered_map(partial(read, MediaStore()), predicted.found, threads=READERS, window=2 * READERS)


def _provenance(labeller: Labeller, plan: LabellingPlan, labelling: LabellingParams) -> dict[str, object]:
    return {
        "labelled_by": {
            "model": labeller.model_name,
            "version": labeller.version,
            "flow_run_id": labeller.flow_run_id,
        },
        "thresholds": {
            name: {"take_from": each.high, "drop_below": each.low if each.drops else None}
            for name, each in zip(labeller.class_names, plan.thresholds, strict=True)
        },
        "expected": asdict(plan.expected.overall) | {"share_of_images": plan.expected.share},
        "validation": asdict(plan.validation),
        "labelling": labelling.model_dump(mode="json"),
    }
