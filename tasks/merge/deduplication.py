"""Which images of the archives stay: none is in two splits, and none that is trained on is in the gold archive.

Images whose labels a model has made decide about none that a person has labelled. They come second, and stay unless a
person has labelled the same image, or one like it is measured on.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from tasks.dataset.image_stats import ImageStats
from tasks.merge.inputs import MergeInput, Splits
from tasks.merge.label_union import ImageCopy, LabelUnion, unite
from tasks.merge.pseudo_labels import is_pseudo_labelled
from tasks.merge.split_leakage import GOLD, ExcludedImage, group_linked_images, resolve_leaks
from tasks.validation.duplicates import DuplicatePair, find_duplicates, link_twins

_DRAWN = "drawn"  # images of train that a person has labelled, beside those that a model has
_SAME_DRAWN = "a person has labelled the same image"


class DeduplicatedSplits(NamedTuple):
    """The samples that stay of each archive, what is left out, how many images are in one split once more.

    `united` are the pictures that several archives have; with `unites` one copy stays, for all. `alike` are the sets of
    images that are the same, or nearly so, of which a model has labelled some and others are measured on.
    """

    splits: tuple[Splits, ...]
    left_out: tuple[ExcludedImage, ...]
    repeated: int
    united: tuple[LabelUnion, ...] = ()
    alike: tuple[tuple[ImageCopy, ...], ...] = ()


def deduplicate(
    sources: Sequence[MergeInput],
    samples: Sequence[Splits],
    patterns: Sequence[str],
    gold: tuple[MergeInput, Splits] | None,
    *,
    unites: bool = False,
) -> DeduplicatedSplits:
    """Decide about the `samples` of each source; `patterns` are groups as `group_linked_images` takes them.

    `gold` is the gold archive with its samples, all in split `gold`: these all stay. With `unites` the same picture of
    several archives becomes one.
    """
    drawn = [
        {
            split: tuple(each for each in own if split != "train" or not is_pseudo_labelled(source, each))
            for split, own in splits.items()
        }
        for source, splits in zip(sources, samples, strict=True)
    ]
    measured = [_Part(-1, *gold)] if gold else []
    first = _deduplicate_drawn([*measured, *_parts(sources, drawn)], patterns, unites=unites)
    if drawn == list(samples):
        return first
    made = [
        {"train": tuple(each for each in splits.get("train", ()) if is_pseudo_labelled(source, each))}
        for source, splits in zip(sources, samples, strict=True)
    ]
    staying = _parts(sources, first.splits)
    second = _deduplicate_pseudo_labelled([*measured, *staying], _parts(sources, made), patterns, unites=unites)
    return DeduplicatedSplits(
        tuple(map(_join, samples, first.splits, second.splits)),
        first.left_out + second.left_out,
        first.repeated + second.repeated,
        first.united + second.united,
        second.alike,
    )


class _Part(NamedTuple):
    """Samples of an archive, which is number `archive` of the plan; the gold archive is -1."""

    archive: int
    source: MergeInput
    splits: Splits


def _parts(sources: Sequence[MergeInput], samples: Sequence[Splits]) -> list[_Part]:
    return [_Part(number, *each) for number, each in enumerate(zip(sources, samples, strict=True))]


def _join(samples: Splits, one: Splits, other: Splits) -> Splits:
    """Return the samples that are in one of two, in their own order."""
    stays = {*chain.from_iterable(one.values()), *chain.from_iterable(other.values())}
    return {split: tuple(each for each in own if each in stays) for split, own in samples.items()}


def _deduplicate_drawn(parts: Sequence[_Part], patterns: Sequence[str], *, unites: bool) -> DeduplicatedSplits:
    pool = _Pool(parts)
    twins = pool.twins(("train", "val", "test"))
    # Each image has one twin at most, so those of the gold archive are searched by themselves.
    leaks = [twin for twin in pool.twins((GOLD, "train")) if twin.leak] if parts[0].archive < 0 else []
    left_out = resolve_leaks(pool.split_of, [*_links([*leaks, *twins]), *group_linked_images(pool.paths, patterns)])
    return pool.without(left_out, twins, [part for part in parts if part.archive >= 0], unites=unites)


def _deduplicate_pseudo_labelled(
    drawn: Sequence[_Part], made: Sequence[_Part], patterns: Sequence[str], *, unites: bool
) -> DeduplicatedSplits:
    """Decide about the samples that a model has labelled, beside those that a person has and that all stay."""
    beside = []
    for part in drawn:
        measured = tuple(chain.from_iterable(own for split, own in part.splits.items() if split != "train"))
        beside.append(part._replace(splits={GOLD: measured, _DRAWN: part.splits.get("train", ())}))
    pool = _Pool([*beside, *made])
    twins = pool.twins((GOLD, "train"))
    measured_on = {key: split for key, split in pool.split_of.items() if split != _DRAWN}
    groups = group_linked_images({key: pool.paths[key] for key in measured_on}, patterns)
    leaks = resolve_leaks(measured_on, [*_links(twins), *groups])
    copies = [twin for twin in pool.twins((_DRAWN, "train")) if twin.exact and twin.leak]
    gone = {each.image for each in leaks}
    again = [
        ExcludedImage(twin.later, "train", twin.first, "train", _SAME_DRAWN)
        for twin in copies
        if twin.later not in gone
    ]
    among = [twin for twin in twins if pool.split_of[twin.first] == pool.split_of[twin.later] == "train"]
    left = pool.without([*leaks, *again], among, made, unites=unites)
    split_of = {
        f"{part.source.archive}/{each.image}": split
        for part in drawn
        for split, own in part.splits.items()
        for each in own
    }
    left_out = tuple(each._replace(kept_split=split_of[each.kept]) for each in left.left_out)
    return left._replace(left_out=left_out, alike=tuple(pool.alike(twins)))


def _links(twins: Iterable[DuplicatePair]) -> Iterator[tuple[str, str, str]]:
    return ((twin.later, twin.first, "the same image" if twin.exact else "nearly the same image") for twin in twins)


class _Pool:
    """The images of all parts under keys: the part's place and the entry's name.

    The images of the first parts are the first by key, so they are what each of their twins is compared with.
    """

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self.split_of: dict[str, str] = {}
        self.paths: dict[str, str] = {}
        self._copies: dict[str, ImageCopy] = {}
        self._keys: dict[tuple[int, str], str] = {}
        self._images: dict[str, ImageStats] = {}
        self._entries: dict[str, tuple[int, int]] = {}
        for place, part in enumerate(parts):
            self._add(place, part)

    def _add(self, place: int, part: _Part) -> None:
        source = part.source
        for split, samples in part.splits.items():
            for sample in samples:
                name = sample.image
                key = f"{place:04d}/{name}"
                self._copies[key] = ImageCopy(part.archive, name, sample.label)
                self._keys[part.archive, name] = key
                self.split_of[key] = split
                self.paths[key] = name
                if name in source.images:
                    self._images[key] = source.images[name]
                    self._entries[key] = source.entries[name]

    def twins(self, splits: Sequence[str]) -> list[DuplicatePair]:
        """Return the images of these splits that are the same as an earlier one by key, or nearly so."""
        split_of = {key: [split] for key, split in self.split_of.items() if split in splits}
        images = {key: traits for key, traits in self._images.items() if key in split_of}
        return find_duplicates(images, self._entries, split_of, self._read)

    def alike(self, twins: Sequence[DuplicatePair]) -> Iterator[tuple[ImageCopy, ...]]:
        """Yield the sets of images that are the same, or nearly so, some of them in split gold and some not."""
        for keys in link_twins(twins):
            if len({self.split_of[key] == GOLD for key in keys}) > 1:
                yield tuple(self._copies[key] for key in keys)

    def without(
        self,
        left_out: Sequence[ExcludedImage],
        twins: Sequence[DuplicatePair],
        parts: Sequence[_Part],
        *,
        unites: bool,
    ) -> DeduplicatedSplits:
        """Return the samples of `parts` without those left out; of `twins` that stay, one copy if it `unites`."""
        gone = {each.image for each in left_out}
        united = tuple(self._united(twins, gone))
        if unites:
            gone |= {self._key(copy) for each in united for copy in each.copies if copy != each.written}
        repeated = sum(twin.exact and gone.isdisjoint((twin.later, twin.first)) for twin in twins)
        staying = [
            {
                split: tuple(each for each in own if self._keys[part.archive, each.image] not in gone)
                for split, own in part.splits.items()
            }
            for part in parts
        ]
        return DeduplicatedSplits(tuple(staying), tuple(map(self._with_archive, left_out)), repeated, united)

    def _united(self, twins: Iterable[DuplicatePair], gone: set[str]) -> Iterator[LabelUnion]:
        """Yield the pictures that several archives have; turned by its tag, a picture is another one to a label."""
        turned = {key: traits.orientation for key, traits in self._images.items()}
        same = ((twin.first, twin.later) for twin in twins if twin.exact and turned[twin.first] == turned[twin.later])
        return unite(same, self._copies, self._copies.keys() - gone)

    def _key(self, copy: ImageCopy) -> str:
        return self._keys[copy.archive, copy.image]

    def _with_archive(self, left_out: ExcludedImage) -> ExcludedImage:
        """Return it with images as `ARCHIVE/ENTRY`."""
        return left_out._replace(image=self._named(left_out.image), kept=self._named(left_out.kept))

    def _named(self, key: str) -> str:
        return f"{self._source(key).archive}/{self.paths[key]}"

    def _read(self, key: str) -> bytes:
        return self._source(key).read(self.paths[key])

    def _source(self, key: str) -> MergeInput:
        return self._parts[int(key.partition("/")[0])].source
