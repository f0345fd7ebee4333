"""Where the images and labels of a merged dataset lie: what reads one needs to know no more of the merge."""

from pathlib import Path

from tasks.dataset.image_stats import is_image


def list_images(data: Path, task: str, split: str) -> list[Path]:
    """Return the images of a split of a written dataset, in the order of names; of a tree, class by class."""
    if task == "classify":
        tree = data.resolve() / split
        return [path for kind in sorted(tree.iterdir()) for path in sorted(kind.iterdir()) if is_image(path.name)]
    return [path for path in sorted((data.resolve().parent / "images" / split).iterdir()) if is_image(path.name)]


def label_path(image: Path) -> Path:
    """Return the path of an image's label, if it has one: `images/val/a.jpg` -> `labels/val/a.txt`."""
    return image.parents[2] / "labels" / image.parent.name / f"{image.stem}.txt"
