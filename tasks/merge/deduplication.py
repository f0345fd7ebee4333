"""Which images of the archives stay: none is in two splits, and none that is trained on is in the gold archive."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tasks.dataset.image_stats import ImageStats
from tasks.merge.inputs import MergeInput, Splits
from tasks.merge.label_union import ImageCopy, LabelUnion, unite
from tasks.merge.split_leakage import GOLD, ExcludedImage, group_linked_images, resolve_leaks
from tasks.validation.duplicates import DuplicatePair, find_duplicates


class DeduplicatedSplits(NamedTuple):
    """The samples that stay of each archive, what is left out, how many images are in one split once more.

    `united` are the pictures that several archives have; with `unites` one copy stays, for all.
    """

    splits: tuple[Splits, ...]
    left_out: tuple[ExcludedImage, ...]
    repeated: int
    united: tuple[LabelUnion, ...] = ()


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
    pool = _Pool(sources, samples, gold)
    twins = pool.twins(("train", "val", "test"))
    # Each image has one twin at most, so those of the gold archive are searched by themselves.
    leaks = [twin for twin in pool.twins((GOLD, "train")) if twin.leak] if gold else []
    links = [
        (twin.later, twin.first, "the same image" if twin.exact else "nearly the same image")
        for twin in [*leaks, *twins]
    ]
    left_out = resolve_leaks(pool.split_of, [*links, *group_linked_images(pool.paths, patterns)])
    gone = {each.image for each in left_out}
    united = tuple(pool.united(twins, gone))
    if unites:
        gone |= {pool.key(copy) for each in united for copy in each.copies if copy != each.written}
    repeated = sum(twin.exact and gone.isdisjoint((twin.later, twin.first)) for twin in twins)
    return DeduplicatedSplits(tuple(pool.staying(gone)), tuple(map(pool.with_archive, left_out)), repeated, united)


class _Pool:
    """The images of all archives under keys: the archive's place and the entry's name. The gold archive has place 0.

    As the first by key, a gold image is what each of its twins is compared with.
    """

    def __init__(
        self, sources: Sequence[MergeInput], samples: Sequence[Splits], gold: tuple[MergeInput, Splits] | None
    ) -> None:
        self._samples = samples
        self._sources = dict(enumerate(sources, 1)) | ({0: gold[0]} if gold else {})
        self.split_of: dict[str, str] = {}
        self.paths: dict[str, str] = {}
        self._copies: dict[str, ImageCopy] = {}
        self._images: dict[str, ImageStats] = {}
        self._entries: dict[str, tuple[int, int]] = {}
        for place, own in [*enumerate(samples, 1), *([(0, gold[1])] if gold else [])]:
            self._add(place, own)

    def _add(self, place: int, own: Splits) -> None:
        source = self._sources[place]
        for split, samples in own.items():
            for sample in samples:
                name = sample.image
                key = f"{place}/{name}"
                self._copies[key] = ImageCopy(place - 1, name, sample.label)
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

    def united(self, twins: Iterable[DuplicatePair], gone: set[str]) -> Iterator[LabelUnion]:
        """Yield the pictures that several archives have; turned by its tag, a picture is another one to a label."""
        turned = {key: traits.orientation for key, traits in self._images.items()}
        same = ((twin.first, twin.later) for twin in twins if twin.exact and turned[twin.first] == turned[twin.later])
        return unite(same, self._copies, self._copies.keys() - gone)

    @staticmethod
    def key(copy: ImageCopy) -> str:
        """Return the key of a copy."""
        return f"{copy.archive + 1}/{copy.image}"

    def staying(self, gone: set[str]) -> Iterator[Splits]:
        """Yield the samples of each source without those that are gone."""
        for place, own in enumerate(self._samples, 1):
            yield {
                split: tuple(sample for sample in samples if f"{place}/{sample.image}" not in gone)
                for split, samples in own.items()
            }

    def with_archive(self, left_out: ExcludedImage) -> ExcludedImage:
        """Return it with images as `ARCHIVE/ENTRY`."""
        return left_out._replace(image=self._named(left_out.image), kept=self._named(left_out.kept))

    def _named(self, key: str) -> str:
        return f"{self._source(key).archive}/{self.paths[key]}"

    def _read(self, key: str) -> bytes:
        return self._source(key).read(self.paths[key])

    def _source(self, key: str) -> MergeInput:
        return self._sources[int(key.partition("/")[0])]
