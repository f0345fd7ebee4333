"""CVAT XML 1.1, for images and for video: https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from xml.etree.ElementTree import Element

import numpy as np

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.importing.annotations import (
    AnnotatedImage,
    Box,
    Floats,
    ImportLog,
    Outline,
    PlaceLog,
    Pose,
    RotatedBox,
    Shape,
    Tag,
    ellipse,
    rotated_box,
)
from tasks.importing.documents import read_xml, to_number
from tasks.importing.image_index import SUBSETS, subset_of_image
from tasks.importing.run_lengths import RunLengthError, rings_of_rows

_CUBOID = tuple(f"{axis}{corner}{face}" for face in "12" for corner in ("tl", "bl", "tr", "br") for axis in "xy")
_PLACES = {"group_id": "group of an object", "z_order": "layer of an object"}
_NO_LABEL = {"polyline": "a polyline", "points": "single points"}


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the images of each XML file, and the frames of tracks.

    Raises:
        DocumentError: A file is no XML.
    """
    for name in entries:
        root = read_xml(archive, name)
        log.declare(label.findtext("name") or "" for label in root.iter("label") if label.find("parent") is None)
        yield from _Document(root, name, log).images()


@dataclass
class _Document:
    root: Element
    name: str
    log: ImportLog

    def __post_init__(self) -> None:
        """Read the names of the points of each skeleton, in the order of its label."""
        self.points: defaultdict[str, list[str]] = defaultdict(list)
        for label in self.root.iter("label"):
            if (parent := label.findtext("parent")) is not None:
                self.points[parent].append(label.findtext("name") or "")

    def _subset(self, written: str, place: str) -> str:
        found = SUBSETS.get(written.lower(), "")
        if written and written.lower() != "default" and not found:
            self.log.add("changed: a subset that is none of train, val and test", place)
        return found

    def images(self) -> Iterator[AnnotatedImage]:
        for image in self.root.iter("image"):
            written = image.get("name", "")
            size = _numbers(image, ("width", "height"))
            shapes = self._shapes(image, self.log.at(written or self.name))
            yield AnnotatedImage(
                name=written,
                folder=parent_folder(self.name),
                size=(int(size[0]), int(size[1])) if size else None,
                subset=self._subset(image.get("subset", ""), written) or subset_of_image(written),
                shapes=shapes,
                lost=len(image) - len(shapes),
            )
        yield from self._frames()

    def _frames(self) -> Iterator[AnnotatedImage]:
        """Yield the frames of tracks: a project has a folder of them for each subset.

        CVAT goes on counting in the next task of a subset, as it names the pictures.
        """
        tasks: defaultdict[str, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        frames: defaultdict[tuple[str, int], list[Element]] = defaultdict(list)
        for track in self.root.iter("track"):
            self.log.add("not kept: which objects of a track are the same", f"track {track.get('id', '')}")
            subset = track.get("subset", "")
            for each in track:
                frame = to_number(each.get("frame"))
                if frame is not None and each.get("outside") != "1":
                    each.attrib |= {key: track.get(key, "") for key in ("label", "group_id")}
                    frames[subset, int(frame)].append(each)
                    tasks[subset][int(frame)].add(track.get("task_id", ""))
        mixed = {subset for subset, own in tasks.items() if _are_mixed([own[frame] for frame in sorted(own)])}
        for (subset, number), items in sorted(frames.items()):
            name = f"{subset}/frame_{number:06d}".removeprefix("/")
            log = self.log.at(name)
            if subset in mixed:
                log.add("left out: an object in a frame that several tasks number alike (export each task)", len(items))
                shapes = []
            else:
                shapes = self._shapes(items, log)
            yield AnnotatedImage(
                name=name,
                folder=parent_folder(self.name),
                subset=self._subset(subset, name),
                shapes=shapes,
                lost=len(items) - len(shapes),
            )

    def _shapes(self, items: Sequence[Element] | Element, log: PlaceLog) -> list[Shape]:
        found = []
        for item in items:
            for attribute in item.findall("attribute"):
                log.add(f"not kept: attribute {attribute.get('name', '')}")
            if item.get("occluded") == "1":
                log.add("not kept: flag occluded")
            for name, what in _PLACES.items():
                if to_number(item.get(name)):
                    log.add(f"not kept: {what} ({name})")
            if item.tag in _NO_LABEL:
                log.add(f"left out: {_NO_LABEL[item.tag]}, which YOLO has no labels for")
            elif item.tag not in _MAKERS:
                log.add(f"left out: an element {item.tag}, which is not known")
            else:
                try:
                    shape = _MAKERS[item.tag](self, item, log)
                except RunLengthError as error:
                    log.add(f"left out: {error.what}")
                    continue
                if shape is None:
                    log.add(f"left out: a {item.tag} whose numbers are not right")
                else:
                    found.append(shape)
        return found

    def tag(self, item: Element, _: PlaceLog) -> Tag:
        return Tag(class_name=item.get("label", ""))

    def box(self, item: Element, _: PlaceLog) -> Box | RotatedBox | None:
        values = _numbers(item, ("xtl", "ytl", "xbr", "ybr"))
        if not values:
            return None
        left, top, right, bottom = values
        if turn := to_number(item.get("rotation")):
            centre = (left + right) / 2, (top + bottom) / 2
            return rotated_box(item.get("label", ""), centre, right - left, bottom - top, turn)
        return Box(class_name=item.get("label", ""), corners=(left, top, right, bottom))

    def polygon(self, item: Element, _: PlaceLog) -> Outline | None:
        ring = _points(item)
        return Outline(class_name=item.get("label", ""), rings=(ring,)) if len(ring) > 2 else None

    def ellipse(self, item: Element, log: PlaceLog) -> Outline | None:
        values = _numbers(item, ("cx", "cy", "rx", "ry"))
        if not values:
            return None
        log.add("changed: an ellipse into an outline")
        turn = to_number(item.get("rotation")) or 0
        return ellipse(item.get("label", ""), (values[0], values[1]), values[2], values[3], turn)

    def cuboid(self, item: Element, log: PlaceLog) -> Box | None:
        values = _numbers(item, _CUBOID)
        if not values:
            return None
        log.add("changed: a cuboid into the upright box around it")
        x, y = values[::2], values[1::2]
        return Box(class_name=item.get("label", ""), corners=(min(x), min(y), max(x), max(y)))

    def mask(self, item: Element, _: PlaceLog) -> Outline | None:
        values = _numbers(item, ("left", "top", "width", "height"))
        counts = [to_number(part) for part in item.get("rle", "").split(",")]
        if not values or None in counts:
            return None
        left, top, width, height = (int(value) for value in values)
        rings = rings_of_rows([int(count or 0) for count in counts], height, width)
        return Outline(class_name=item.get("label", ""), rings=tuple(ring + np.array([left, top]) for ring in rings))

    def skeleton(self, item: Element, log: PlaceLog) -> Pose | None:
        """It has no box: the one around its visible points is taken."""
        written = {each.get("label", ""): each for each in item.findall("points")}
        names = self.points.get(item.get("label", "")) or sorted(written)
        self.log.declare_keypoints(names)
        keypoints = np.zeros((len(names), 3))
        for at, name in enumerate(names):
            each = written.get(name)
            if each is not None and each.get("outside") != "1" and len(corners := _points(each)):
                keypoints[at] = *corners[0], 1 if each.get("occluded") == "1" else 2
        seen = keypoints[keypoints[:, 2] > 0, :2]
        if not len(seen):
            return None
        log.add("changed: a skeleton, which has no box, got the one around its points")
        left, top, right, bottom = chain(seen.min(axis=0).tolist(), seen.max(axis=0).tolist())
        return Pose(class_name=item.get("label", ""), corners=(left, top, right, bottom), keypoints=keypoints)


_MAKERS = {
    "tag": _Document.tag,
    "box": _Document.box,
    "polygon": _Document.polygon,
    "ellipse": _Document.ellipse,
    "cuboid": _Document.cuboid,
    "mask": _Document.mask,
    "skeleton": _Document.skeleton,
}


def _are_mixed(tasks: Sequence[set[str]]) -> bool:
    """Return whether tasks number frames alike, by the tasks of each frame that has objects, in order.

    It is enough that the frames of one lie between those of another: nobody knows then whose picture one is.
    """
    turns = [task for task, _ in groupby(chain.from_iterable(tasks))]
    return any(len(own) > 1 for own in tasks) or len(turns) > len({*turns})


def _points(item: Element) -> Floats:
    numbers = [to_number(part) for pair in item.get("points", "").split(";") for part in pair.split(",")]
    if not numbers or None in numbers or len(numbers) % 2:
        return np.empty((0, 2))
    return np.array(numbers, np.float64).reshape(-1, 2)


def _numbers(item: Element, names: Sequence[str]) -> list[float] | None:
    values = [to_number(item.get(name)) for name in names]
    numbers = [value for value in values if value is not None]
    return numbers if len(numbers) == len(values) else None
