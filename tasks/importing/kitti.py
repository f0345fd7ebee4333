"""KITTI: a text file an image in `label_2`, a line an object: class, flags, a box in the image and one in space."""

from collections.abc import Iterator, Sequence

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.importing.annotations import AnnotatedImage, Box, ImportLog
from tasks.importing.documents import DocumentError, read_text, to_number
from tasks.importing.image_index import subset_of_image

COLUMNS = (15, 16)  # with a score
FOLDER = "label_2"
_IMAGES = "image_2"  # of the left camera; image_3, of the right one, has files of the same names


def read(archive: Archive, entries: Sequence[str], log: ImportLog) -> Iterator[AnnotatedImage]:
    """Yield the image of each text file of labels."""
    for name in entries:
        try:
            lines = read_text(archive, name).splitlines()
        except DocumentError as error:
            log.add(f"left out: a file that cannot be read: {error}", name)
            continue
        shapes = []
        for line in lines:
            words = line.split()
            numbers = [to_number(word) for word in words[1:8]]
            if not words:
                continue
            if len(words) not in COLUMNS or None in numbers:
                log.add("left out: a line that is not of KITTI (a class without blanks, and 14 numbers)", name)
            elif words[0] == "DontCare":
                log.add("left out: a region DontCare, which is no object", name)
            else:
                left, top, right, bottom = (float(number or 0) for number in numbers[3:])
                shapes.append(Box(class_name=words[0], corners=(left, top, right, bottom)))
                for kind, flag in zip(("truncated", "occluded"), numbers[:2], strict=True):
                    if flag:
                        log.add(f"not kept: flag {kind}", name)
                log.add("not kept: the box in space (size, place, angle)", name)
        folder = parent_folder(name)
        image = f"{parent_folder(folder)}/{_IMAGES}/{name.rpartition('/')[2].rpartition('.')[0]}".removeprefix("/")
        lost = sum(map(bool, map(str.strip, lines))) - len(shapes)
        yield AnnotatedImage(name=image, folder=folder, subset=subset_of_image(name), shapes=shapes, lost=lost)
