"""What a version makes of the images to choose from, and of a sample of those that it has learnt."""

import hashlib
import itertools
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from tasks.errors import StudioError, expected_found_fix
from tasks.evaluation.prediction_file import read_embeddings
from tasks.evaluation.steps import predict_images, prediction_job
from tasks.files import sha256_of
from tasks.inference.media_inputs import list_media_sources
from tasks.inference.results.summary import ERROR, Failure
from tasks.inference.usable_images import IMAGES_ON_DISK
from tasks.inference.work_plan import MediaSource
from tasks.merge.training_images import Checksum, TrainingImages
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.parameters import SelectionParams
from tasks.selection.known_sample import KnownSample, find_sample, keep_sample, sample_key
from tasks.selection.learnt_images import draw_sample, list_learnt_sources
from tasks.selection.pool import LearntImages, Pool, PoolImage, align_classes, count_expected, keep_counted
from tasks.selection.steps import FetchedImage, fetch_images
from tasks.selection.uncertainty import measure_consistency, measure_doubt
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats
from tasks.vision.views import View

FOLDER = "selection"  # in bucket `runs`, below the id of the flow run
_NEED_LEARNT = {"diversity", "rare-classes", "drift"}


class NothingToChooseError(StudioError):
    """Each image is one that the version knows, about which people were asked, or that cannot be read.

    `failures` say of each of the last kind why.
    """

    def __init__(self, message: str, failures: Sequence[Failure] = ()) -> None:
        super().__init__(message)
        self.failures = failures


class Version(Protocol):
    """A version that looks at images, as the registry describes it; `image_size` is in pixels."""

    @property
    def name(self) -> str:
        """The name of its model."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def task(self) -> str:
        """The task of its model."""

    @property
    def image_size(self) -> int:
        """The longest side that it takes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Its classes by number."""


@dataclass(frozen=True, kw_only=True)
class Observer:
    """A version and its weights."""

    version: Version
    weights: Path


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """The images that a version has learnt, whether these are all, and the names of the archives that they came in.

    `asked` are images that people were asked about, which the next version learns.
    """

    images: TrainingImages
    is_complete: bool
    archives: Collection[str]
    asked: frozenset[Checksum] = frozenset()


@dataclass(frozen=True, eq=False, kw_only=True)
class LookedAt:
    """The pool to choose from, and what is not in it.

    `failures` cannot be labelled; `learnt` images are known to the version from its training, people were asked about
    the `asked` ones in a loop, and `repeated` ones are the same file as another. `knows_learnt` is False if it may have
    learnt others, too.
    """

    pool: Pool
    failures: tuple[Failure, ...]
    learnt: int
    asked: int
    repeated: int
    knows_learnt: bool

    @property
    def failed(self) -> int:
        """How many images failed; notes about zips do not count."""
        return sum(each.severity == ERROR for each in self.failures)

    @property
    def left_out(self) -> list[tuple[str, int]]:
        """What kinds of images are not in the pool, and how many of each."""
        counts = [
            ("the same file as another", self.repeated),
            ("learnt already", self.learnt),
            ("asked about in a loop", self.asked),
            ("failed", self.failed),
        ]
        return [(what, count) for what, count in counts if count]


@dataclass(kw_only=True)
class _LeftOut:
    failures: list[Failure] = field(default_factory=list)
    learnt: int = 0
    asked: int = 0
    repeated: int = 0


class _Seen(NamedTuple):
    """What a version makes of an image: a finding for each view, and its embedding."""

    views: list[Detections]
    embedding: Floats


def look_at_images(
    inputs: Sequence[str],
    observer: Observer,
    rival: Observer | None,
    learnt: Learnt,
    selection: SelectionParams,
    folder: Path,
) -> LookedAt:
    """Have a version look at all images that `inputs` name, but for those that it has learnt, and at some of these.

    Those that people were asked about are left out, too.

    With a `rival` it is known how far the two agree. What is seen is kept in bucket `runs`, so a run that is tried
    again goes on after it.

    Raises:
        NothingToChooseError: All images are learnt, people were asked about them, or they cannot be read.
        StudioError: An input matches nothing, or a version cannot predict.
    """
    log_step("looking for images")
    sources = sorted(list_media_sources(inputs), key=lambda source: source.name)
    views = tuple(View) if "uncertainty" in selection.wanted else (View.PLAIN,)
    names = observer.version.class_names
    left_out = _LeftOut()
    looked_at: list[PoolImage] = []
    for images in _fetch_new(sources, learnt, left_out, folder / "images"):
        seen = _observe(images, observer, views, selection.device, folder)
        others: Iterator[Detections | None] = repeat(None, len(images))
        if rival:
            rivals = _observe(images, rival, (View.PLAIN,), selection.device, folder)
            others = (align_classes(each.views[0], rival.version.class_names, names) for each in rivals)
        looked_at += itertools.starmap(_pool_image, zip(images, seen, others, strict=True))
    sample = None
    if looked_at and _NEED_LEARNT & set(selection.wanted):
        sample = _look_at_learnt(observer, learnt, selection, folder)
    found = LookedAt(
        pool=Pool(images=tuple(looked_at), learnt=sample, class_names=names),
        failures=tuple(left_out.failures),
        learnt=left_out.learnt,
        asked=left_out.asked,
        repeated=left_out.repeated,
        knows_learnt=learnt.is_complete,
    )
    if not found.pool.images:
        raise NothingToChooseError(_describe_lack(found, len(sources)), found.failures)
    return found


def _describe_lack(looked_at: LookedAt, named: int) -> str:
    """Say why there is nothing to choose among some images that were named."""
    told = [f"{count:,} {what}" for what, count in looked_at.left_out]
    told += [f"the first failure: {each.reason}" for each in looked_at.failures[:1]]
    fix = "Name others, or convert them." if looked_at.failures else "Name others."
    return expected_found_fix("images to choose from", f"none among {named:,}: {', '.join(told)}", fix)


def _fetch_new(
    sources: Sequence[MediaSource], learnt: Learnt, left_out: _LeftOut, folder: Path
) -> Iterator[list[FetchedImage]]:
    """Yield the images some at a time, as files that exist until the next ones; the others are counted."""
    seen = set[Checksum]()
    for start in range(0, len(sources), IMAGES_ON_DISK):
        images, failures = fetch_images(sources[start : start + IMAGES_ON_DISK], folder)
        left_out.failures += failures
        new = []
        for image in images:
            if image.checksum in learnt.images:
                left_out.learnt += 1
            elif image.checksum in learnt.asked:
                left_out.asked += 1
            elif image.checksum in seen:
                left_out.repeated += 1
            else:
                seen.add(image.checksum)
                new.append(image)
        if new:
            yield new
        shutil.rmtree(folder)


def _look_at_learnt(
    observer: Observer, learnt: Learnt, selection: SelectionParams, folder: Path
) -> LearntImages | None:
    found = list_learnt_sources(learnt.archives, learnt.images.train)
    drawn = draw_sample(found, selection.learnt_images, selection.seed)
    if not drawn:
        return None
    version = observer.version
    key = sample_key(version.name, version.version, sha256_of(observer.weights), drawn)
    sample = find_sample(key, len(version.class_names))
    if sample is None:
        sample = _look_at_sample(observer, drawn, selection.device, folder)
        if sample is None:
            return None
        keep_sample(key, sample)
    else:
        log_step("%d images that it has learnt are known from an earlier selection", len(sample.embeddings))
    share = len(found) / len(sample.embeddings)
    return LearntImages(embeddings=sample.embeddings, class_counts=sample.class_counts * share)


def _look_at_sample(
    observer: Observer, drawn: Sequence[MediaSource], device: str | None, folder: Path
) -> KnownSample | None:
    images, _ = fetch_images(drawn, folder / "learnt")
    if not images:
        return None
    log_step("looking at %d images that it has learnt", len(images))
    seen = list(_observe(images, observer, (View.PLAIN,), device, folder))
    expected = count_expected([keep_counted(each.views[0]) for each in seen], len(observer.version.class_names))
    return KnownSample(embeddings=np.stack([each.embedding for each in seen]), class_counts=expected)


def _observe(
    images: Sequence[FetchedImage], observer: Observer, views: tuple[View, ...], device: str | None, folder: Path
) -> Iterator[_Seen]:
    """Yield what an observer makes of one image after another."""
    version = observer.version
    log_step("version %d looks at %d images", version.version, len(images))
    own = hashlib.sha256(sha256_of(observer.weights).encode())
    for image in images:
        own.update(repr(image.checksum).encode())
    content = f"version-{version.version}-{len(views)}-views-{own.hexdigest()[:16]}"
    paths = [image.path for image in images]
    job = prediction_job(paths, observer.weights, version.task, version.image_size, device, folder / content)
    job = replace(job.with_embeddings(), views=views)
    found = iter(predict_images(job, f"{flow_run_id()}/{FOLDER}/{content}/"))
    for embedding in read_embeddings(job.embeddings):
        yield _Seen(views=list(islice(found, len(views))), embedding=embedding)
    shutil.rmtree(job.folder)


def _pool_image(image: FetchedImage, seen: _Seen, other: Detections | None) -> PoolImage:
    found, *again = map(keep_counted, seen.views)
    return PoolImage(
        source=image.source,
        found=found,
        doubt=measure_doubt(found),
        view_consistency=float(np.mean([measure_consistency(found, each) for each in again])) if again else None,
        version_consistency=None if other is None else measure_consistency(found, keep_counted(other)),
        embedding=seen.embedding,
        thumbnail=image.thumbnail,
    )
