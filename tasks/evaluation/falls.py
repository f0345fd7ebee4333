"""Where a version is worse than a rival on the same images: the class, the archive and the slice that fell most."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tasks.errors import safe_repr
from tasks.evaluation.metrics import Metrics, shared_classes
from tasks.evaluation.slices import ARCHIVE, Slice
from tasks.evaluation.version_evaluation import VersionEvaluation

NOTHING_FELL = "By COCO's metrics no class, archive or slice of these images fell."
_LEAST = 0.0005  # what three digits show

Classes = frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Fall:
    """What a version does worse than its rival; `extent` says how many labels and images that are.

    `score` and `rival_score` are the main metric (0 to 1), of images the mean over the classes that both know. `images`
    are numbers of images, those first in which the version makes most mistakes that its rival does not make.
    """

    name: str
    extent: str
    score: float
    rival_score: float
    images: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """The fall in words."""
        name = f"{self.name[0].upper()}{self.name[1:]}"
        return f"{name} fell from {self.rival_score:.3f} to {self.score:.3f} ({self.extent})."


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Images with the metrics of both versions by class id."""

    slice: Slice
    own: Mapping[int, Metrics]
    other: Mapping[int, Metrics]

    def scores(self, classes: Classes) -> tuple[float, float]:
        both = classes & self.own.keys() & self.other.keys()
        if not both:
            return 0.0, 0.0
        own, other = (fmean(each[number].primary or 0.0 for number in both) for each in (self.own, self.other))
        return own, other

    def loss(self, classes: Classes) -> float:
        own, other = self.scores(classes)
        return other - own if other - own > _LEAST else 0.0

    def labels(self, classes: Classes) -> int:
        return sum(self.own[number].labels for number in classes & self.own.keys())

    def cost(self, classes: Classes) -> float:
        """Of a few labels one that is missed is a large loss, and says little."""
        return self.loss(classes) * self.labels(classes)


def find_falls(class_names: Sequence[str], version: VersionEvaluation, rival: VersionEvaluation) -> list[Fall]:
    """Return what fell most of a version against a rival on the same images: class, archive, slice and corruption.

    The class is the one with the largest loss; an archive or a slice counts by its loss times its labels. Of a kind of
    which nothing fell there is none.
    """
    shared = shared_classes([version.metrics, rival.metrics])
    others = {each.slice: each.metrics.by_class for each in rival.slices}
    parts = [
        _Part(slice=each.slice, own=each.metrics.by_class, other=others[each.slice])
        for each in version.slices
        if each.slice in others
    ]
    groups = [[each for each in parts if (each.slice.by == ARCHIVE) is archives] for archives in (True, False)]
    everything = Slice(by="", name="", words="", images=tuple(range(len(version.images))))
    whole = _Part(slice=everything, own=version.metrics.by_class, other=rival.metrics.by_class)
    falls = []
    weakest = max(sorted(shared), key=lambda number: whole.loss(frozenset({number})), default=None)
    if weakest is not None and whole.loss(only := frozenset({weakest})):
        places = " and ".join(part.slice.words for part in _costliest(groups, only))
        extent = _extent(whole, only, version) + (f"; most in {places}" if places else "")
        falls.append(_fall(f"class {safe_repr(class_names[weakest])}", extent, whole, only, version, rival))
    for part in _costliest(groups, shared):
        extent = _extent(part, shared, version)
        if part.slice.by != ARCHIVE:
            extent = f"{part.slice.by} {part.slice.name}; {extent}"
        falls.append(_fall(part.slice.words, extent, part, shared, version, rival))
    return [*falls, *_corruption_fall(version, rival)]


def _costliest(groups: Sequence[Sequence[_Part]], classes: Classes) -> Iterator[_Part]:
    for parts in groups:
        worst = max(parts, key=lambda each: each.cost(classes), default=None)
        if worst and worst.cost(classes):
            yield worst


def _extent(part: _Part, classes: Classes, version: VersionEvaluation) -> str:
    labels = (version.images[number].labels.class_id.tolist() for number in part.slice.images)
    images = sum(not classes.isdisjoint(each) for each in labels)
    return f"{_count(part.labels(classes), 'label')} in {_count(images, 'image')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _fall(
    name: str, extent: str, part: _Part, classes: Classes, version: VersionEvaluation, rival: VersionEvaluation
) -> Fall:
    own, other = part.scores(classes)
    more = _mistakes(version, classes)
    more.subtract(_mistakes(rival, classes))
    worse = sorted((number for number in part.slice.images if more[number] > 0), key=lambda number: -more[number])
    return Fall(name=name, extent=extent, score=own, rival_score=other, images=tuple(worse))


def _mistakes(evaluation: VersionEvaluation, classes: Classes) -> Counter[int]:
    """How many wrong objects each image has that are, or were taken for, one of the classes."""
    cells = evaluation.confusion.cells.items()
    return Counter(
        image
        for (true, found), images in cells
        if true != found and not classes.isdisjoint((true, found))
        for image in images
    )


def _corruption_fall(version: VersionEvaluation, rival: VersionEvaluation) -> Iterator[Fall]:
    if version.robustness is None or rival.robustness is None:
        return
    own, other = (
        {corruption: scores.overall.primary or 0.0 for corruption, scores in each.corrupted.items()}
        for each in (version.robustness, rival.robustness)
    )
    worst = max(own, key=lambda each: other[each] - own[each])
    if other[worst] - own[worst] > _LEAST:
        name = f"images with {worst.name.replace('_', ' ')} of strength {worst.strength} of 5"
        extent = _count(version.robustness.images, "image")
        yield Fall(name=name, extent=extent, score=own[worst], rival_score=other[worst])
