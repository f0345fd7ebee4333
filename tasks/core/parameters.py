"""What a person chooses when starting a flow.

Every rule that JSON schema can express is a field constraint, because the API refuses those before a run exists.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.codes import AdviceCode

ModelName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="Name in MLflow and in Triton.")
]

Archive = Annotated[str, Field(min_length=1, description="Key in bucket datasets, or an s3:// address.")]
Version = Annotated[int, Field(ge=1, description="Version number in MLflow.")]
BaseModelName = Annotated[
    str,
    Field(
        min_length=1,
        description="Key in bucket base-models, a version of the registry (models:/NAME@champion), an architecture "
        "(yolo11n.yaml), or official weights (yolo11n.pt).",
    ),
]
NamePattern = Annotated[str, Field(max_length=200, pattern=r"^[^{}*]*(\*[^{}*]*)?\{group\}[^{}*]*([^{}*]\*[^{}*]*)?$")]
ClassName = Annotated[str, Field(max_length=200, pattern=r"^[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]
Archives = Annotated[list[Archive], Field(min_length=1, description="Keys in bucket datasets, or s3:// addresses.")]
Inputs = Annotated[list[str], Field(min_length=1, description="Keys, prefixes/ or globs in bucket media, or s3://.")]


class Parameters(BaseModel):
    """Base of every parameter model: unknown fields are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ValidationPolicy(Parameters):
    """Limits and severities of the dataset check. The defaults suit a newcomer."""

    max_entries: int = Field(200_000, ge=1, description="Most entries an archive may have.")
    max_bytes: int = Field(200 * 2**30, ge=1, description="Most bytes an archive may unpack to.")
    max_ratio: float = Field(200.0, gt=1, description="Highest ratio of unpacked to packed size of an entry.")
    max_unlabelled_share: float = Field(
        0.5, ge=0, le=1, description="Share of images without labels that is still fine."
    )
    min_class_instances: int = Field(10, ge=0, description="Fewest labels in train that a class can be learnt from.")
    max_class_ratio: float = Field(
        50.0, ge=1, description="How many times the rarest class's labels the most frequent class may have."
    )
    imgsz: int = Field(640, ge=32, le=4096, description="Training size in pixels at which a label counts as tiny.")
    raise_to_error: tuple[AdviceCode, ...] = Field(
        (), description="Codes that make the archive invalid, also if ignored."
    )
    ignore: tuple[AdviceCode, ...] = Field((), description="Codes left out of the report; errors always stay in.")


class TrainingParams(Parameters):
    """Arguments of the Ultralytics trainer, under Ultralytics' own names, and what is done around it."""

    epochs: int = Field(100, ge=1, le=10_000, description="Times that every training image is seen.")
    imgsz: int = Field(640, ge=32, le=4096, multiple_of=32, description="Side of the square training image in pixels.")
    batch: int = Field(16, ge=1, le=4096, description="Images in one training step.")
    patience: int = Field(50, ge=0, description="Epochs without improvement before training stops; 0 never stops.")
    seed: int = Field(0, ge=0, description="The same seed and data give the same training on a CPU.")
    device: str | None = Field(
        None,
        pattern=r"^(cpu|\d+(,\d+)*)$",
        description="cpu, or the number of a GPU, or several as in 0,1. Empty takes the first GPU, or else the CPU.",
    )
    workers: int = Field(2, ge=0, le=64, description="Data loading processes; on a CPU Ultralytics uses none.")
    rehearse: bool = Field(
        True, description="Run the whole chain on a few images first, so that what would fail late fails at once."
    )


class MergePolicy(Parameters):
    """How several archives become one dataset."""

    classes: dict[str, ClassName | None] = Field(
        default_factory=dict,
        description="Class (or ARCHIVE:CLASS) found in an archive -> name in the merged dataset, or null to drop it.",
    )
    on_conflict: Literal["fail", "warn"] = Field(
        "warn", description="What to do where archives disagree about classes: stop before training, or say so."
    )
    boxes_from_polygons: bool = Field(
        False, description="Train detection on archives of polygons, on the boxes around them."
    )
    groups: tuple[NamePattern, ...] = Field(
        (), description="Images that share the text at {group} stay in one split, as in 'clip{group}-frame*.jpg'."
    )


class PromotionPolicy(Parameters):
    """What a new version must reach to become the challenger."""

    min_map50: float = Field(
        0.0, ge=0, le=1, description="Lowest mAP50 on the validation split that earns the alias; of trees the accuracy."
    )
    min_gain: float = Field(
        0.001,
        ge=-1,
        le=1,
        description="How much better than the champion's its mAP50-95 (of trees the accuracy) must be.",
    )
    max_class_drop: float = Field(
        0.05, ge=0, le=1, description="How much worse than the champion it may be at any one class."
    )
    gold: Archive | None = Field(
        None, description="Archive that is never trained on, on which both versions are compared as well."
    )


class ServingParams(Parameters):
    """How Triton runs the model."""

    precision: Literal["f32", "bf16"] = Field(
        "f32", description="Arithmetic of the served graph; bf16 needs a CPU with it."
    )
    instances: int = Field(1, ge=1, le=64, description="Copies of the model that answer side by side.")
    max_batch_size: int = Field(16, ge=1, le=256, description="Most images in one request.")
    drain_s: float = Field(
        10.0, ge=0, le=3600, description="The old version is dropped when nobody has asked it for this long."
    )
    drain_timeout_s: float = Field(
        600.0, ge=0, le=86400, description="An old version still in use after this long stays loaded."
    )
    load_timeout_s: float = Field(120.0, gt=0, le=3600, description="Time that loading may take.")


class InferenceParams(Parameters):
    """How detections are made and kept."""

    confidence: float = Field(0.25, ge=0, le=1, description="Detections below this score are dropped.")
    iou: float = Field(
        0.7,
        gt=0,
        le=0.7,
        description="Of two boxes of a class that overlap more, one stays; the served graph cuts at 0.7.",
    )
    annotate: bool = Field(True, description="Write images and videos with the boxes drawn.")
    in_flight: int = Field(4, ge=1, le=256, description="Requests to Triton at one time.")
    max_failure_share: float = Field(0.5, ge=0, le=1, description="Share of inputs that may fail before the run does.")
