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
from tasks.errors import expected_found_fix, safe_repr
from tasks.finding_codes import Code

MAX_YAML_BYTES = 2**20
# Each split under its own name first, then under the names that other tools write.
SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}

# Ten aliases cannot grow a file of 1 MiB more than some dozens of times, and nobody needs more.
_MAX_ALIASES = 10
_MAX_DEPTH = 20
_MAX_PLACES = 1000
_DATA_NAMES = frozenset({"data.yaml", "data.yml"})
_DATA_KEYS = frozenset({"names", "train", "val", "valid", "validation", "nc"})
_MAX_CANDIDATES = 20
# What PyYAML was seen to raise: its converters let through what Python raises on values such as `!!int x`.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)
# libyaml's parser where it was built in: it needs a tenth of the time.
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


@dataclass(frozen=True)
class DataYaml:
    """What data.yaml says. `folder` is what its splits are relative to, `""` for the archive's root.

    `class_names` is empty where `names` cannot be used; `splits` maps train, val and test to the folders or lists as
    written (none where that is no text); `task` is None where only the labels can tell; `keypoints` is `kpt_shape`, and
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

    These are all YAML files at the root and every data.yaml below it; where there are none, any YAML file. Files of
    another name that say nothing of names and splits, such as a training's args.yaml, are none.
    """
    files = [name for name in archive.entries if name.lower().endswith((".yaml", ".yml"))]
    likely = [name for name in files if "/" not in name or _base(name) in _DATA_NAMES]
    ordered = sorted(likely or files, key=lambda name: (name.count("/"), _base(name) not in _DATA_NAMES, name))
    return [name for name in ordered[:_MAX_CANDIDATES] if _base(name) in _DATA_NAMES or _is_candidate(archive, name)]


def _is_candidate(archive: Archive, name: str) -> bool:
    """Tell whether a YAML file is about a dataset; one that cannot be read may be."""
    try:
        data = _load(archive.read(name, MAX_YAML_BYTES))
    except (ArchiveError, *_YAML_ERRORS):
        return True
    return not isinstance(data, dict) or not _DATA_KEYS.isdisjoint(data)


def read_data_yaml(archive: Archive, candidates: list[str]) -> tuple[DataYaml | None, list[Finding]]:
    """Read data.yaml and check all that it says by itself; None where there is none or it cannot be parsed.

    `candidates` is what `find_data_yaml_candidates` found.
    `path:` may be left out, be `.`, a folder of the archive, or the name of the folder that was zipped. An absolute
    path or one that leaves the archive (FiftyOne's, Ultralytics' `../datasets/x`) is of another machine: where the
    splits are found beside data.yaml it is passed over, and is refused where they are not.
    """
    if not candidates:
        fix = (
            "Add it at the top of the archive, with train, val and names. Only a classification tree needs none: all "
            "its images lie in train/CLASS/ and val/CLASS/, and nowhere else in train and val."
        )
        return None, [error(Code.YAML_MISSING, expected_found_fix("a data.yaml", "none", fix))]
    name = candidates[0]
    faults = _several(candidates)
    try:
        data = _load(archive.read(name, MAX_YAML_BYTES))
    except ArchiveError as exc:
        too_large = exc.finding.code == Code.ARCHIVE_TOO_LARGE
        return None, [*faults, error(Code.YAML_INVALID, str(exc), path=name) if too_large else exc.finding]
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
    place = normpath(join(folder, path))
    return "" if place == "." else place


def _to_data_yaml(data: dict[Any, Any], name: str, archive: Archive, faults: list[Finding]) -> DataYaml:
    if "download" in data:
        fix = "Remove the line: training tools would run it as a program."
        message = expected_found_fix("no 'download:' key", safe_repr(data["download"]), fix)
        faults.append(error(Code.YAML_EXECUTABLE, message, path=name))
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


def _several(candidates: list[str]) -> list[Finding]:
    if len(candidates) == 1:
        return []
    found = f"{len(candidates)}: {', '.join(safe_repr(name) for name in candidates[:5])}"
    message = expected_found_fix(
        "one data.yaml", found, "Keep the one that describes this dataset and remove the others."
    )
    return [error(Code.YAML_SEVERAL, message, path=candidates[1])]


def _invalid(name: str, expected: str, found: str, fix: str) -> Finding:
    return error(Code.YAML_INVALID, expected_found_fix(expected, found, fix), path=name)


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
    """Return the names, or nothing where even their number is not certain."""
    fix = "Write names as a list, or as '0: cat', '1: dog' and so on without a gap."
    names = data.get("names")
    if isinstance(names, dict):
        if any(type(key) is not int for key in names) or sorted(names) != list(range(len(names))):
            keys = expected_found_fix("the keys 0 to n-1 in names", safe_repr(list(names)), fix)
            faults.append(error(Code.YAML_NAMES, keys, path=name))
            return ()
        names = [names[key] for key in range(len(names))]
    if not isinstance(names, list) or not names:
        faults.append(
            error(Code.YAML_NAMES, expected_found_fix("at least one class in names", safe_repr(names), fix), path=name)
        )
        return ()
    problem = _name_problem(names) or _count_problem(names, data)
    if problem:
        faults.append(error(Code.YAML_NAMES, problem, path=name))
    return tuple(names) if all(isinstance(item, str) for item in names) else ()


def _name_problem(names: list[Any]) -> str | None:
    for item in names:
        if not isinstance(item, str) or not item.strip():
            fix = "Put it in quotes: YAML reads no, 1 and ~ as other things."
            return expected_found_fix("text for each name", safe_repr(item), fix)
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in item):
            return expected_found_fix(
                "names that can be printed", safe_repr(item), "Write the name without control characters."
            )
    name, times = Counter(names).most_common(1)[0]
    return (
        expected_found_fix("each name once", f"{safe_repr(name)} {times} times", "Merge or rename them.")
        if times > 1
        else None
    )


def _count_problem(names: list[Any], data: dict[Any, Any]) -> str | None:
    if "nc" not in data or (type(data["nc"]) is int and data["nc"] == len(names)):
        return None
    return expected_found_fix(
        f"nc: {len(names)}, as many as names", f"nc: {safe_repr(data['nc'])}", "Correct nc or take it out."
    )


def _folder(
    path: object, name: str, archive: Archive, splits: Mapping[str, tuple[str, ...]], faults: list[Finding]
) -> str:
    """Return the folder that splits are relative to; data.yaml's own where `path` cannot be used."""
    own = parent_folder(name)
    if path in (None, ""):
        return own
    place = resolve_split_path(own, path) if isinstance(path, str) else None
    if place is not None and archive.has_folder(place):
        return place
    if place is not None and f"{place}/" == archive.root:
        return ""
    found = f"path: {safe_repr(path)}"
    if isinstance(path, str) and _all_splits_exist(splits, own, archive):
        read = "All splits are where data.yaml is, and are read from there: nothing to fix."
        faults.append(info(Code.YAML_PATH, expected_found_fix("a path inside the archive", found, read), path=name))
        return own
    fix = "Write 'path: .', or take the line out: splits are then relative to data.yaml."
    faults.append(error(Code.YAML_PATH, expected_found_fix("a path inside the archive", found, fix), path=name))
    return own


def _all_splits_exist(splits: Mapping[str, tuple[str, ...]], folder: str, archive: Archive) -> bool:
    """Tell whether all that train and val name, and they name something, is there when seen from this folder."""
    places = [resolve_split_path(folder, written) for split in ("train", "val") for written in splits.get(split, ())]
    return bool(places) and all(
        place is not None and (place in archive.entries or archive.has_folder(place)) for place in places
    )


def _splits(data: dict[Any, Any], name: str, faults: list[Finding]) -> dict[str, tuple[str, ...]]:
    splits = {}
    for split, keys in SPLIT_KEYS.items():
        value = next((data[key] for key in keys if data.get(key) not in (None, "", [])), None)
        written = [value] if isinstance(value, str) else value
        if isinstance(written, list) and len(written) <= _MAX_PLACES and all(isinstance(item, str) for item in written):
            splits[split] = tuple(dict.fromkeys(written))
        elif written is not None:
            fix = f"Write '{split}: images/{split}'."
            message = expected_found_fix(
                f"a folder or a list of at most {_MAX_PLACES} for {split}", safe_repr(value), fix
            )
            faults.append(error(Code.YAML_PATH, message, path=name))
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
    message = expected_found_fix("images of 3 channels, as models are served", f"channels: {safe_repr(written)}", fix)
    return [(warning if grey else error)(Code.YAML_CHANNELS, message, path=name)]


def _keypoints(data: dict[Any, Any], name: str, faults: list[Finding]) -> tuple[int, int] | None:
    shape = data.get("kpt_shape")
    if shape is None:
        return None
    if isinstance(shape, list) and [type(item) for item in shape] == [int, int]:
        count, numbers = shape
        if 1 <= count <= 1000 and numbers in {2, 3}:
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
