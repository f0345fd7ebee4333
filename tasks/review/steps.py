"""Steps of review-images: the round is prepared, shown in the tool, and what comes back becomes an archive."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tasks.dataset.image_stats import MIN_SIDE
from tasks.dataset.yolo_archive import add_label_origins
from tasks.errors import StudioError, expected_found_fix
from tasks.importing.import_records import ImportRecord, write_import
from tasks.importing.importer import ImportSummary
from tasks.inference import publication
from tasks.inference.done_inputs import read_answered
from tasks.inference.image_lists import (
    ImageList,
    ListedImage,
    find_image_list,
    find_predictions_run,
    list_run_sources,
    write_image_list,
)
from tasks.inference.media_inputs import MediaStore
from tasks.inference.results.chunk_reader import PICTURES, PREDICTIONS
from tasks.inference.results.predicted_images import PredictedImage, read_predicted_images
from tasks.inference.usable_images import to_usable_image
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.file_type import MediaKind
from tasks.orchestration.current_run import log_step
from tasks.orchestration.step import retried_step, step
from tasks.parameters import ImportParams, ReviewParams
from tasks.review.answers import Answers, sort_answers
from tasks.review.comparison import Comparison, compare_with_archive
from tasks.review.pictures import for_browsers
from tasks.review.rounds import (
    CLOSED,
    PAGE,
    ROUND,
    Round,
    RoundImage,
    count_keypoints,
    image_key,
    name_entries,
    pack_round,
    round_key,
    unpack_round,
)
from tasks.review.suggestion_limits import suggestion_limits
from tasks.review.tools import choose_tool, tool_of
from tasks.settings import Settings
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.storage.s3_client import TRANSFERS
from tasks.tracking import registry

_SET_ASIDE = "somebody has set it aside: an object is missing"
_CHANGED = "an image that has changed since it was predicted"
_UNREAD = "an image that cannot be read"
_UNUSABLE = f"an image that no archive can hold, such as one with a side of fewer than {MIN_SIDE} pixels"
_RUNS = ObjectStore(Bucket.RUNS)
_PREDICTIONS = ObjectStore(Bucket.PREDICTIONS)


class NothingToReviewError(StudioError):
    """A round without an image, or without an answer."""


@retried_step
def open_round(run: str) -> Round | None:
    """Return the round that this flow run has prepared; None if it has not.

    Raises:
        StorageError: The object store does not answer.
    """
    stored = _RUNS.get(round_key(run, ROUND))
    return unpack_round(stored) if stored else None


@retried_step
def require_listed_images(run: str) -> None:
    """Check that a flow run whose images are asked about has not listed none.

    Raises:
        NothingToReviewError: It has.
        StorageError: The list is damaged, or the object store does not answer.
    """
    image_list = find_image_list(run)
    if image_list is not None and not image_list.images:
        raise NothingToReviewError(expected_found_fix(f"images in the list of run {run}", "none", "Name others."))


@retried_step
def find_predictions(run: str, model_name: str, confidence: float) -> str | None:
    """Return the run of inference that has answered the images of flow run `run` with the champion; None if none has.

    Nor has one that has kept less than what is suggested from `confidence` on, unless a person has named that very run.
    Of a model that has no champion any version will do: nothing could predict anew.

    Raises:
        StudioError: A service does not answer, or there is no such model.
    """
    found = find_predictions_run(run)
    if found is None or not publication.is_published(found):
        return None
    summary = publication.read_summary(found)
    if summary.model_name != model_name:
        return None
    champion = registry.find_champion(model_name)
    if champion is None:
        return found
    if summary.model_versions != [champion.version]:
        return None
    limits = suggestion_limits(publication.find_parameters(found), champion.class_names, confidence)
    return None if limits and found != run else found


@retried_step
def prepare_round(
    run: str, model_name: str, predictions_run: str, listed: str, review: ReviewParams, folder: Path
) -> Round:
    """Keep the images that flow run `listed` stands for, with what `predictions_run` has found in them.

    Args:
        run: The run of the review.
        model_name: The registered model.
        predictions_run: The run of inference.
        listed: The run whose images are asked about, in its order: the same one, or one with a list of images.
        review: Which suggestions are shown, and of how many images.
        folder: For the predictions.

    Raises:
        NothingToReviewError: No image is left, or nothing tells of a model for poses how many keypoints they have.
        CvatTaskError: The model cannot be reviewed in CVAT.
        StudioError: A service refuses or does not answer.
    """
    for name in (PREDICTIONS, PICTURES):
        _PREDICTIONS.download(f"{predictions_run}/{name}", folder / name)
    version = registry.find_version(model_name, publication.read_summary(predictions_run).model_version or 0)
    tool = choose_tool(review.tool, version.task, Settings())
    chosen, left_out = _choose_images(listed, predictions_run, review.max_images)
    predicted = {image.source: image for image in read_predicted_images(folder) if image.source in chosen}
    images, faults = _copy_images(run, chosen, predicted, _list_reasons(listed), review.confidence)
    left_out.update(faults)
    if not images:
        counted = ", ".join(f"{count:,} times {reason}" for reason, count in left_out.items())
        raise NothingToReviewError(expected_found_fix("images to review", f"none: {counted}", "Name others."))
    keypoints = count_keypoints(predicted[image.source].rows for image in images)
    if version.task == "pose" and not keypoints:
        fix = "Name images in which it finds some: they tell how many keypoints an object has."
        raise NothingToReviewError(expected_found_fix("a pose that the model has found", "none", fix))
    made = Round(
        model_name=model_name,
        model_version=version.version,
        task=version.task,
        class_names=version.class_names,
        keypoints=keypoints,
        predictions_run=predictions_run,
        images=tuple(images),
        tool=tool,
        left_out=dict(left_out),
        limits=suggestion_limits(publication.find_parameters(predictions_run), version.class_names, review.confidence),
        parameters=review.model_dump(mode="json", exclude_defaults=True, exclude={"tool"}),
    )
    for limit in made.limits:
        log_step("%s", limit)
    _RUNS.put(round_key(run, ROUND), pack_round(made), "application/json")
    return made


def _choose_images(listed: str, predictions_run: str, most: int) -> tuple[dict[str, MediaSource], Counter[str]]:
    """Return the images to ask about by their names, and how many of what is listed are not, by reason."""
    etags = {source.name: source.etag for source in read_answered(predictions_run) or ()}
    left_out: Counter[str] = Counter()
    chosen: dict[str, MediaSource] = {}
    for source in list_run_sources(listed):
        if source.kind is not MediaKind.IMAGE or source.name not in etags:
            left_out["a video" if source.kind is MediaKind.VIDEO else "an image without a prediction"] += 1
        elif source.etag != etags[source.name]:
            left_out[_CHANGED] += 1
        elif len(chosen) == most:
            left_out["an image beyond review.max_images"] += 1
        else:
            chosen[source.name] = source
    return chosen, left_out


def _list_reasons(listed: str) -> Mapping[str, str]:
    """Return why a flow run has listed images, by their names; nothing if it has listed none."""
    image_list = find_image_list(listed)
    return {image.source.name: image.reason for image in image_list.images} if image_list else {}


def _copy_images(
    run: str,
    chosen: Mapping[str, MediaSource],
    predicted: Mapping[str, PredictedImage],
    reasons: Mapping[str, str],
    confidence: float,
) -> tuple[list[RoundImage], list[str]]:
    """Return the images that lie beside the round now, with what is suggested in each, and the faults of the others."""
    with ThreadPoolExecutor(TRANSFERS) as pool:
        copies = list(pool.map(partial(_copy, run, MediaStore()), chosen.values(), name_entries([*chosen])))
    images = []
    for name, copy in zip(chosen, copies, strict=True):
        if not isinstance(copy, str):
            found = predicted[name]
            image = RoundImage(
                entry=copy.entry,
                source=name,
                width=found.width,
                height=found.height,
                rows=tuple(dict(row) for row in found.rows if row["confidence"] >= confidence),
                checksum=copy.checksum,
                media=chosen[name],
                reason=reasons.get(name, ""),
            )
            images.append(image)
    return images, [each for each in copies if isinstance(each, str)]


class _Copy(NamedTuple):
    """An image that lies beside the round: its name there, and the CRC-32 and the size of its source."""

    entry: str
    checksum: tuple[int, int]


def _copy(run: str, media: MediaStore, source: MediaSource, name: str) -> _Copy | str:
    """Copy an image beside the round, as an archive can hold it; return what is wrong if none can.

    The source may go meanwhile. `name` has no ending yet: that of the source may be of another format.
    """
    try:
        data = media.read(source)
    except ObjectChangedError:
        return _CHANGED
    except MediaError:
        return _UNREAD
    try:
        image = to_usable_image(data, source.name)
    except MediaError:
        return _UNUSABLE
    entry = f"{name}{image.ending}"
    _RUNS.put(image_key(run, entry), image.data)
    return _Copy(entry, image.checksum)


@retried_step
def show_round(run: str, description: str, review: Round, folder: Path) -> str:
    """Have the tool show the images that it does not show yet; return the address for people.

    Raises:
        ClassNameError: The tool cannot show a class.
        StudioError: The tool or the object store refuses, or does not answer.
    """

    def shown(entry: str) -> tuple[str, bytes]:
        return for_browsers(entry, _read_image(run, entry))

    page = tool_of(review.tool).show(run, description, review, shown, folder)
    _RUNS.put(round_key(run, PAGE), page.encode(), "text/plain")
    return page


@retried_step
def read_answers(run: str, review: Round) -> Answers:
    """Return what people have answered so far.

    Raises:
        StudioError: The tool refuses, does not answer, or gives what cannot be read.
    """
    tasks = tool_of(review.tool).read(run, review)
    return sort_answers([image.entry for image in review.images], {task.entry: task for task in tasks})


@contextmanager
def closed_round(run: str) -> Iterator[None]:
    """Have the front page refuse answers meanwhile: the archive that is made of the others would lack them.

    If no archive comes of it, people can correct their answers. After a process that was killed, cancelled or
    superseded here the round stays closed: another one may be at it, and opens it when that attempt has ended.

    Raises:
        StorageError: The object store does not answer.
    """
    _RUNS.put(round_key(run, CLOSED), b"")
    try:
        yield
    except Exception:
        _RUNS.delete(round_key(run, CLOSED))
        raise
    _RUNS.delete(round_key(run, CLOSED))


@retried_step
def list_set_aside(run: str, review: Round, answers: Answers) -> None:
    """Have input `run:<run>` stand for the images that were set aside, for a round in which people can draw.

    Those of which a round of an earlier release does not know where they were read are left out; the page counts them.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    listed = review.media_of(answers.set_aside_entries)
    images = tuple(ListedImage(source=media, reason=_SET_ASIDE) for media in listed)
    write_image_list(run, ImageList(images=images, predictions_run=review.predictions_run))


def answer_documents(review: Round, answers: Answers) -> dict[str, bytes]:
    """Return what people have submitted in the format of the tool: files by their names, that of the answers first."""
    return tool_of(review.tool).documents(review, answers.submitted)


@retried_step
def pack_answers(run: str, answers: Answers, documents: Mapping[str, bytes], folder: Path) -> Path:
    """Return a zip of the images that people have submitted, and of what `answer_documents` says of them.

    Another attempt writes the same bytes, so the archive that is made of them has one digest.

    Raises:
        NothingToReviewError: Nobody has submitted an image.
        StorageError: The object store does not answer.
    """
    if not answers.submitted:
        found = f"none, and {answers.still_open:,} that are open"
        fix = "Submit images in the tool, then retry this run."
        raise NothingToReviewError(expected_found_fix("that somebody submits an image", found, fix))
    source = folder / "answers.zip"
    with zipfile.ZipFile(source, "w") as written:
        for name, text in documents.items():
            written.writestr(zipfile.ZipInfo(name), text)
        for entry in answers.submitted:
            written.writestr(zipfile.ZipInfo(entry), _read_image(run, entry))
    return source


def import_params(review: Round, params: ReviewParams) -> ImportParams:
    """Return how the answers of a round become an archive."""
    chosen = params.model_dump(include={"val", "seed", "groups"})
    given = {"format": tool_of(review.tool).import_format, "task": review.task, "split": "new"}
    return ImportParams.model_validate(given | chosen)


@step
def count_changes(run: str, review: Round, answers: Answers, archive: Path, summary: ImportSummary) -> Comparison:
    """Return what people did, and add to the archive which labels are the model's."""
    compared = compare_with_archive(archive, review, summary.class_names, answers.seconds, run)
    add_label_origins(archive, compared.origins)
    return compared


@retried_step
def record_review(run: str, review: Round, digest: str, given: str, summary: ImportSummary) -> None:
    """Keep what the archive was made from; the digests are SHA-256 in hex, of the archive and of the answers.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    write_import(
        ImportRecord(
            digest=digest,
            source=answers_address(run, review),
            source_digest=given,
            format=summary.format,
            changes=dict(summary.changes),
            flow_run_id=run,
        )
    )


@retried_step
def keep_answers(run: str, review: Round, documents: Mapping[str, bytes]) -> None:
    """Keep what people have submitted, as `answer_documents` has it, beside the round, which is over with that.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    _RUNS.put(round_key(run, tool_of(review.tool).answers_name), next(iter(documents.values())))


def answers_address(run: str, review: Round) -> str:
    """Return where the answers of a round are kept, as the tool gave them."""
    return f"s3://{Bucket.RUNS}/{round_key(run, tool_of(review.tool).answers_name)}"


def _read_image(run: str, entry: str) -> bytes:
    data = _RUNS.get(image_key(run, entry))
    if data is None:
        fix = "Start a new round: clean-up removes the images of those that have ended."
        raise NothingToReviewError(expected_found_fix(f"image {entry} of this round", "none", fix))
    return data
