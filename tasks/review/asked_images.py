"""The images that people were asked about in the loops of a model, and the archives of what they have answered.

An image is known by the CRC-32 and the size of its file. `reviewed-images/<archive>.json` in bucket `runs` has those of
a round, by the key of the archive that is made of its answers; the archives of loops lie in `loops/<model>/`.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from tasks.merge.training_images import Checksum
from tasks.orchestration.step import retried_step
from tasks.review.answers import Answers
from tasks.review.rounds import Round
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, TRANSFERS

LOOPS = "loops/"
REVIEWED = "reviewed.zip"  # the end of the key of an archive of answers, behind the run and a dash
_FOLDER = "reviewed-images/"
_DATASETS, _RUNS = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE), ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


@dataclass(frozen=True, kw_only=True)
class _AskedImages:
    """Images of a round: those that somebody has submitted, and those that somebody has skipped or set aside."""

    submitted: tuple[Checksum, ...]
    skipped: tuple[Checksum, ...]


_ASKED = TypeAdapter(_AskedImages)


@retried_step
def keep_asked_images(archive: str, review: Round, answers: Answers) -> None:
    """Keep which images of a round have an answer, by the key of its archive, in place of what was before.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    asked = _AskedImages(
        submitted=tuple(_checksums(review, answers.submitted)),
        skipped=tuple(_checksums(review, [*answers.skipped_entries, *answers.set_aside_entries])),
    )
    _RUNS.put(f"{_FOLDER}{archive}.json", _ASKED.dump_json(asked), "application/json")


@retried_step
def find_asked_images(model_name: str) -> frozenset[Checksum]:
    """Return the images that people need not be asked about again in a loop of a model.

    What was submitted counts as long as its archive is there: the next loop trains on it.

    Raises:
        StorageError: The object store does not answer.
    """
    there = set(list_reviewed_archives.fn(model_name))
    prefix = f"{_FOLDER}{loop_folder(model_name)}"
    keys = [key for key in _RUNS.keys(prefix) if key.endswith(".json")]
    with ThreadPoolExecutor(TRANSFERS) as pool:
        stored = [*pool.map(_RUNS.get, keys)]
    found: set[Checksum] = set()
    for key, data in zip(keys, stored, strict=True):
        try:
            asked = _ASKED.validate_json(data or b"")
        except ValidationError:  # of somebody else, or removed a moment ago
            continue
        found.update(asked.skipped)
        if key.removeprefix(_FOLDER).removesuffix(".json") in there:
            found.update(asked.submitted)
    return frozenset(found)


@retried_step
def list_reviewed_archives(model_name: str) -> list[str]:
    """Return the keys of the archives of what people have answered in loops of a model.

    Raises:
        StorageError: The object store does not answer.
    """
    return [key for key in _DATASETS.keys(loop_folder(model_name)) if key.endswith(f"-{REVIEWED}")]


def loop_folder(model_name: str) -> str:
    """Return the folder in bucket `datasets` of the archives that the loops of a model make."""
    return f"{LOOPS}{model_name}/"


def _checksums(review: Round, entries: Iterable[str]) -> Iterator[Checksum]:
    wanted = set(entries)
    return (image.checksum for image in review.images if image.entry in wanted and image.checksum)
