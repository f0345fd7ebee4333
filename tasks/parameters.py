"""What a person chooses when starting a flow.

Every rule that JSON schema can express is a field constraint, because the API refuses those before a run exists.
"""

import re
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from tasks.finding_codes import AdviceCode
from tasks.parameter_form import arrange_schema

LIVE_MODEL = "predict"  # what live clients ask in Triton, beside the models that are deployed


# The server searches a text for a pattern and lets `$` stand before a last line break, pydantic does not, and
# PostgreSQL keeps no NUL. So what no text may hold is said by itself, in a way that all of them read alike.
UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
# A refusal says the description of the text, or that of what it may not be (infra/refusals.py).
_PLAIN: dict[str, JsonValue] = {
    "not": {
        "type": "string",
        "pattern": UNPRINTABLE,
        "description": "Text without control characters, such as line breaks. They are often copied along with a text: "
        "take them out.",
    }
}
_NOT_LIVE: dict[str, JsonValue] = {
    "const": LIVE_MODEL,
    "description": f"Another name than {LIVE_MODEL}. That one is the endpoint for live clients.",
}


def _plain(text: str) -> str:
    if re.search(UNPRINTABLE, text):
        raise ValueError(f"expected text without control characters such as line breaks, found {text!r}")
    return text


def _not_ours(name: str) -> str:
    if name == LIVE_MODEL:
        raise ValueError(f"expected another model name than {LIVE_MODEL!r}, which is the endpoint for live clients")
    return name


ModelName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="A name of letters, digits, _ and -, at most 63 characters, the first a letter or a digit "
        f"(blood-cells). MLflow and Triton know the model by it. The name {LIVE_MODEL} is taken.",
        json_schema_extra={"not": {"anyOf": [_NOT_LIVE, _PLAIN["not"]]}},
    ),
    AfterValidator(_plain),
    AfterValidator(_not_ours),
]

Text = Annotated[str, Field(json_schema_extra=_PLAIN), AfterValidator(_plain)]
Archive = Annotated[
    str,
    Field(
        min_length=1,
        description="An archive in bucket datasets (a.zip), or an s3:// address.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
DeployableVersion = Annotated[
    int,
    Field(
        ge=1,
        description="Number of the version in MLflow that is to be served. None takes the challenger, the newest one "
        "that its training promoted, or else the champion again.",
    ),
]
RollbackVersion = Annotated[
    int,
    Field(
        ge=1,
        description="Number of a version that was champion before and is to be it again. None takes the champion "
        "before the present one.",
    ),
]
BaseModelName = Annotated[
    str,
    Field(
        min_length=1,
        description="What to begin from: official weights (yolo11n.pt), an untrained architecture (yolo11n.yaml), a "
        "model of yours (models:/NAME@champion), or a file in bucket base-models.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
NamePattern = Annotated[
    str,
    Field(
        max_length=200,
        pattern=r"^[^{}*]*(\*[^{}*]*)?\{group\}[^{}*]*([^{}*]\*[^{}*]*)?$",
        description="A pattern of file names with {group} once, at most one * (any text) before it and one * after it, "
        "such as clip{group}-frame*.jpg. Between {group} and a * behind it there must be some other text.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
ClassName = Annotated[
    str,
    Field(
        max_length=200,
        pattern=r"^\S",
        description="A class name that is not empty and does not begin with a space. Null instead of a name drops the "
        "labels of the class.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
Archives = Annotated[
    list[Archive], Field(min_length=1, description="Archives in bucket datasets (a.zip), or their s3:// addresses.")
]
Device = Annotated[str, Field(pattern=r"^(cpu|[0-9]+(,[0-9]+)*)$", json_schema_extra=_PLAIN), AfterValidator(_plain)]
Folder = Annotated[str, Field(pattern=r"^/", max_length=200, json_schema_extra=_PLAIN), AfterValidator(_plain)]
Input = Annotated[
    Text,
    Field(description="A file (a.jpg), a folder (street/) or a pattern (*.mp4) in bucket media, or an s3:// address."),
]
Inputs = Annotated[
    list[Input],
    Field(
        min_length=1,
        description="Images, videos and zips of images: files (a.jpg), folders (street/) or patterns (*.mp4) in bucket "
        "media, or their s3:// addresses.",
    ),
]


class Parameters(BaseModel):
    """Base of every parameter model: unknown fields are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=arrange_schema)


class ValidationPolicy(Parameters):
    """Limits and severities of the dataset check. The defaults suit a newcomer."""

    max_entries: int = Field(200_000, ge=1, description="Most files an archive may hold.")
    max_bytes: int = Field(200 * 2**30, ge=1, description="Most bytes an archive may unpack to.")
    max_ratio: float = Field(200.0, gt=1, description="How many times its packed size a file may unpack to.")
    max_unlabelled_share: float = Field(
        0.5, ge=0, le=1, description="Share of images without labels that is still fine."
    )
    min_class_instances: int = Field(10, ge=0, description="Fewest labels in train that a class can be learnt from.")
    max_class_ratio: float = Field(
        50.0, ge=1, description="How many times the rarest class's labels the most frequent class may have."
    )
    imgsz: int = Field(640, ge=32, le=4096, description="Training size in pixels at which a label counts as tiny.")
    raise_to_error: tuple[AdviceCode, ...] = Field(
        (), description="Codes of findings that are to make the archive invalid, also if ignored."
    )
    ignore: tuple[AdviceCode, ...] = Field(
        (), description="Codes of findings to leave out of the report; errors always stay in."
    )


class TrainingParams(Parameters):
    """Arguments of the Ultralytics trainer, under Ultralytics' own names, and what is done around it."""

    epochs: int = Field(100, ge=1, le=10_000, description="Times that every training image is seen.")
    imgsz: int = Field(640, ge=32, le=4096, multiple_of=32, description="Side of the square training image in pixels.")
    batch: int = Field(16, ge=1, le=4096, description="Images in one training step, of all GPUs together.")
    patience: int = Field(50, ge=0, description="Epochs without improvement before training stops; 0 never stops.")
    seed: int = Field(
        0, ge=0, description="Start of the random numbers: the same seed and data give the same training on a CPU."
    )
    device: Device | None = Field(
        None,
        description="cpu, the number of a GPU (0), or several with commas (0,1). None takes the first GPU, or "
        "else the CPU.",
    )
    workers: int = Field(2, ge=0, le=64, description="Data loading processes; on a CPU Ultralytics uses none.")
    rehearse: bool = Field(
        True, description="Run the whole chain on a few images first, so that what would fail late fails at once."
    )


class MergePolicy(Parameters):
    """How several archives become one dataset."""

    classes: dict[Text, ClassName | None] = Field(
        default_factory=dict,
        description='Other names for classes: {"cat": "animal", "a.zip:dog": null} calls every cat an animal, and '
        "drops the dogs of a.zip.",
    )
    on_conflict: Literal["fail", "warn"] = Field(
        "warn",
        description="Where archives disagree about classes: fail stops before training, warn says so and goes on.",
    )
    boxes_from_polygons: bool = Field(
        False, description="Train a detector on archives of polygons: on the boxes around them."
    )
    groups: tuple[NamePattern, ...] = Field(
        (),
        description="Patterns of file names: images with the same text at {group} stay in one split, so that "
        "clip{group}-frame*.jpg keeps the frames of a clip together. {group} stands once, * is any text.",
    )


class PromotionPolicy(Parameters):
    """What a new version must reach to become the challenger."""

    min_map50: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Lowest mAP50 (how well objects are found; of classification the accuracy) on the validation "
        "split. None: 0.1 for a first version; once there is a champion, only the comparison with it counts.",
    )
    min_gain: float = Field(
        0.001,
        ge=-1,
        le=1,
        description="How much better than the champion's its mAP50-95 (of classification the accuracy) must be.",
    )
    max_class_drop: float = Field(
        0.05, ge=0, le=1, description="How much worse than the champion it may be at any one class."
    )
    gold: Archive | None = Field(
        None,
        description="An archive that is never trained on; the new version and the champion are compared on it as well.",
    )


class ParityPolicy(Parameters):
    """How like its weights the served model must be on the sample of the validation split."""

    min_agreement: float = Field(
        0.99,
        ge=0,
        le=1,
        description="Share of what the weights and the served model find that the other must find, too.",
    )
    min_confidence: float = Field(0.3, gt=0, le=1, description="Detections below this score are not judged.")
    min_iou: float = Field(0.9, gt=0, le=1, description="Overlap that two partners must have, masks too.")
    max_score_difference: float = Field(0.03, gt=0, le=1, description="How much the scores of two partners may differ.")
    max_map_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="How much lower the served model's mAP50-95 (of classification the accuracy) may be.",
    )
    min_detections: int = Field(
        100,
        ge=1,
        description="Where the weights find fewer than so many above min_confidence, it is lowered until they do, and "
        "max_score_difference in proportion.",
    )
    min_weak_agreement: float = Field(
        0.95, ge=0, le=1, description="The share that must have a partner where min_confidence had to be lowered."
    )


class CanaryParams(Parameters):
    """A trial of the new version on a share of the inference runs, before clients get it."""

    share: float = Field(0.1, gt=0, lt=1, description="Share of the runs of run-inference that get the new version.")
    minutes: float = Field(10.0, gt=0, le=10_080, description="Minutes that it lasts at most.")
    images: int = Field(
        0, ge=0, description="It ends when both have answered for so many images. 0: not before its time."
    )
    min_images: int = Field(20, ge=1, description="Images that each version must have answered for to be compared.")
    max_failure_rise: float = Field(0.01, ge=0, le=1, description="How much its share of failed requests may rise.")
    max_slowdown: float = Field(1.5, ge=1, description="How many times as long as the champion's its requests take.")
    max_change: float = Field(
        0.5, ge=0, description="How much more or less it may find in an image, as a share of what the champion finds."
    )


class ServingParams(Parameters):
    """How Triton runs the model."""

    backend: Literal["python", "onnxruntime"] = Field(
        "python",
        description="What runs the model: python in every Triton, onnxruntime (TensorRT on a GPU) in its containers.",
    )
    precision: Literal["f32", "f16", "bf16"] = Field(
        "f32",
        description="Numbers that the served model computes with: f16 and bf16 may be faster and a little less exact. "
        "Backend python takes f32 on a GPU and where the CPU lacks the others, backend onnxruntime f32 or f16.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads of each copy of the model. 0 takes all cores; backend python shares them out.",
    )
    engine_cache: Folder = Field(
        "/tmp",  # noqa: S108  # inside Triton's container
        description="An existing folder on Triton's machine, written from the root (/var/cache/engines). TensorRT "
        "keeps there what it builds.",
    )
    instances: int = Field(1, ge=1, le=64, description="Copies of the model that answer side by side.")
    max_batch_size: int = Field(16, ge=1, le=256, description="Most images in one request.")
    drain_s: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Seconds for which the former champion goes on answering those who name it, where its number is "
        "lower.",
    )
    drain_timeout_s: float = Field(
        600.0,
        ge=0,
        le=86400,
        description="Seconds for which runs of inference that began with the former champion may go on with it.",
    )
    load_timeout_s: float = Field(120.0, gt=0, le=3600, description="Seconds that loading may take.")
    parity: ParityPolicy | None = Field(
        ParityPolicy(),
        description="How like its weights the served model must be before clients get it. None compares nothing.",
    )
    canary: CanaryParams | None = Field(None, description="Try the new version on a share of inference first.")


class TileParams(Parameters):
    """Small objects: each image is cut into overlapping squares that the model sees in its own size."""

    size: int = Field(0, ge=0, le=8192, description="Side of a tile in pixels of the image; 0: the model's image size.")
    overlap: float = Field(0.2, ge=0, le=0.8, description="Share of its side by which a tile covers the next one.")
    whole: bool = Field(True, description="Ask about the whole image, too: what is larger than a tile is found there.")


class Shard(Parameters):
    """A share of another run's work."""

    run: UUID = Field(
        description="The id of the flow run that it is a part of, as in the address of that run's page (8, 4, 4, 4 "
        "and 12 digits and letters a to f).",
        json_schema_extra={"pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", "maxLength": 36},
    )
    number: int = Field(ge=1, le=64, description="Which share, counted from 1.")
    of: int = Field(ge=1, le=64, description="How many there are.")


class InferenceParams(Parameters):
    """How detections are made and kept."""

    confidence: float = Field(0.25, ge=0, le=1, description="Detections below this score are dropped.")
    class_confidence: dict[Text, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description='The same for single classes: {"car": 0.6}.'
    )
    iou: float = Field(
        0.7,
        gt=0,
        le=0.7,
        description="Of two boxes of a class that overlap by more than this share, one stays.",
    )
    tiles: TileParams | None = Field(None, description="Look at images in tiles, too, to find small objects.")
    frame_step: int = Field(
        1, ge=1, le=1_000_000, description="Of a video, look at one frame in so many: 1 looks at all."
    )
    track: bool = Field(False, description="Follow objects through a video (ByteTrack): column track_id.")
    annotate: bool = Field(True, description="Write images and videos with what was found drawn.")
    images: bool | None = Field(
        None,
        description="Keep plain copies of the images, with YOLO labels, beside coco.json, so that other tools load the "
        "run's folder. None: as annotate.",
    )
    image_frames: int = Field(
        0, ge=0, description="Of each video, keep so many of the frames that are looked at as such images, a JPEG each."
    )
    in_flight: int = Field(
        0, ge=0, le=256, description="Requests to Triton at one time; 0: two a core of the worker, at least 4."
    )
    shards: int = Field(1, ge=1, le=64, description="Runs of this deployment that share the work.")
    shard: Shard | None = Field(None, description="Filled in by a run that shares its work; leave it at None.")
    max_failure_share: float = Field(
        0.5, ge=0, le=1, description="Share of inputs that may fail; with more, the run does."
    )

    @property
    def keeps_images(self) -> bool:
        """Whether plain copies are kept."""
        return self.annotate if self.images is None else self.images
