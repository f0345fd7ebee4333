"""Lists of images that a run leaves for later ones, which name it by the input `run:<flow run id>`.

A list is `image-lists/<flow run id>.jsonl` in bucket `runs`: a head, then a line an image. clean-up removes it in time.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from tasks.errors import safe_repr
from tasks.inference.done_inputs import read_answered
from tasks.inference.results.summary import to_valid_unicode
from tasks.inference.work_plan import MediaSource
from tasks.orchestration.unfinished_runs import FLOW_RUN_ID
from tasks.storage.object_names import CLOSED, Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError

MAX_BYTES = 1 << 29
LISTS = "image-lists"
OF_REVIEW = "of-a-review"  # the tag of a run of inference that a review has started
_PREFIX = "run:"
_RUNS = ObjectStore(Bucket.RUNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """An image, and why it is listed."""

    source: MediaSource
    reason: str


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """What a run hands on; `predictions_run` is the run of inference that has answered these images, if one has."""

    images: tuple[ListedImage, ...]
    predictions_run: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Head:
    images: int
    predictions_run: str | None


_HEAD = TypeAdapter(_Head)
_IMAGE = TypeAdapter(ListedImage)


def write_image_list(run: str, image_list: ImageList) -> None:
    """Keep the list of flow run `run`, whole or not at all, over one that it has written before."""
    head = _Head(images=len(image_list.images), predictions_run=image_list.predictions_run)
    lines = [_HEAD.dump_json(head), *(_IMAGE.dump_json(_storable(image)) for image in image_list.images)]
    _RUNS.put(_key(run), b"\n".join(lines), "application/jsonl")


def run_input(run: str) -> str:
    """Return the input that names a flow run."""
    return f"{_PREFIX}{run}"


def named_run(text: str) -> str | None:
    """Return the flow run that an input names by `run:<flow run id>`; None for an input of another kind.

    Raises:
        StorageError: What follows `run:` is no id of a flow run.
    """
    if not text.startswith(_PREFIX):
        return None
    run = text.removeprefix(_PREFIX)
    if not FLOW_RUN_ID.fullmatch(run):
        raise StorageError(
            f"Expected the id of a flow run after {_PREFIX}, found {safe_repr(run)}. Copy it from the page of the run, "
            f"or write s3://{Bucket.MEDIA}/... for a file whose name begins so."
        )
    return run


def find_predictions_run(run: str) -> str | None:
    """Return the run of inference that has answered the images of flow run `run`: itself, or the one of its list.

    Raises:
        StorageError: The list is damaged.
    """
    listed = find_image_list(run)
    return run if listed is None else listed.predictions_run


def are_chosen(inputs: Iterable[str], tags: Collection[str]) -> bool:
    """Whether the images of a run with these tags were chosen for people to correct: by a review, or by a list.

    If so, they say little of the images that a model gets to see.

    Raises:
        StorageError: The object store does not answer.
    """
    return OF_REVIEW in tags or any(_RUNS.exists(_key(run)) for run in map(named_run, inputs) if run)


def list_run_sources(run: str) -> Iterable[MediaSource]:
    """Return the images of the list of flow run `run`; without a list, what it has answered as a run of inference.

    Each has the ETag of that time, so an image that changed since cannot be taken for the one that was meant.

    Raises:
        StorageError: The run has left neither.
    """
    listed = find_image_list(run)
    sources = read_answered(run) if listed is None else [image.source for image in listed.images]
    if sources is None:
        raise StorageError(
            f"Expected images of flow run {run}, found neither a list of images nor predictions. Name a completed "
            "run of select-images, label-images or run-inference; clean-up removes lists after cleaning.parts days."
        )
    for source in sources:
        if source.bucket in CLOSED:
            raise StorageError(f"Expected images that a run may read, found bucket {source.bucket} in flow run {run}.")
    return sources


def find_image_list(run: str) -> ImageList | None:
    """Return the list that flow run `run` has left; None if it has left none.

    Raises:
        StorageError: The list is damaged.
    """
    data = _RUNS.get_start(_key(run), MAX_BYTES + 1)
    if data is None:
        return None
    try:
        return _read_lines(data)
    except ValueError as error:
        raise StorageError(
            f"Expected the list of images of flow run {run}, found a damaged one: {str(error)[:300]}. Start that run "
            "again."
        ) from error


def _read_lines(data: bytes) -> ImageList:
    """Read a list; pydantic's error is a ValueError, too."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    first, *lines = data.split(b"\n")
    head = _HEAD.validate_json(first, strict=True)
    images = tuple(_IMAGE.validate_json(line, strict=True) for line in lines)
    if head.images != len(images):
        raise ValueError(f"{len(images):,} images of {head.images:,}")
    return ImageList(images=images, predictions_run=head.predictions_run)


def _storable(image: ListedImage) -> ListedImage:
    source = replace(image.source, name=to_valid_unicode(image.source.name))
    return replace(image, source=source, reason=to_valid_unicode(image.reason))


def _key(run: str) -> str:
    return f"{LISTS}/{run}.jsonl"
