"""Whether Ultralytics loaded all that the merge wrote: it leaves out bad files and says so only in its log."""

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tasks.errors import StudioError
from tasks.merge.manifest import ImageCounts, count_rows, origin, read_manifest
from tasks.merge.written_files import label_path, list_images

_SHOWN = 5


class LostDataError(StudioError):
    """Images or labels were written and not loaded."""


def require_all_loaded(dataset: Any, data: Path, task: str, split: str) -> None:  # noqa: ANN401 - ultralytics ships no types
    """Check that an Ultralytics dataset holds the images and rows that the merge wrote for this split, if one did.

    Raises:
        LostDataError: Some are missing.
    """
    written = read_manifest(data).get(split)
    loaded = _loaded(dataset, task)
    if written is not None and written != loaded:
        folder = split if task == "classify" else Path(dataset.img_path).name
        changed = _changed(dataset, list_images(data, task, folder), task)
        raise LostDataError(_sentence(split, written, loaded, changed, _Reasons(data, task)))


@contextmanager
def explain_lost_data(data: Path, task: str) -> Iterator[None]:
    """Name the lost files if Ultralytics cannot even build a dataset in the block, as when no image is left.

    Raises:
        LostDataError: It could not, and these files are why.
    """
    try:
        yield
    except Exception as error:
        frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        is_loading = any(frame.f_code.co_name == "get_dataloader" for frame in frames)
        if is_loading and not isinstance(error, StudioError):
            reasons = _Reasons(data, task)
            for split, written in read_manifest(data).items():
                if lost := reasons.lost(list_images(data, task, reasons.folder(split))):
                    rows = sum((_rows(image, task) for image in lost), Counter[int]())
                    loaded = ImageCounts(written.images - len(lost), written.rows - rows)
                    raise LostDataError(_sentence(split, written, loaded, lost, reasons)) from error
        raise


def _loaded(dataset: Any, task: str) -> ImageCounts:  # noqa: ANN401
    if task == "classify":
        return ImageCounts(len(dataset.samples), Counter(sample[1] for sample in dataset.samples))
    classes = np.concatenate([np.zeros(0), *(label["cls"].ravel() for label in dataset.labels)])
    numbers, counts = np.unique(classes.astype(int), return_counts=True)
    return ImageCounts(len(dataset.labels), Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True))))


def _changed(dataset: Any, images: Sequence[Path], task: str) -> list[Path]:  # noqa: ANN401
    """The images that were not loaded with all their rows; names differ within a split, folders may be links."""
    if task == "classify":
        loaded = {Path(sample[0]).name for sample in dataset.samples}
        return [image for image in images if image.name not in loaded]
    rows = {Path(label["im_file"]).name: Counter(label["cls"].ravel().astype(int).tolist()) for label in dataset.labels}
    return [image for image in images if rows.get(image.name) != _rows(image, task)]


def _rows(image: Path, task: str) -> Counter[int]:
    if task == "classify":
        return Counter([int(image.parent.name)])
    label = label_path(image)
    return count_rows(label.read_text(encoding="utf-8")) if label.exists() else Counter()


class _Reasons:
    """Ultralytics' reasons for files that it does not load."""

    def __init__(self, data: Path, task: str) -> None:
        from ultralytics.data.utils import verify_image, verify_image_label

        self._task = task
        self._verify_image = verify_image
        self._verify_label = verify_image_label
        self._data_yaml = {} if task == "classify" else yaml.safe_load(data.read_text(encoding="utf-8"))

    def folder(self, split: str) -> str:
        """The folder with the images of a split: gold archives and views have val as train, too."""
        return Path(self._data_yaml.get(split, split)).name

    def lost(self, images: Sequence[Path]) -> list[Path]:
        """The images that Ultralytics leaves out."""
        with ThreadPoolExecutor() as pool:
            return [image for image, (ok, _) in zip(images, pool.map(self._verify, images), strict=True) if not ok]

    def reason(self, image: Path) -> str:
        """Ultralytics' message about an image, without its path."""
        message = self._verify(image)[1].removeprefix(f"{image}: ").replace(str(image), image.name).strip()
        return message.removeprefix("ignoring corrupt image/label: ") or "it gives no reason"

    def _verify(self, image: Path) -> tuple[bool, str]:
        if self._task == "classify":
            _, count, _, message = self._verify_image(((str(image), 0), ""))
            return bool(count), str(message)
        classes = len(self._data_yaml.get("names", ()))
        options = ("", self._task == "pose", classes, *self._data_yaml.get("kpt_shape", (0, 0)), False)
        answer = self._verify_label((str(image), str(label_path(image)), *options))
        return answer[0] is not None, str(answer[-1])


def _sentence(split: str, written: ImageCounts, loaded: ImageCounts, changed: Sequence[Path], reasons: _Reasons) -> str:
    named = "; ".join(f"{origin(image)}: {reasons.reason(image)}" for image in changed[:_SHOWN])
    more = f"; and {len(changed) - _SHOWN} more files" if len(changed) > _SHOWN else ""
    return (
        f"Expected Ultralytics to load all of split {split} as it was written, {_figures(written)}; found "
        f"{_figures(loaded)}. It does not take {named}{more}. Repair these files or take them out, together with their "
        f"labels, and upload the archive again."
    )


def _figures(tally: ImageCounts) -> str:
    return f"{tally.images} images with {tally.rows.total()} labels"
