"""The pictures of a report: samples of each split, and the images in which something was found."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

from tasks.dataset.archive import ArchiveError
from tasks.dataset.findings import Finding
from tasks.dataset.layout import Dataset, class_folder
from tasks.media.decode_cost import too_costly
from tasks.media.errors import MediaError
from tasks.media.file_type import image_size
from tasks.media.images import shrink_to_fit
from tasks.rendering.html import jpeg_data_uri
from tasks.rendering.palette import css_colour
from tasks.validation.report.groups import Group
from tasks.validation.report.outlines import Drawing, Outline, draw_faults, draw_outlines, read_outlines, view_box
from tasks.vision.detections import class_name

SIDE = 320
SAMPLES = 12
MAX_PER_GROUP = 4
MAX_FAULTY = 40
# Larger images take a second and 150 MB to decode, for a picture of 320 pixels.
MAX_PIXELS = 50_000_000
_MAX_PICTURE_BYTES = 15_000
_QUALITIES = (82, 65, 45, 25)
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

Read = Callable[[str], bytes]
Names = tuple[str, ...]
Bgr = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """A class in one picture."""

    name: str
    colour: str
    count: int


@dataclass(frozen=True, kw_only=True)
class ReportImage:
    """An image with its labels. If there is nothing to see, `uri` is empty and `reason` says why.

    `view` is the SVG viewBox: the picture of `size` (width, height) and as much around it as its faulty labels need.
    `by_model` says that a model has made a label, or all that there is to say.
    """

    name: str
    uri: str = ""
    reason: str = ""
    size: tuple[int, int] = (SIDE, SIDE * 3 // 4)
    view: str = f"0 0 {SIDE} {SIDE * 3 // 4}"
    labels: Sequence[Drawing] = ()
    faults: Sequence[Drawing] = ()
    classes: Sequence[ClassCount] = ()
    by_model: bool = False


class FindingExample(NamedTuple):
    """Findings of one code in one image, or in a pair of images, the first of them in words."""

    pictures: list[ReportImage]
    finding: Finding
    more: int


@dataclass(frozen=True, kw_only=True)
class ReportImages:
    """Makes the pictures of one archive; `read` returns an entry or raises ArchiveError or KeyError."""

    dataset: Dataset
    task: str | None
    read: Read

    def samples(self) -> dict[str, list[ReportImage]]:
        """Return for each split about `SAMPLES` pictures, spread evenly over it."""
        return {
            split: [
                self._picture(samples[place].image)
                for place in np.linspace(0, len(samples) - 1, min(SAMPLES, len(samples))).round().astype(int)
            ]
            for split, samples in self.dataset.splits.items()
        }

    def exhibits(self, groups: Sequence[Group]) -> list[tuple[Group, list[FindingExample]]]:
        """Return the groups that are about images, each with its first few, about `MAX_FAULTY` pictures in all."""
        image_of = {label: image for image, label in self.dataset.labels.items() if label}
        image_of |= {image: image for image in self.dataset.labels}
        shown = [(group, faulty) for group in groups if (faulty := _faulty_images(group, image_of))][:MAX_FAULTY]
        pictures = min(MAX_FAULTY // max(len(shown), 1), MAX_PER_GROUP)
        return [
            (group, list(islice(self._examples(faulty), max(pictures // max(map(len, faulty)), 1))))
            for group, faulty in shown
        ]

    def _examples(self, faulty: Mapping[Names, Sequence[Finding]]) -> Iterator[FindingExample]:
        for names, findings in faulty.items():
            lines = {finding.line for finding in findings if finding.line}
            yield FindingExample([self._picture(name, lines) for name in names], findings[0], len(findings) - 1)

    def _picture(self, image: str, lines: Collection[int] = ()) -> ReportImage:
        """Return the picture of an image; the labels in `lines` of its label file are the faulty ones."""
        try:
            pixels = _shrunk(self.read(image))
        except (ArchiveError, KeyError):
            return ReportImage(name=image, reason="The entry cannot be read.")
        except MediaError as error:
            return ReportImage(name=image, reason=str(error))
        height, width = pixels.shape[:2]
        outlines = self._outlines(image)
        faulty = [outline for outline in outlines if outline.line in lines]
        rest = [outline for outline in outlines if outline.line not in lines]
        names = self.dataset.class_names
        return ReportImage(
            name=image,
            uri=_jpeg_uri(pixels),
            size=(width, height),
            view=view_box(faulty, (width, height)),
            labels=draw_outlines(rest, names, (width, height)),
            faults=draw_faults(faulty, names, (width, height)),
            classes=self._classes(image, outlines),
            by_model=image in self.dataset.origins.pseudo_labelled,
        )

    def _outlines(self, image: str) -> list[Outline]:
        label = self.dataset.labels.get(image)
        try:
            return read_outlines(self.read(label), self.task) if label else []
        except (ArchiveError, KeyError):
            return []

    def _classes(self, image: str, outlines: Sequence[Outline]) -> list[ClassCount]:
        names = self.dataset.class_names
        if self.task == "classify":
            name = class_folder(image)
            colour = css_colour(names.index(name) if name in names else 0)
            return [ClassCount(name=name, colour=colour, count=1)]
        counts = Counter(outline.class_id for outline in outlines)
        return [
            ClassCount(name=class_name(names, number), colour=css_colour(number), count=count)
            for number, count in counts.most_common()
        ]


def _faulty_images(group: Group, image_of: Mapping[str, str]) -> dict[Names, list[Finding]]:
    """Return the findings by the image, or the pair of images, that they are about."""
    faulty: defaultdict[Names, list[Finding]] = defaultdict(list)
    for finding in group.findings:
        # An image of a format that training does not read is none of the dataset's.
        image = finding.path if finding.code.startswith("image-") else image_of.get(finding.path or "")
        if image is not None:
            faulty[(image, finding.other) if finding.other else (image,)].append(finding)
    return faulty


def _shrunk(data: bytes) -> Bgr:
    """Decode a picture to at most `SIDE` pixels a side, upright; raise MediaError if that cannot be done."""
    width, height = image_size(data) or (0, 0)
    if width * height > MAX_PIXELS:
        raise MediaError(f"Too large to be shown here: {width} x {height} pixels.")
    if costly := too_costly(data):
        raise MediaError(f"Too costly to be decoded: {costly}.")
    scale = next((scale for scale in _REDUCED if max(width, height) >= scale * SIDE), 1)
    pixels = _decode(data, _REDUCED.get(scale, cv2.IMREAD_COLOR)) if width * height > 0 else None
    if pixels is None:
        raise MediaError("There is no picture in this file.")
    return shrink_to_fit(pixels, SIDE)


def _decode(data: bytes, flags: int) -> Bgr | None:
    with suppress(cv2.error, MemoryError):
        # OpenCV returns None, although its type says that there is always an image.
        pixels: object = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if isinstance(pixels, np.ndarray) and pixels.size:
            return np.asarray(pixels, np.uint8)
    with suppress(ValueError, MemoryError):
        # Of a JPEG that is cut short OpenCV gives nothing, and this what there is: the very thing to be seen.
        return np.asarray(decode_jpeg(data, "BGR", min_height=SIDE, min_width=SIDE, strict=False), np.uint8)
    return None


def _jpeg_uri(pixels: Bgr) -> str:
    """Return the picture as a data URI, at the best quality that keeps it small."""
    encoded = b""
    for quality in _QUALITIES:
        encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(encoded) <= _MAX_PICTURE_BYTES:
            break
    return jpeg_data_uri(encoded)
