"""data.yaml -> a frozen value: class names in order, splits as written, task. What it names is looked up elsewhere."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import join, normpath
from typing import Any

import yaml

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.findings import Finding, error, info, warning
from tasks.dataset.labels import TASKS
from tasks.dataset.zip_names import normalize_unicode
from tasks.errors import safe_repr
from tasks.finding_codes import Code

MAX_YAML_BYTES = 2**20
MAX_KEYPOINTS = 1000  # of an object
# Each split under its own name first, then under the names that other tools write.
SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}

# Ten aliases cannot grow a file of 1 MiB more than some dozens of times, and nobody needs more.
_MAX_ALIASES = 10
_MAX_DEPTH = 20
_MAX_SPLIT_PATHS = 1000
_DATA_NAMES = frozenset({"data.yaml", "data.yml"})
_DATA_KEYS = frozenset({"names", "train", "val", "valid", "validation", "nc"})
_MAX_CANDIDATES = 20
# What PyYAML was seen to raise: its converters let through what Python raises on values such as `!!int x`.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)
# libyaml's parser, if PyYAML was built with it, needs a tenth of the time.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_Loader):  # type: ignore[misc]
    """PyYAML keeps the last of two equal keys and says nothing: a class or a split would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for (_, key), times in Counter(written).most_common(1):
            if times > 1:
                raise ValueError(f"the key {safe_repr(key)} {times} times")
        data: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return data


@dataclass(frozen=True, kw_only=True)
class DataYaml:
    """What data.yaml says. Its splits are relative to `folder`, `""` for the archive's root.

    `class_names` is empty if `names` cannot be used; `splits` maps train, val and test to the folders or lists as
    written (none if that is no text); `task` is None if only the labels show it; `keypoints` is `kpt_shape`, and
    `flip_idx` the keypoint that each becomes in a mirrored image.
    """

    file: str
    folder: str
    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    task: str | None
    keypoints: tuple[int, int] | None
    flip_idx: tuple[int, ...] | None = None


def find_data_yaml_candidates(archive: Archive) -> list[str]:
    """Return the entries that may be the data.yaml, the likeliest first.

    These are all YAML files at the root and every data.yaml below it; if there are none, any YAML file. Files of
    another name that have no names and splits, such as a training's args.yaml, are none.
    """
    files = [name for name in archive.entries if name.lower().endswith((".yaml", ".yml"))]
    likely = [name for name in files if "/" not in name or _base(name) in _DATA_NAMES]
    ordered = sorted(likely or files, key=lambda name: (name.count("/"), _base(name) not in _DATA_NAMES, name))
    return [name for name in ordered[:_MAX_CANDIDATES] if _base(name) in _DATA_NAMES or _is_candidate(archive, name)]


def _is_candidate(archive: Archive, name: str) -> bool:
    """Return whether a YAML file is about a dataset; one that cannot be read may be."""
    try:
        data = _load(archive.read(name, MAX_YAML_BYTES))
    except (ArchiveError, *_YAML_ERRORS):
        return True
    return not isinstance(data, dict) or not _DATA_KEYS.isdisjoint(data)


def read_data_yaml(archive: Archive, candidates: list[str]) -> tuple[DataYaml | None, list[Finding]]:
    """Read data.yaml and check all that it says by itself; None if there is none or it cannot be parsed.

    `candidates` are those of `find_data_yaml_candidates`. `path:` may be left out, be `.`, a folder of the archive, or
    the name of the folder that was zipped. An absolute path or one that leaves the archive (FiftyOne's, Ultralytics'
    `../datasets/x`) is of another machine: it is ignored if all splits are beside data.yaml, and refused otherwise.
    """
    if not candidates:
        fix = (
            "Add it at the top of the archive, with train, val and names. Only a classification tree needs none: all "
            "its images lie in train/CLASS/ and val/CLASS/, and nowhere else in train and val. If the annotations are "
            "those of another tool (COCO, CVAT, Pascal VOC ...), have import-dataset make an archive of this one."
        )
        return None, [error(Code.YAML_MISSING, "a data.yaml", "none", fix)]
    name = candidates[0]
    faults = []
    if len(candidates) > 1:
        found = f"{len(candidates)}: {', '.join(safe_repr(name) for name in candidates[:5])}"
        fix = "Keep the one that describes this dataset and remove the others."
        faults.append(error(Code.YAML_SEVERAL, "one data.yaml", found, fix, path=candidates[1]))
    try:
        data = _load(archive.read(name, MAX_YAML_BYTES))
    except ArchiveError as exc:
        too_large = exc.finding.code == Code.ARCHIVE_TOO_LARGE
        code = Code.YAML_INVALID if too_large else exc.finding.code
        return None, [*faults, exc.finding.model_copy(update={"code": code})]
    except UnicodeDecodeError as exc:
        return None, [*faults, _invalid(name, "UTF-8 text", safe_repr(str(exc)), "Save the file as UTF-8.")]
    except _YAML_ERRORS as exc:
        fix = "Correct this place; a YAML checker in an editor shows it."
        return None, [*faults, _invalid(name, "readable YAML", safe_repr(str(exc), 300), fix)]
    if not isinstance(data, dict):
        fix = "Write lines such as 'train: images/train'."
        return None, [*faults, _invalid(name, "a mapping", f"a {type(data).__name__}", fix)]
    return _to_data_yaml(data, name, archive, faults), faults


def resolve_split_path(folder: str, written: str) -> str | None:
    """Return the entry or folder that a relative path means, seen from `folder`; None for an absolute path.

    Backslashes count as slashes. A result that starts with `..` lies outside the archive; `""` is its root.
    """
    path = normalize_unicode(written.strip().replace("\\", "/"))
    if path.startswith(("/", "~")) or path[1:2] == ":":
        return None
    resolved = normpath(join(folder, path))
    return "" if resolved == "." else resolved


def _to_data_yaml(data: dict[Any, Any], name: str, archive: Archive, faults: list[Finding]) -> DataYaml:
    if "download" in data:
        fix = "Remove the line: training tools would run it as a program."
        faults.append(error(Code.YAML_EXECUTABLE, "no 'download:' key", safe_repr(data["download"]), fix, path=name))
    faults += _channels(data, name)
    splits = _splits(data, name, faults)
    keypoints = _keypoints(data, name, faults)
    return DataYaml(
        file=name,
        folder=_folder(data.get("path"), name, archive, splits, faults),
        class_names=_class_names(data, name, faults),
        splits=splits,
        task=_task(data, name, keypoints, faults),
        keypoints=keypoints,
        flip_idx=_flip_idx(data, name, keypoints, faults),
    )


def _base(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _invalid(name: str, expected: str, found: str, fix: str) -> Finding:
    return error(Code.YAML_INVALID, expected, found, fix, path=name)


def _load(raw: bytes) -> object:
    """Parse YAML; raises one of _YAML_ERRORS, also for a text that would grow or nest without end."""
    text = raw.decode("utf-8")
    aliases = depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if aliases > _MAX_ALIASES or depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_ALIASES} aliases or {_MAX_DEPTH} levels, as in a YAML bomb")
    return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506  it is a safe loader


def _class_names(data: dict[Any, Any], name: str, faults: list[Finding]) -> tuple[str, ...]:
    """Return the names, or nothing if even their number is not certain."""
    fix = "Write names as a list, or as '0: cat', '1: dog' and so on without a gap."
    names = data.get("names")
    if isinstance(names, dict):
        if any(type(key) is not int for key in names) or sorted(names) != list(range(len(names))):
            faults.append(error(Code.YAML_NAMES, "the keys 0 to n-1 in names", safe_repr(list(names)), fix, path=name))
            return ()
        names = [names[key] for key in range(len(names))]
    if not isinstance(names, list) or not names:
        faults.append(error(Code.YAML_NAMES, "at least one class in names", safe_repr(names), fix, path=name))
        return ()
    if problem := _first_name_problem(names, data):
        expected, found, fix = problem
        faults.append(error(Code.YAML_NAMES, expected, found, fix, path=name))
    return tuple(names) if all(isinstance(item, str) for item in names) else ()


def _first_name_problem(names: list[Any], data: dict[Any, Any]) -> tuple[str, str, str] | None:
    """Return the first thing that is wrong with names, as expected, found and fix."""
    for item in names:
        if not isinstance(item, str) or not item.strip():
            fix = "Put it in quotes: YAML reads no, 1 and ~ as other things."
            return "text for each name", safe_repr(item), fix
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in item):
            return "names that can be printed", safe_repr(item), "Write the name without control characters."
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        return "each name once", f"{safe_repr(name)} {times} times", "Merge or rename them."
    count = data.get("nc", len(names))
    if type(count) is not int or count != len(names):
        return f"nc: {len(names)}, as many as names", f"nc: {safe_repr(count)}", "Correct nc or take it out."
    return None


def _folder(
    path: object, name: str, archive: Archive, splits: Mapping[str, tuple[str, ...]], faults: list[Finding]
) -> str:
    """Return the folder that splits are relative to; data.yaml's own if `path` cannot be used."""
    own = parent_folder(name)
    if path in (None, ""):
        return own
    folder = resolve_split_path(own, path) if isinstance(path, str) else None
    if folder is not None and archive.has_folder(folder):
        return folder
    if folder is not None and f"{folder}/" == archive.root:
        return ""
    harmless = isinstance(path, str) and _all_splits_exist(splits, own, archive)
    fix = (
        "All splits are where data.yaml is, and are read from there: nothing to fix."
        if harmless
        else "Write 'path: .', or take the line out: splits are then relative to data.yaml."
    )
    make = info if harmless else error
    faults.append(make(Code.YAML_PATH, "a path inside the archive", f"path: {safe_repr(path)}", fix, path=name))
    return own


def _all_splits_exist(splits: Mapping[str, tuple[str, ...]], folder: str, archive: Archive) -> bool:
    """Return whether all that train and val name, and they name something, is there when seen from this folder."""
    paths = [resolve_split_path(folder, written) for split in ("train", "val") for written in splits.get(split, ())]
    return bool(paths) and all(
        path is not None and (path in archive.entries or archive.has_folder(path)) for path in paths
    )


def _splits(data: dict[Any, Any], name: str, faults: list[Finding]) -> dict[str, tuple[str, ...]]:
    splits = {}
    for split, keys in SPLIT_KEYS.items():
        value = next((data[key] for key in keys if data.get(key) not in (None, "", [])), None)
        written = [value] if isinstance(value, str) else value
        if (
            isinstance(written, list)
            and len(written) <= _MAX_SPLIT_PATHS
            and all(isinstance(item, str) for item in written)
        ):
            splits[split] = tuple(dict.fromkeys(written))
        elif written is not None:
            expected = f"a folder or a list of at most {_MAX_SPLIT_PATHS} for {split}"
            fix = f"Write '{split}: images/{split}'."
            faults.append(error(Code.YAML_PATH, expected, safe_repr(value), fix, path=name))
            splits[split] = ()
    return splits


def _channels(data: dict[Any, Any], name: str) -> list[Finding]:
    """Grey images lose nothing as RGB; of images of more channels all but three would not be seen."""
    written = data.get("channels")
    if written is None or (type(written) is int and written == 3):
        return []
    grey = type(written) is int and written == 1
    kept = "Nothing is lost: grey images are trained and served as RGB of three equal channels, so take the line out."
    fix = kept if grey else "Export the three channels to train on as RGB images, and take the line out."
    make = warning if grey else error
    expected = "images of 3 channels, as models are served"
    return [make(Code.YAML_CHANNELS, expected, f"channels: {safe_repr(written)}", fix, path=name)]


def _keypoints(data: dict[Any, Any], name: str, faults: list[Finding]) -> tuple[int, int] | None:
    shape = data.get("kpt_shape")
    if shape is None:
        return None
    if isinstance(shape, list) and [type(item) for item in shape] == [int, int]:
        count, numbers = shape
        if 1 <= count <= MAX_KEYPOINTS and numbers in {2, 3}:
            return count, numbers
    fix = "Write it as in 'kpt_shape: [17, 3]'."
    faults.append(_invalid(name, "kpt_shape with the number of keypoints and 2 or 3", safe_repr(shape), fix))
    return None


def _flip_idx(
    data: dict[Any, Any], name: str, keypoints: tuple[int, int] | None, faults: list[Finding]
) -> tuple[int, ...] | None:
    """An empty one says as little as none, and without keypoints there is nothing to flip."""
    written = data.get("flip_idx")
    if written in (None, []) or keypoints is None:
        return None
    count = keypoints[0]
    if isinstance(written, list) and {*map(type, written)} == {int} and sorted(written) == list(range(count)):
        return tuple(written)
    fix = "Write for each keypoint the one that it becomes in a mirrored image, or take the line out."
    faults.append(_invalid(name, f"flip_idx with each number from 0 to {count - 1} once", safe_repr(written), fix))
    return None


def _task(data: dict[Any, Any], name: str, keypoints: object, faults: list[Finding]) -> str | None:
    """Boxes and polygons show in the labels; oriented boxes look like polygons, so `task: obb` has to say it."""
    if keypoints:
        return "pose"
    task = data.get("task")
    if task is None or (task in TASKS and task not in {"pose", "classify"}):
        return task
    fix = "Take the line out; pose needs kpt_shape, and classify needs folders train/CLASS and no data.yaml."
    faults.append(_invalid(name, "task: detect, segment or obb", safe_repr(task), fix))
    return None
