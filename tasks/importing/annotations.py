"""What a format of another tool says about an image, before it becomes rows of YOLO: shapes in pixels of the image.

The corner of a pixel is at whole numbers: an image of width 4 goes from x 0 to x 4.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.validation.report.groups import sanitize_text

Floats = NDArray[np.float64]
ELLIPSE_CORNERS = 64  # its area is 0.2 % less than that of the ellipse

_LONGEST = 200  # characters of a line of the log


@dataclass(frozen=True, kw_only=True)
class Box:
    """An upright box: the corners x1, y1, x2, y2 in pixels; `unusable` is what its object has instead of an outline."""

    class_name: str
    corners: tuple[float, float, float, float]
    unusable: str = ""


@dataclass(frozen=True, kw_only=True)
class RotatedBox:
    """A rectangle at any angle: its four corners (4, 2) in pixels, one after another round it."""

    class_name: str
    corners: Floats


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The outline of an object of one or more parts: rings, each (k, 2) in pixels. A ring inside another is a hole."""

    class_name: str
    rings: tuple[Floats, ...]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A box, and keypoints (n, 3): x, y in pixels and 0 (absent), 1 (hidden) or 2 (visible)."""

    class_name: str
    corners: tuple[float, float, float, float]
    keypoints: Floats


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A class of the whole image."""

    class_name: str


Shape = Box | RotatedBox | Outline | Pose | Tag


@dataclass(frozen=True, kw_only=True)
class AnnotatedImage:
    """An image as the annotations in `folder` name it, its size in pixels if they tell it, and its shapes.

    With `size_is_stored` the size is that of the file, whatever EXIF turns, and shapes are of the image as shown: boxes
    in its pixels, outlines in shares of it times that size. `subset` is train, val, test, or empty where nothing says
    it. With `relative` the numbers of the shapes are shares of width and height, not pixels. `lost` is the number of
    objects that no shape could be made of.
    """

    name: str
    folder: str = ""
    relative: bool = False
    size: tuple[int, int] | None = None
    size_is_stored: bool = False
    subset: str = ""
    shapes: Sequence[Shape] = ()
    lost: int = 0

    @property
    def shows_objects(self) -> bool:
        """Whether it is no background, whatever became of its objects."""
        return self.lost > 0 or any(not isinstance(shape, Tag) for shape in self.shapes)


@dataclass
class ImportLog:
    """What the annotations declare beside the images, and what an import leaves out, changes or decides.

    `counts` says how often, `places` the first places of each kind, `class_names` the declared classes in their order,
    `flip_idx` the keypoint that each becomes in a mirrored image, if the source says it.
    """

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    notes: list[str] = field(default_factory=list)
    class_names: dict[str, None] = field(default_factory=dict)
    keypoint_orders: dict[tuple[str, ...], None] = field(default_factory=dict)
    flip_idx: tuple[int, ...] = ()

    MAX_PLACES = 5
    MAX_KINDS = 200  # a hostile file has a million attributes

    def declare(self, names: Iterable[str]) -> None:
        """Keep classes in the order in which their format lists them, used or not; two of one name are one class."""
        listed = list(names)
        for name, count in Counter(listed).items():
            if count > 1:
                self.add("changed: a class that has the name of another is the same", name, count - 1)
        self.class_names |= dict.fromkeys(listed)

    def declare_keypoints(self, names: Iterable[str]) -> None:
        """Keep the names of the keypoints of a class in their order, if it has any."""
        order = tuple(names)
        if order and order not in self.keypoint_orders:
            self.keypoint_orders[order] = None
            if len(self.keypoint_orders) == 2:
                self.note("classes name their keypoints differently: a number means another point for each of them")

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """The names of all poses' keypoints; empty if there are none, or if they differ from class to class."""
        return next(iter(self.keypoint_orders)) if len(self.keypoint_orders) == 1 else ()

    def at(self, place: str) -> "PlaceLog":
        """Return what counts changes at one image or entry of the archive."""
        return PlaceLog(self, place)

    def note(self, sentence: str) -> None:
        """Keep what the import has decided by itself."""
        self.notes.append(sanitize_text(sentence, _LONGEST))

    def add(self, kind: str, place: str, count: int = 1) -> None:
        """Count a change; `kind` is a sentence that a person reads, `place` an image or an entry of the archive.

        Both may hold names from outside, so they are cut and cleaned.
        """
        kind, place = sanitize_text(kind, _LONGEST), sanitize_text(place, _LONGEST)
        if kind not in self.counts and len(self.counts) >= self.MAX_KINDS:
            kind = f"{kind.partition(':')[0]}: of other kinds"
        self.counts[kind] += count
        places = self.places.setdefault(kind, [])
        if len(places) < self.MAX_PLACES and place not in places:
            places.append(place)


@dataclass(frozen=True)
class PlaceLog:
    """Counts changes at one place."""

    log: ImportLog
    place: str

    def add(self, kind: str, count: int = 1) -> None:
        """Count a change of this kind."""
        self.log.add(kind, self.place, count)

    def leave_out(self, kind: str, known: Container[str]) -> None:
        """Count a drawing of which no shape could be made; of a `known` kind its numbers are to blame."""
        reason = " whose numbers are not right" if kind in known else ", which YOLO has no labels for"
        self.add(f"left out: a {kind}{reason}")


def rotated_box(
    class_name: str, centre: tuple[float, float], width: float, height: float, degrees: float
) -> RotatedBox:
    """Return a box of this width and height, turned clockwise (in the image) round its centre."""
    half = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return RotatedBox(class_name=class_name, corners=half @ _turn(degrees) + centre)


def ellipse(
    class_name: str, centre: tuple[float, float], radius_x: float, radius_y: float, degrees: float = 0.0
) -> Outline:
    """Return the outline of an ellipse, in `ELLIPSE_CORNERS` corners, turned clockwise round its centre."""
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    ring = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=1)
    return Outline(class_name=class_name, rings=(ring @ _turn(degrees) + centre,))


def _turn(degrees: float) -> Floats:
    """Return the matrix that turns rows clockwise, as y points down."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, sine], [-sine, cosine]])
