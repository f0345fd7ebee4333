"""What data.yaml says of the keypoints of an import: how many there are, and which is which in a mirrored image."""

from collections.abc import Sequence

from tasks.importing.annotations import ImportLog


def keypoint_keys(keypoints: int, log: ImportLog) -> dict[str, object]:
    """Return `kpt_shape`, and `flip_idx` if the source has one or the names of the points tell left from right."""
    keys: dict[str, object] = {"kpt_shape": [keypoints, 3]}
    names = log.keypoint_names
    mirrored = log.flip_idx or _mirrored_points(names)
    if len(mirrored) != keypoints:
        log.note("images are not mirrored in training: the names of the keypoints do not tell left from right")
        return keys
    if stay := [names[at] if names else str(at) for at, other in enumerate(mirrored) if other == at]:
        log.note(f"mirrored images in training: these keypoints have no side and stay themselves: {', '.join(stay)}")
    return keys | {"flip_idx": list(mirrored)}


def _mirrored_points(names: Sequence[str]) -> tuple[int, ...]:
    """Return the point that each one becomes in a mirrored image; nothing if the names do not pair left with right."""
    places = {name.lower(): at for at, name in enumerate(names)}
    mirrored = tuple(places.get(_mirror(name), -1) for name in places)
    told = len(places) == len(names) and -1 not in mirrored and mirrored != tuple(range(len(names)))
    return mirrored if told and all(mirrored[other] == at for at, other in enumerate(mirrored)) else ()


def _mirror(name: str) -> str:
    one, other = ("left", "right") if "left" in name else ("right", "left")
    return name.replace(one, other, 1)
