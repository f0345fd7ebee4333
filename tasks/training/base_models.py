"""The models of the pinned Ultralytics by name: which of them a training may start from, and why not the others."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.errors import StudioError, expected_found_fix, safe_repr

SUFFIXES = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose", "obb": "-obb"}
_TEXT = "Its training needs CLIP, a package that Ultralytics would install from GitHub while it runs"
_NO_TRAINING = "Ultralytics cannot train it"


@dataclass(frozen=True, kw_only=True)
class ModelFamily:
    """A family of models: regular expressions of its architectures (.yaml) and official weights (.pt), without ending.

    Each of `examples`, which are architectures, can be trained, exported and served; with a `refusal` none can.
    """

    name: str
    architectures: str = "(?!)"
    weights: str = "(?!)"
    examples: Sequence[str] = ()
    refusal: str = ""

    def has(self, name: str) -> bool:
        """Return whether a file name such as `yolo11n.yaml` or `yolo11n.pt` is one of this family."""
        return bool(re.fullmatch(rf"({self.architectures})\.yaml|({self.weights})\.pt", name))


FAMILIES = (
    ModelFamily(
        name="YOLO26",
        architectures="yolo26[nsmlx]?(-(seg|cls|pose|obb|p2|p6))?",
        weights="yolo26[nsmlx](-(seg|cls|pose|obb))?",
        examples=("yolo26n", "yolo26n-seg", "yolo26n-cls", "yolo26n-pose", "yolo26n-obb", "yolo26n-p2", "yolo26n-p6"),
    ),
    ModelFamily(
        name="YOLO12",
        architectures="yolo12[nsmlx]?(-(seg|cls|pose|obb))?",
        weights="yolo12[nsmlx]",
        examples=("yolo12n", "yolo12n-seg", "yolo12n-cls", "yolo12n-pose", "yolo12n-obb"),
    ),
    ModelFamily(
        name="YOLO11",
        architectures="yolo11[nsmlx]?(-(seg|cls|pose|obb))?",
        weights="yolo11[nsmlx](-(seg|cls|pose|obb))?",
        examples=("yolo11n", "yolo11n-seg", "yolo11n-cls", "yolo11n-pose", "yolo11n-obb"),
    ),
    ModelFamily(
        name="YOLOv10",
        architectures="yolov10[nsmblx]",
        weights="yolov10[nsmblx]",
        examples=("yolov10n",),
    ),
    ModelFamily(
        name="YOLOv9",
        architectures="yolov9([tsmce]|[ce]-seg)",
        weights="yolov9([tsmce]|[ce]-seg)",
        examples=("yolov9t", "yolov9c-seg"),
    ),
    ModelFamily(
        name="YOLOv8",
        architectures="yolov8[nsmlx]?(-(seg|pose)(-p6)?|-(ghost-)?(p2|p6)|-ghost|-obb|-cls(-resnet(50|101))?)?",
        weights="yolov8[nsmlx](-(seg|cls|pose|obb|oiv7))?|yolov8x-pose-p6",
        examples=(
            *("yolov8n", "yolov8n-seg", "yolov8n-cls", "yolov8n-pose", "yolov8n-obb", "yolov8n-p2", "yolov8n-p6"),
            *("yolov8n-ghost", "yolov8n-ghost-p2", "yolov8n-ghost-p6", "yolov8n-seg-p6", "yolov8n-pose-p6"),
            *("yolov8n-cls-resnet50", "yolov8n-cls-resnet101"),
        ),
    ),
    ModelFamily(name="YOLOv6", architectures="yolov6[nsmlx]?", examples=("yolov6n",)),
    ModelFamily(
        name="YOLOv5",
        architectures="yolov5[nsmlx]?(-p6)?",
        weights="yolov5[nsmlx]6?u",
        examples=("yolov5n", "yolov5n-p6"),
    ),
    ModelFamily(
        name="YOLOv3",
        architectures="yolov3(-spp|-tiny)?",
        weights="yolov3(-spp|-tiny)?u",
        examples=("yolov3", "yolov3-spp", "yolov3-tiny"),
    ),
    ModelFamily(
        name="RT-DETR",
        architectures=r"rtdetr-\w+|yolov8[nsmlx]?-rtdetr",
        weights="rtdetr-[lx]",
        refusal="It is trained on images that are stretched to a square, and what is served gets letterboxed ones",
    ),
    ModelFamily(
        name="YOLO-World",
        architectures="yolov8[nsmlx]?-world(v2)?",
        weights="yolov8[smlx]-world(v2)?",
        refusal=_TEXT,
    ),
    ModelFamily(
        name="YOLOE",
        architectures="yoloe-(11|26|v8)[nsmlx]?(-seg)?",
        weights="yoloe-(11|26|v8)[nsmlx]-seg(-pf)?",
        refusal=_TEXT,
    ),
    ModelFamily(
        name="YOLO26 of other tasks",
        architectures="yolo26[nsmlx]?-(sem|depth)",
        weights="yolo26[nsmlx]-(sem|depth|sem-ade20k|reid)",
        refusal=f"Its task is none of {', '.join(SUFFIXES)}",
    ),
    ModelFamily(
        name="YOLO26 Objects365, distilled",
        weights="yolo26[nsmlx]-(objv1-150|objv1-seg|distill)",
        refusal="Nobody has tried these weights here",
    ),
    ModelFamily(
        name="YOLO11 with a backbone of torchvision",
        architectures=r"yolo11[nsmlx]?-cls-resnet18",
        refusal="torchvision would download weights whenever the model is built, and nothing would check them",
    ),
    ModelFamily(
        name="YOLO11 for grey images", weights="yolo11n-grayscale", refusal="Images are served with three channels"
    ),
    ModelFamily(name="YOLO-NAS", weights="yolo_nas_[sml]", refusal=_NO_TRAINING),
    ModelFamily(name="SAM, FastSAM", weights=r"(mobile_)?sam(2|2\.1)?(_\w+)?|FastSAM-\w", refusal=_NO_TRAINING),
)


def task_of(name: str) -> str:
    """Return the task of an architecture of `FAMILIES` by its name."""
    return next((task for task, suffix in SUFFIXES.items() if suffix and suffix in name), "detect")


class BaseModelError(StudioError):
    """A base model of a name that nobody knows, or from which nothing can be trained."""


def is_known(name: str) -> bool:
    """Return whether a name is an architecture or official weights of Ultralytics, refused ones included."""
    return any(family.has(name) for family in FAMILIES)


def require_official(name: str) -> None:
    """Check that a name is an architecture or official weights of Ultralytics, from which a training may start.

    Raises:
        BaseModelError: It is none, or one that is refused; the message says why.
    """
    family = next((each for each in FAMILIES if each.has(name)), None)
    if family is None:
        raise BaseModelError(
            expected_found_fix(
                "base_model to be an object in bucket 'base-models', a version of this registry such as "
                "'models:/NAME@champion', an Ultralytics architecture such as 'yolo11n.yaml', or official weights such "
                "as 'yolo11n.pt'",
                f"{safe_repr(name)}, which is none of them",
                "Upload weights that you trust to bucket 'base-models' and name their key.",
            )
        )
    if family.refusal:
        raise BaseModelError(
            expected_found_fix(
                "a model that can be trained and served here",
                f"{safe_repr(name)} ({family.name}). {family.refusal}",
                "Name a model such as yolo26n.pt or yolo11n.pt.",
            )
        )
