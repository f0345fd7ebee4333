"""Which format an archive is in, by what its files hold; a reader for each."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from tasks.dataset.archive import Archive
from tasks.dataset.entry_filter import parent_folder
from tasks.dataset.image_stats import is_image
from tasks.errors import StudioError
from tasks.importing import coco, cvat, datumaro, kitti, label_studio, labelme, open_images, plain_yolo, voc
from tasks.importing.annotations import AnnotatedImage, ImportLog
from tasks.importing.documents import DocumentError, read_json, read_xml
from tasks.importing.image_index import ImageIndex
from tasks.parameters import ImportParams

Reader = Callable[[Archive, Sequence[str], ImportLog], Iterator[AnnotatedImage]]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "coco": coco.read,
        "cvat": cvat.read,
        "label-studio": label_studio.read,
        "labelme": labelme.read,
        "open-images": open_images.read,
        "datumaro": datumaro.read,
        "kitti": kitti.read,
    }
)


class FormatError(StudioError):
    """An archive in no format that can be read, or in several."""


def recognize(archive: Archive, wanted: str | None, log: ImportLog) -> tuple[str, list[str]]:
    """Return the format of an archive and its annotation files; `wanted` decides between several.

    Raises:
        FormatError: There is no annotation file of a known format, or of the wanted one, or there are several formats.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    images = ImageIndex(archive.entries)
    for name in archive.entries:
        try:
            kind = _format_of(archive, name, images)
        except DocumentError as error:
            log.add(f"left out: a file that cannot be read: {error}", name)
            continue
        if kind:
            found[kind].append(name)
    if len(found) > 1:
        found.pop("yolo", None)  # a list of names or of images beside annotations is no label file
    known = ", ".join(("voc", "yolo", *READERS))
    if wanted and wanted in found:
        return wanted, found[wanted]
    if wanted or not found:
        raise FormatError(
            f"Expected annotations in format {wanted or f'{known}'}, found "
            f"{', '.join(found) or 'none'}. {'; '.join(log.counts) or 'Name the files as their tool does.'}"
        )
    if len(found) > 1:
        counts = ", ".join(f"{kind} ({len(names)} files, such as {names[0]})" for kind, names in found.items())
        raise FormatError(f"Expected annotations of one format, found {counts}. Set importing.format to the right one.")
    return next(iter(found.items()))


def list_unread(kind: str, archive: Archive, entries: Sequence[str]) -> list[str]:
    """Return the files that are no images, and that no reader of the annotation files `entries` looks at."""
    read = {*entries, *(plain_yolo.list_descriptions(archive) if kind == "yolo" else ())}
    return [name for name in archive.entries if not (name in read or is_image(name) or _is_beside_annotations(name))]


def _is_beside_annotations(name: str) -> bool:
    """Whether a file has names of classes or of the images of a subset."""
    known = {*plain_yolo.NAME_FILES, label_studio.CONFIGURATION}
    return name.rpartition("/")[2] in known or open_images.CLASS_NAMES in name or voc.IMAGE_SETS in name


def _format_of(archive: Archive, name: str, images: ImageIndex) -> str | None:
    ending = name.lower().rpartition(".")[2]
    folder, _, file = name.rpartition("/")
    if ending == "json":
        return _format_of_json(read_json(archive, name))
    if ending == "xml":
        return {"annotations": "cvat", "annotation": "voc"}.get(read_xml(archive, name).tag)
    if ending == "csv":
        return "open-images" if open_images.is_box_table(archive, name) else None
    if ending == "txt" and parent_folder(name).rpartition("/")[2] == kitti.FOLDER:
        return "kitti"
    if ending == "txt" and file not in plain_yolo.NAME_FILES and images.find(plain_yolo.image_path(name), folder):
        return "yolo"
    return None


def _format_of_json(document: object) -> str | None:
    if isinstance(document, list):
        return "label-studio" if document and label_studio.is_task(document[0]) else None
    if not isinstance(document, dict):
        return None
    if {"images", "categories"} <= document.keys():
        return "coco"
    if {"items", "categories"} <= document.keys():
        return "datumaro"
    return "labelme" if {"shapes", "imagePath"} <= document.keys() else None


def read_annotations(
    kind: str, archive: Archive, entries: Sequence[str], params: ImportParams, log: ImportLog
) -> Iterator[AnnotatedImage]:
    """Yield the images of annotation files of a format.

    Raises:
        StudioError: A file is not of the format.
    """
    if kind == "voc":
        return voc.read(archive, entries, log, params.first_pixel)
    if kind == "yolo":
        return plain_yolo.read(archive, entries, log, params.task)
    return READERS[kind](archive, entries, log)
