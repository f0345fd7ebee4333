"""Which image belongs to which split, label and class: an archive's layout, from data.yaml or from its folders.

Labels lie beside their image (`x/a.jpg`, `x/a.txt`) or in the folder that mirrors it, with the last `images` in its
path replaced by `labels`. That covers `images/x + labels/x`, `x/images + x/labels` (Roboflow) and flat folders. A split
may be a folder (taken with all folders below it), a `.txt` list of images, or several of these.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.data_yaml import SPLIT_KEYS, DataYaml, find_data_yaml_candidates, read_data_yaml, resolve_split_path
from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.findings import Finding, error, info, warning
from tasks.dataset.image_stats import is_image, is_unsupported_image
from tasks.dataset.label_origins import LabelOrigins, read_label_origins
from tasks.dataset.labels import LabelSpec
from tasks.errors import safe_repr
from tasks.finding_codes import Code

MAX_LIST_BYTES = 32 * 2**20
_MAX_PARTS = 20  # of a path of another machine that are looked for
_SPLIT_OF_FOLDER = {key: split for split, keys in SPLIT_KEYS.items() for key in keys}


@dataclass(frozen=True)
class LabelledImage:
    """One image of a split and its label file, as entry names; a label of None means background (or classify)."""

    image: str
    label: str | None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The layout of an archive. All names are entries that `Archive.read` takes.

    `splits` maps train, val and test, as far as there are any, to their samples in the order of names or of the list.
    For classify the class of a sample is the folder of its image. `task` is None if only labels show it (detect or
    segment). `keypoints` (as `kpt_shape`) and `flip_idx` are data.yaml's. `labels` pairs every image of the archive, in
    a split or not, with its label entry; `lists` are the entries that list the images of a split, and `unlocated` the
    names in the lists of a split that mean no entry from where they stand. `origins` are those of its labels.
    """

    class_names: tuple[str, ...] = ()
    splits: Mapping[str, tuple[LabelledImage, ...]] = field(default_factory=dict)
    task: str | None = None
    keypoints: tuple[int, int] | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    lists: frozenset[str] = frozenset()
    unlocated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flip_idx: tuple[int, ...] | None = None
    origins: LabelOrigins = field(default_factory=LabelOrigins)

    @property
    def required_splits(self) -> tuple[str, ...]:
        """The splits that the archive must have: one that is made with a model's help is measured on elsewhere."""
        images = {sample.image for samples in self.splits.values() for sample in samples}
        return ("train",) if images and images <= self.origins.images else ("train", "val")

    @property
    def rules(self) -> LabelSpec:
        """What `parse_labels` has to know."""
        return LabelSpec(
            class_count=len(self.class_names) or None,
            task=self.task,
            keypoints=self.keypoints,
            outlines_as_boxes=self.task == "detect",
        )


def class_folder(image: str) -> str:
    """Return the class of an image of a classification tree: the name of its folder."""
    return parent_folder(image).rpartition("/")[2]


def read_layout(archive: Archive, *, by_ends: bool = False) -> tuple[Dataset, list[Finding]]:
    """Return the layout and all faults of data.yaml and of the splits; never raises for what the archive holds.

    Paths of another machine are faults; with `by_ends` each means what the archive has at its end, if anything.
    With no usable data.yaml and no classification tree the dataset has no splits, but still its images and labels.
    """
    labels = _pair(archive)
    origins, faults = read_label_origins(archive)
    candidates = find_data_yaml_candidates(archive)
    if not candidates:
        tree = _classification_tree(labels)
        if tree is not None:
            tree = replace(tree, origins=origins)
            return tree, [*faults, *_missing(tree)]
    description, problems = read_data_yaml(archive, candidates)
    faults += problems
    if description is None:
        return Dataset(labels=labels, origins=origins), faults
    lists: set[str] = set()
    splits, unlocated = {}, {}
    ends = _own_ends(description, archive)
    for split in description.splits:
        images, problems, used = _images_of_split(split, description, archive, labels, ends, by_ends=by_ends)
        splits[split] = tuple(LabelledImage(image, labels[image]) for image in images)
        faults += problems
        lists |= used.keys()
        unlocated[split] = tuple(name for names in used.values() for name in names)
    dataset = Dataset(
        class_names=description.class_names,
        splits=splits,
        task=description.task,
        keypoints=description.keypoints,
        labels=labels,
        lists=frozenset(lists),
        unlocated=unlocated,
        flip_idx=description.flip_idx,
        origins=origins,
    )
    return dataset, faults + _missing(dataset)


def _pair(archive: Archive) -> dict[str, str | None]:
    images = sorted(filter(is_image, archive.entries))
    return {image: next(filter(archive.entries.__contains__, _label_names(image)), None) for image in images}


def _label_names(image: str) -> list[str]:
    stem = image.rpartition(".")[0]
    before, images, after = f"/{stem}".rpartition("/images/")
    mirrored = [f"{before}/labels/{after}.txt".removeprefix("/")] if images else []
    return [*mirrored, f"{stem}.txt"]


def _classification_tree(labels: Mapping[str, str | None]) -> Dataset | None:
    """Recognise train/CLASS/image; a tree in which any image has a label, or lies elsewhere in a split, is none."""
    splits: dict[str, list[LabelledImage]] = {}
    names = set()
    for image, label in labels.items():
        top, *below = image.split("/")
        split = _SPLIT_OF_FOLDER.get(top)
        if split is None:
            continue
        if label is not None or len(below) != 2 or below[0] in {"images", "labels"}:
            return None
        names.add(below[0])
        splits.setdefault(split, []).append(LabelledImage(image, None))
    if not splits:
        return None
    ordered = {split: tuple(splits[split]) for split in sorted(splits)}
    return Dataset(class_names=tuple(sorted(names)), splits=ordered, task="classify", labels=labels)


def _missing(dataset: Dataset) -> list[Finding]:
    fix = "Name a folder for it in data.yaml (or make it, in a classification tree); a tenth of the images will do."
    return [
        error(Code.SPLIT_MISSING, "the splits train and val", f"no {split}", fix)
        for split in dataset.required_splits
        if split not in dataset.splits
    ]


def _images_of_split(
    split: str,
    description: DataYaml,
    archive: Archive,
    labels: Mapping[str, str | None],
    ends: Mapping[tuple[str, str], str],
    *,
    by_ends: bool,
) -> tuple[list[str], list[Finding], dict[str, list[str]]]:
    """Return the images of a split without repetition, its faults, and its lists with the names that mean no entry.

    `ends` are those of `_own_ends`.
    """
    images: dict[str, None] = {}
    faults = []
    lists: dict[str, list[str]] = {}
    seen = set()
    names = list(labels)
    for written in description.splits[split]:
        path = _locate(written, description.folder, archive)
        own = ends.get((split, written))
        if own is not None and by_ends:
            path = _locate(own, description.folder, archive)
            told = f"It is taken as {safe_repr(own, 200)}, which this archive has."
            faults.append(info(Code.YAML_PATH, f"a path of this archive for {split}", safe_repr(written), told))
        if path is None:
            faults.append(_not_there(split, written, description, own))
        elif path in seen:
            continue
        elif path in archive.entries:
            listed, lists[path], problems = _read_list(path, description.folder, archive, labels)
            images |= dict.fromkeys(listed)
            faults += problems
        else:
            images |= dict.fromkeys(_below(path, names))
        seen.add(path)
    if description.splits[split] and not images and not faults:
        faults.append(split_empty(split, "no image", description.file))
    return list(images), faults, lists


def _below(folder: str, names: list[str]) -> list[str]:
    """Return those of the sorted names that lie in a folder or below it."""
    if not folder:
        return names
    return names[bisect_left(names, f"{folder}/") : bisect_left(names, f"{folder}0")]  # 0 comes after the slash


def split_empty(split: str, found: str, path: str | None = None, *, has_images: bool = False) -> Finding:
    """Return the finding for a split that nothing can be learnt from, or measured on."""
    fix = f"Add images with labels to it, name another folder in data.yaml{', or leave test out' * (split == 'test')}."
    fix += " Labels that lie elsewhere in the zip are found by `studio import`." * has_images
    return error(Code.SPLIT_EMPTY, f"labelled images in {split}", found, fix, path=path)


def _locate(written: str, folder: str, archive: Archive) -> str | None:
    """Return the folder or list that a split means, or None if the archive has no such thing."""
    path = _split_path(written, folder)
    if path is None:
        return None
    is_list = path in archive.entries and path.lower().endswith(".txt")
    return path if is_list or archive.has_folder(path) else None


def _split_path(written: str, folder: str) -> str | None:
    """Return the path that a split means, in the archive or not.

    Roboflow writes `train: ../train/images` and means `train/images`, because its loader runs one folder deeper: so the
    first `../` does not count.
    """
    path = resolve_split_path(folder, written)
    return path.removeprefix("../") if path is not None and written.startswith("../") else path


def _not_there(split: str, written: str, description: DataYaml, own: str | None) -> Finding:
    """Roboflow names a test folder even if the export has none, so for the optional test this is a warning."""
    path = _split_path(written, description.folder)
    harmless = split == "test" and path is not None and not path.startswith("..")
    fix = f"Write the path from data.yaml to the images, such as '{split}: images/{split}'."
    if own is not None:
        fix = f"Write {safe_repr(own, 200)}, which this archive has, in its place."
    expected = f"a folder or .txt list of this archive for {split}"
    return (warning if harmless else error)(Code.YAML_PATH, expected, safe_repr(written), fix, path=description.file)


def _own_ends(description: DataYaml, archive: Archive) -> dict[tuple[str, str], str]:
    """Return the `_own_end` of each path of another machine, by its split and itself.

    One that is, or holds, what another split means is left out: if the archive has neither `train/images` nor
    `val/images`, both paths end in `images`, which tells nothing of the splits.
    """
    folder = description.folder
    ends, paths = {}, {}
    for split, written in ((split, each) for split, several in description.splits.items() for each in several):
        path = _locate(written, folder, archive)
        if path is None and (end := _own_end(written, folder, archive)) is not None:
            ends[split, written] = end
            path = _locate(end, folder, archive)
        paths[split, written] = path
    held: dict[str, set[str]] = {split: set() for split in description.splits}
    for (split, _), path in paths.items():
        held[split].update(_with_parents(path) if path is not None else ())
    return {
        (split, written): end
        for (split, written), end in ends.items()
        if not any(paths[split, written] in held[other] for other in held if other != split)
    }


def _with_parents(path: str) -> Iterator[str]:
    """Yield a path, and each folder that it lies in, up to the archive's top."""
    yield path
    while path:
        path = parent_folder(path)
        yield path


def _own_end(written: str, folder: str, archive: Archive) -> str | None:
    """Return the end of a path of another machine by which the archive has a folder or a list; None if it has none."""
    return next((end for end in _ends(written) if _locate(end, folder, archive)), None)


def _ends(written: str) -> Iterator[str]:
    """Yield the ends of a path of another machine, the longest first: the archive may have one of them."""
    parts = written.strip().replace("\\", "/").rsplit("/", _MAX_PARTS)
    return ("/".join(parts[at:]) for at in range(1, len(parts)) if parts[at])


def _read_list(
    name: str, folder: str, archive: Archive, labels: Mapping[str, str | None]
) -> tuple[list[str], list[str], list[Finding]]:
    """Return the images that a list names, its names without an image, and one finding that counts these."""
    try:
        text = archive.read(name, MAX_LIST_BYTES).decode("utf-8-sig")
    except ArchiveError as exc:
        return [], [], [exc.finding]
    except UnicodeDecodeError:
        fix = "Save the list as UTF-8."
        return [], [], [error(Code.YAML_PATH, "a list of images in UTF-8", "other bytes", fix, path=name)]
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    folders = folder, parent_folder(name)
    resolved = [(number, line, _resolve_listed_image(line, folders, archive)) for number, line in lines]
    # An image of a format that training does not read has a finding of its own.
    images = [image for _, _, image in resolved if image is not None and image in labels]
    absent = [(number, line) for number, line, image in resolved if image is None]
    if not absent:
        return images, [], []
    number, first = absent[0]
    found = f"{len(absent)} of {len(lines)} names without an image, such as {safe_repr(first)}"
    own = next((end for end in _ends(first) if _resolve_listed_image(end, folders, archive)), "images/train/a.jpg")
    fix = f"Write paths from the archive's top, such as {safe_repr(own, 200)}, and take out the rest."
    problem = error(Code.YAML_PATH, "images of this archive in the list", found, fix, path=name, line=number)
    return images, [line for _, line in absent], [problem]


def _resolve_listed_image(line: str, folders: Iterable[str], archive: Archive) -> str | None:
    """Return the image that a line means. Darknet and CVAT write `data/` first, which is no folder of the archive."""
    for written in (line, line.removeprefix("data/")):
        for folder in folders:
            path = resolve_split_path(folder, written)
            if path and path in archive.entries and (is_image(path) or is_unsupported_image(path)):
                return path
    return None
