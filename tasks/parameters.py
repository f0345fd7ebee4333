"""The parameters of all flows.

A rule that JSON schema can express is a constraint of a field: the API then refuses a bad value before a run exists.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, create_model, model_validator

from tasks.finding_codes import AdviceCode
from tasks.parameter_form import arrange_schema
from tasks.training_arguments import IDLE_WITH_AUTO, REFUSED, read_training_arguments

MAX_ARCHIVES = 500  # of a pipeline
DEFAULT_CONFIDENCE = 0.25
LEAST_MONITORED = 10  # images: a test of fewer tells nothing
MAX_SEED = 2**31 - 1  # NumPy takes twice as many, and the number of an image or of a GPU is added
LIVE_MODEL = "predict"  # the endpoint for live clients in Triton, beside the deployed models

# To the server `$` in a pattern also stands before a last line break, to pydantic it does not, and PostgreSQL stores no
# NUL. So the characters that no text may have are a rule of their own, which all of them read in one way.
UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
# A refusal shows the description of the field, or of its `not` (infra/refusals.py).
_PLAIN: dict[str, JsonValue] = {
    "not": {
        "type": "string",
        "pattern": UNPRINTABLE,
        "description": "Text without control characters, such as line breaks. They often come along with copied text: "
        "remove them.",
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
SourceArchive = Annotated[
    str,
    Field(
        min_length=1,
        description="An archive in the format of another tool: a key in bucket datasets (sources/a.zip), or an s3:// "
        "address.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
NewArchive = Annotated[
    str,
    Field(
        pattern=r"\.[zZ][iI][pP]$",
        description="The archive to make: a name in bucket datasets (a.zip) that no other archive has.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
DeployableVersion = Annotated[
    int,
    Field(
        ge=1,
        description="Number of the version in MLflow to serve. None takes the challenger, which is the newest version "
        "that its training promoted, or else the champion again.",
    ),
]
RollbackVersion = Annotated[
    int,
    Field(
        ge=1,
        description="Number of an earlier champion that becomes champion again. None takes the champion before the "
        "present one.",
    ),
]
Split = Annotated[
    Literal["train", "val", "test", "all"],
    Field(description="The split of the archive to measure on; all takes all its images, as of a gold archive."),
]
EvaluatedVersions = Annotated[
    list[Annotated[int, Field(ge=1)]],
    Field(
        min_length=1,
        max_length=8,
        description="Numbers of versions in MLflow, the one to judge first; the page shows the others beside it. None "
        "takes the champion.",
    ),
]
JudgingVersion = Annotated[
    int, Field(ge=1, description="Number of the version in MLflow that judges the labels. None takes the champion.")
]
DeletableArchive = Annotated[
    str,
    Field(
        min_length=1,
        description="An archive in bucket datasets (a.zip, or s3://datasets/a.zip).",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
Force = Annotated[bool, Field(description="Delete it although something names it; what is in use stays all the same.")]
DeletableVersion = Annotated[int, Field(ge=1, description="Number of the version in MLflow.")]
DeletableRun = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        description="Id of the run of run-inference, by which its folder in bucket predictions is named.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
BaseModelName = Annotated[
    str,
    Field(
        min_length=1,
        description="The model to start from: official weights (yolo11n.pt), an untrained architecture "
        "(yolo11n.yaml), one of your models (models:/NAME@champion), or a file in bucket base-models.",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
LoopBaseModel = Annotated[
    BaseModelName | None,
    Field(description="The model to start from, as train-model takes it. None takes what the champion began from."),
]
WeightsName = Annotated[
    str,
    Field(
        min_length=1,
        description="The weights to register: a file in bucket base-models (old.pt), or official weights (yolo11n.pt).",
        json_schema_extra=_PLAIN,
    ),
    AfterValidator(_plain),
]
MeasuredArchive = Annotated[
    Archive,
    Field(
        description="An archive in bucket datasets (a.zip), or an s3:// address, on whose split val the weights are "
        "measured and compared with the champion. None registers them without scores."
    ),
]
MaxChecks = Annotated[
    int,
    Field(
        ge=1,
        le=10_000,
        description="Most checks that one watch starts; the next watch starts more. 1 to 10000.",
    ),
]
NamePattern = Annotated[
    str,
    Field(
        max_length=200,
        pattern=r"^[^{}*]*(\*[^{}*]*)?\{group\}[^{}*]*([^{}*]\*[^{}*]*)?$",
        description="A pattern of file names with {group} once, at most one * (any text) before it and one * after it, "
        "such as clip{group}-frame*.jpg. Between {group} and a * after it there must be other text.",
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
PipelineArchives = Annotated[
    list[Archive],
    Field(
        min_length=1,
        max_length=MAX_ARCHIVES,
        description="Archives in bucket datasets: names (a.zip), patterns (shapes-*.zip), or their s3:// addresses; "
        "champion+ stands for the archives of the present champion, so that the model does not forget.",
    ),
]
Device = Annotated[str, Field(pattern=r"^(cpu|[0-9]+(,[0-9]+)*)$", json_schema_extra=_PLAIN), AfterValidator(_plain)]
OneDevice = Annotated[
    Device | None,
    Field(description="cpu, or the number of a GPU (0). None takes the first GPU, or else the CPU."),
]
SplitGroups = Annotated[
    tuple[NamePattern, ...],
    Field(
        description="Patterns of file names: images with the same text at {group} stay in one split, so "
        "clip{group}-frame*.jpg keeps the frames of a clip together. {group} occurs once, * is any text.",
    ),
]
Folder = Annotated[str, Field(pattern=r"^/", max_length=200, json_schema_extra=_PLAIN), AfterValidator(_plain)]
Input = Annotated[
    Text,
    Field(
        description="A file (a.jpg), a folder (street/) or a pattern (*.mp4) in bucket media, an s3:// address, or "
        "run:ID for the images of an earlier run."
    ),
]
Inputs = Annotated[
    list[Input],
    Field(
        min_length=1,
        description="Images, videos and zips of images: files (a.jpg), folders (street/) or patterns (*.mp4) in bucket "
        "media, their s3:// addresses, or run:ID for the images of an earlier run.",
    ),
]
PipelineInputs = Annotated[
    list[Input],
    Field(
        description="What the new champion detects on at the end: files (a.jpg), folders (street/) or patterns (*.mp4) "
        "in bucket media, or their s3:// addresses. Empty: nothing.",
    ),
]


class Parameters(BaseModel):
    """Base of every parameter model: unknown fields are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=arrange_schema)


class ValidationPolicy(Parameters):
    """Limits and severities of the dataset check."""

    max_entries: int = Field(200_000, ge=1, description="Most files in an archive.")
    max_bytes: int = Field(200 * 2**30, ge=1, description="Most bytes of an unpacked archive.")
    max_ratio: float = Field(200.0, gt=1, description="Most bytes of an unpacked file for each packed byte.")
    max_unlabelled_share: float = Field(0.5, ge=0, le=1, description="Largest share of images without labels.")
    min_class_instances: int = Field(10, ge=0, description="Fewest labels of a class in train.")
    max_class_ratio: float = Field(
        50.0, ge=1, description="Most labels of the most frequent class for each label of the rarest."
    )
    imgsz: int = Field(640, ge=32, le=4096, description="Training image size in pixels, by which labels count as tiny.")
    raise_to_error: tuple[AdviceCode, ...] = Field(
        (), description="Codes of findings that make the archive invalid, also if they are ignored."
    )
    ignore: tuple[AdviceCode, ...] = Field(
        (), description="Codes of findings to leave out of the report; errors always stay."
    )


def _refuse_arguments(schema: dict[str, Any]) -> None:
    arrange_schema(schema)
    refused = [{"const": name, "description": f"Another argument. {reason}."} for name, reason in REFUSED.items()]
    schema["propertyNames"] = {"not": {"anyOf": refused}}
    schema["not"] = {"anyOf": [_idle_with_auto(name) for name in sorted(IDLE_WITH_AUTO)]}


def _idle_with_auto(name: str) -> dict[str, Any]:
    """The schema of overrides in which `name` has no effect."""
    return {
        "description": f"An optimizer other than auto, which chooses {name} itself. Set optimizer, such as AdamW.",
        "required": [name],
        "properties": {name: {"not": {"type": "null"}}, "optimizer": {"enum": [None, "auto"]}},
    }


_ARGUMENTS: dict[str, Any] = {
    each.name: (each.type | None, Field(None, description=each.description)) for each in read_training_arguments()
}
_TrainingArguments: Any = create_model("_TrainingArguments", __base__=Parameters, **_ARGUMENTS)


class TrainingOverrides(_TrainingArguments):
    """Other arguments of the Ultralytics trainer; those that are None keep its default."""

    model_config = ConfigDict(json_schema_extra=_refuse_arguments)

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:  # noqa: ANN401 - anything at all
        for name in given if isinstance(given, dict) else ():
            if name in REFUSED:
                raise ValueError(f"expected another argument, found {name!r}. {REFUSED[name]}.")
        return given

    @model_validator(mode="after")
    def _have_effect(self) -> Self:
        chosen = self.model_dump(exclude_none=True)
        if chosen.get("optimizer", "auto") == "auto" and (idle := sorted(IDLE_WITH_AUTO & chosen.keys())):
            raise ValueError(
                f"expected an optimizer for {', '.join(idle)}, found auto, which chooses these itself. "
                "Set optimizer, such as AdamW."
            )
        return self


class ImportParams(Parameters):
    """How an archive in the format of another tool becomes a YOLO archive."""

    format: (
        Literal["coco", "voc", "cvat", "label-studio", "labelme", "open-images", "datumaro", "kitti", "yolo"] | None
    ) = Field(None, description="The format. None recognizes it by what the files hold.")
    task: Literal["detect", "segment", "classify", "pose", "obb"] | None = Field(
        None, description="What the labels are for. None takes the task that most objects are labelled for."
    )
    split: Literal["keep", "new"] = Field(
        "keep",
        description="keep takes train, val and test as the source has them, and places images that are in none; new "
        "places all images.",
    )
    val: float = Field(
        0.2,
        ge=0,
        le=0.5,
        description="Share of the images that a new split puts into val. An archive without val is valid only if a "
        "model has helped to label all of it.",
    )
    test: float = Field(0.0, ge=0, le=0.4, description="Share of the images that a new split puts into test.")
    seed: int = Field(0, ge=0, description="Seed of a new split: the same seed and data give the same split.")
    groups: tuple[NamePattern, ...] = Field(
        (),
        description="Patterns of file names: a new split keeps images with the same text at {group} together, so "
        "clip{group}-frame*.jpg keeps the frames of a clip together. {group} occurs once, * is any text.",
    )
    background: bool = Field(
        False, description="Take images that no annotation names as background; else they are left out."
    )
    first_pixel: Literal["auto", "0", "1"] = Field(
        "auto",
        description="How the tool of Pascal VOC files counts pixels. auto takes 1 for the VOC "
        "challenges and supervision, else 0.",
    )


class TrainingParams(Parameters):
    """Arguments of the Ultralytics trainer, under its own names, and of the steps around it."""

    epochs: int = Field(100, ge=1, le=10_000, description="Passes over all training images.")
    imgsz: int = Field(640, ge=32, le=4096, multiple_of=32, description="Side of the square training image in pixels.")
    batch: int = Field(16, ge=1, le=4096, description="Images in one training step, over all GPUs.")
    patience: int = Field(50, ge=0, description="Epochs without improvement before training stops; 0 never stops.")
    seed: int = Field(
        0,
        ge=0,
        le=MAX_SEED,
        description="Seed of the random numbers: on a CPU the same seed and data give the same training.",
    )
    device: Device | None = Field(
        None,
        description="cpu, the number of a GPU (0), or several with commas (0,1). None takes the first GPU, or "
        "else the CPU.",
    )
    workers: int = Field(2, ge=0, le=64, description="Processes that load data; on a CPU Ultralytics uses none.")
    cache: Literal["auto", "disk", "none"] = Field(
        "auto",
        description="Whether images are decoded once and not in each epoch: disk keeps them decoded on the disk of the "
        "run, auto does so where it saves time and there is room, none never does. The training is the same one.",
    )
    pseudo_weight: float = Field(
        1.0,
        ge=0,
        le=1,
        description="How often an image whose labels a model has made is seen, for each time that one of a person is: "
        "1 makes no difference, 0 leaves them out.",
    )
    rehearse: bool = Field(
        True, description="Run all steps on a few images first, so that an error comes at once and not after hours."
    )
    overrides: TrainingOverrides = Field(
        default_factory=TrainingOverrides,
        description="Other arguments of the Ultralytics trainer, such as lr0 or mosaic, in place of its defaults.",
    )

    @property
    def chosen_overrides(self) -> dict[str, Any]:
        """The arguments of Ultralytics in `overrides` that are set, by name."""
        return self.overrides.model_dump(exclude_none=True)

    def flat(self) -> dict[str, Any]:
        """Return all values by name, those of `overrides` that are set as `overrides.NAME`."""
        own = self.model_dump(exclude={"overrides"})
        return own | {f"overrides.{name}": value for name, value in self.chosen_overrides.items()}


LoopTraining = Annotated[
    TrainingParams | None,
    Field(
        description="How the next version is trained: only the fields that you name differ from the training of the "
        "champion. None trains as the champion was trained."
    ),
]


class MergePolicy(Parameters):
    """How several archives become one dataset."""

    classes: dict[Text, ClassName | None] = Field(
        default_factory=dict,
        description='Other names for classes: {"cat": "animal", "a.zip:dog": null} calls every cat an animal, and '
        "drops the dogs of a.zip; * stands for each class that is not named. Classes of one name are the same in all "
        "archives: merge.partial_labels masks nothing between them.",
    )
    on_conflict: Literal["fail", "warn"] = Field(
        "warn",
        description="If archives disagree about classes, fail stops before training, and warn logs it and continues.",
    )
    partial_labels: Literal["mask", "warn", "fail"] = Field(
        "mask",
        description="If archives label different classes: mask trains and measures a class on the images of archives "
        "that label it, warn takes what is not labelled for background, fail stops before training. An archive labels "
        "the classes that its data.yaml names.",
    )
    boxes_from_polygons: bool = Field(
        False, description="Train a detector on the boxes around the polygons of archives."
    )
    groups: SplitGroups = ()


LoopMerge = Annotated[
    MergePolicy | None,
    Field(
        description="How the archives become one dataset: only the fields that you name differ from the merge of the "
        "champion. None merges as for the champion."
    ),
]


class PromotionPolicy(Parameters):
    """What a new version must reach to become the challenger."""

    min_map50: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Lowest mAP50 (for classification: accuracy) on the validation split. None takes 0.1 for a first "
        "version; if there is a champion, only the comparison with it counts.",
    )
    min_gain: float = Field(
        0.001, ge=-1, le=1, description="Least gain in mAP50-95 (for classification: accuracy) over the champion."
    )
    max_class_drop: float = Field(0.05, ge=0, le=1, description="Largest loss of a single class against the champion.")
    max_corruption_drop: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest loss against the champion in the mean of mAP50-95 (for classification: accuracy) over "
        "validation images with 15 corruptions at 3 strengths: noise, blur, weather, compression. None does not "
        "measure it; it takes minutes.",
    )
    gold: Archive | None = Field(
        None, description="An archive that is never used for training; both versions are also compared on it."
    )


class EvaluationParams(Parameters):
    """What is measured of a version, and what its thresholds are for."""

    also: tuple[Archive, ...] = Field(
        (), description="Further archives, which are measured together with the first one and each by itself."
    )
    classes: dict[Text, ClassName | None] = Field(
        default_factory=dict,
        description='Other names for classes of the archives, as in merge.classes: {"cat": "animal"}. A version '
        "that was trained with other names needs them.",
    )
    groups: tuple[NamePattern, ...] = Field(
        (),
        description="Patterns of file names: each group of images with the same text at {group} is measured by itself, "
        "so {group}-*.jpg shows each camera. {group} occurs once, * is any text.",
    )
    min_precision: float | None = Field(
        None,
        gt=0,
        le=1,
        description="The threshold of a class is the confidence with the best recall at this precision or more. None "
        "here and in min_recall takes the best F1.",
    )
    min_recall: float | None = Field(
        None,
        gt=0,
        le=1,
        description="The threshold of a class is the confidence with the best precision at this recall or more; with "
        "min_precision, that with the best F1 at both.",
    )
    max_misses: dict[Text, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {},
        description='Promises to compute: {"car": 0.05} finds the confidence at which the model misses at most 5 % of '
        "the cars, with 95 % confidence. The archive must be a random sample that was never trained on.",
    )
    keep_thresholds: bool = Field(
        True,
        description="Keep the thresholds with the version, in place of those of an earlier evaluation. Those of split "
        "train, of all splits of an archive that the version was trained on, and of images that it has learnt are not.",
    )
    corrupted_images: int = Field(
        0,
        ge=0,
        le=1000,
        description="So many images, drawn by the seed, are also measured with 15 corruptions at 3 strengths: noise, "
        "blur, weather, compression. Each is predicted 46 times.",
    )
    worst: int = Field(50, ge=0, le=200, description="Images with the most mistakes on the page.")
    seed: int = Field(
        0,
        ge=0,
        le=MAX_SEED,
        description="Seed of the corrupted images, and of the samples for the intervals of the thresholds.",
    )
    device: OneDevice = None


class LabelErrorParams(Parameters):
    """How labels that look wrong are searched."""

    out_of_fold: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Judge by models that have not seen the labels: the training of the version is done again for each "
        "fold, on the other folds. auto does so if the version has learnt the archive, by its name, bytes or images; "
        "never asks the version itself, which takes minutes, but it agrees with errors that it has learnt.",
    )
    folds: int = Field(3, ge=2, le=10, description="Parts of the archive; each costs a training.")
    epochs: int | None = Field(
        None, ge=1, le=10_000, description="Epochs of these trainings; None takes those of the version."
    )
    groups: tuple[NamePattern, ...] = Field(
        (),
        description="Patterns of file names: images with the same text at {group} are in one fold, so "
        "clip{group}-frame*.jpg keeps the frames of a clip together. {group} occurs once, * is any text.",
    )
    min_score: float = Field(0.3, ge=0, le=1, description="Least score of a suspicion, from 0 to 1.")
    most: int = Field(
        200, ge=1, le=2000, description="Suspicions, those with the highest scores, on the page and in the archive."
    )
    seed: int = Field(0, ge=0, description="Seed of the folds.")
    device: OneDevice = None


class LabellingParams(Parameters):
    """Which labels of a model are taken without a person."""

    version: int | None = Field(
        None, ge=1, description="Number of the version in MLflow that labels. None takes the champion."
    )
    precision: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Least share of the labels that are taken that shall be right, by what the version did in "
        "validation. With few validation images fewer labels are taken.",
    )
    recall: float = Field(
        0.95,
        gt=0,
        le=1,
        description="A detection is dropped below the confidence from which on this share of the objects is found, by "
        "what the version did in validation, and only below 0.25; with few validation images none is. What lies "
        "between makes its image uncertain: it is listed for review, and not labelled.",
    )
    take_from: dict[Text, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description='Take labels of these classes from this confidence on, whatever validation says: {"car": 0.8}.'
    )
    drop_below: dict[Text, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description='Drop detections of these classes below this confidence: {"car": 0.2}.'
    )
    background: bool = Field(
        False, description="Take images in which nothing is found as background; else they are listed for review."
    )
    compare: Archive | None = Field(
        None,
        description="A labelled archive in bucket datasets (a.zip), or an s3:// address, on all images of which the "
        "precision and the recall of the labels are measured beside those that validation lets expect.",
    )
    device: Device | None = Field(
        None,
        description="cpu, or the number of a GPU (0), for a version that is not served. None takes the first GPU, or "
        "else the CPU.",
    )


class ParityPolicy(Parameters):
    """How close the served model must be to its weights, on a sample of the validation split."""

    min_agreement: float = Field(
        0.99,
        ge=0,
        le=1,
        description="Least share of the detections of each side that have a partner on the other side.",
    )
    min_confidence: float = Field(0.3, gt=0, le=1, description="Detections below this score are not compared.")
    min_iou: float = Field(0.9, gt=0, le=1, description="Least overlap of two partners, of boxes and of masks.")
    max_score_difference: float = Field(0.03, gt=0, le=1, description="Largest score difference of two partners.")
    max_map_drop: float = Field(
        0.01, ge=0, le=1, description="Largest loss of the served model in mAP50-95 (for classification: accuracy)."
    )
    min_detections: int = Field(
        100,
        ge=1,
        description="Fewest detections of the weights to compare: with fewer above min_confidence, that is lowered, "
        "and max_score_difference in proportion.",
    )
    min_weak_agreement: float = Field(
        0.95, ge=0, le=1, description="The same as min_agreement if min_confidence had to be lowered."
    )


class CanaryParams(Parameters):
    """A trial of the new version on a share of the inference runs, before clients get it."""

    share: float = Field(0.1, gt=0, lt=1, description="Share of the runs of run-inference that use the new version.")
    minutes: float = Field(10.0, gt=0, le=10_080, description="Longest time in minutes.")
    images: int = Field(0, ge=0, description="End after this many images for each version. 0 ends it only by time.")
    min_images: int = Field(20, ge=1, description="Fewest images for each version to compare them.")
    max_failure_rise: float = Field(0.01, ge=0, le=1, description="Largest rise in the share of failed requests.")
    max_slowdown: float = Field(1.5, ge=1, description="Longest time of a request, as a multiple of the champion's.")
    max_change: float = Field(
        0.5, ge=0, description="Largest change in detections per image, as a share of the champion's."
    )


class ServingParams(Parameters):
    """How Triton runs the model."""

    backend: Literal["python", "onnxruntime"] = Field(
        "python", description="The engine: python in every Triton, onnxruntime (TensorRT on a GPU) in its containers."
    )
    precision: Literal["auto", "f32", "f16", "bf16", "int8", "int8-mixed"] = Field(
        "auto",
        description="Number format of the served model. auto tries those that this Triton has, and serves the quickest "
        "that answers as the weights do (f32 without serving.parity). A named one is served if it passes the gates; "
        "backend python uses f32 on a GPU and if the CPU lacks it, backend onnxruntime has no bf16.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads of each copy of the model. 0 takes all cores; backend python divides them.",
    )
    engine_cache: Folder = Field(
        "/tmp",  # noqa: S108  # inside Triton's container
        description="An existing folder on Triton's machine, as an absolute path (/var/cache/engines), in which "
        "TensorRT keeps its engines.",
    )
    instances: int = Field(1, ge=1, le=64, description="Copies of the model that run in parallel.")
    max_batch_size: int = Field(16, ge=1, le=256, description="Most images in one request.")
    drain_s: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Seconds for which the former champion, if its number is lower, still serves clients that name it.",
    )
    drain_timeout_s: float = Field(
        600.0,
        ge=0,
        le=86400,
        description="Seconds for which runs of inference that began with the former champion may continue with it.",
    )
    load_timeout_s: float = Field(120.0, gt=0, le=3600, description="Longest time to load the model, in seconds.")
    parity: ParityPolicy | None = Field(
        ParityPolicy(),
        description="How close the served model must be to its weights before clients get it. None skips this gate.",
    )
    canary: CanaryParams | None = Field(None, description="Try the new version on a share of inference first.")
    approval: bool = Field(
        False, description="Ask a person, after the other gates, before clients get the version. The run is suspended."
    )
    approval_timeout_h: float = Field(
        72.0, gt=0, le=8760, description="Hours after which the version is refused if nobody has answered."
    )


class TileParams(Parameters):
    """Small objects: each image is cut into overlapping squares, which the model gets at its own image size."""

    size: int = Field(0, ge=0, le=8192, description="Side of a tile in image pixels. 0 takes the model's image size.")
    overlap: float = Field(0.2, ge=0, le=0.8, description="Overlap of neighbouring tiles, as a share of their side.")
    whole: bool = Field(True, description="Detect in the whole image as well, which finds objects larger than a tile.")


class Shard(Parameters):
    """A share of another run's work."""

    run: UUID = Field(
        description="Id of the flow run that it is a part of, as in the address of that run's page (8, 4, 4, 4 "
        "and 12 digits and letters a to f).",
        json_schema_extra={"pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", "maxLength": 36},
    )
    number: int = Field(ge=1, le=64, description="Number of the share, from 1.")
    of: int = Field(ge=1, le=64, description="Number of shares.")


Days = Annotated[float, Field(ge=0, le=36_500)]


class CleanUpParams(Parameters):
    """How long things stay that no person has to keep, in days since their last change."""

    dry_run: bool = Field(True, description="Only report what would go.")
    checkpoints: Days | None = Field(
        14, description="Checkpoints of trainings that have ended. A training that failed can be retried until then."
    )
    parts: Days | None = Field(
        14,
        description="Parts of inferences that ended before they were published, of evaluations, monitorings and "
        "reviews, and the lists of images that run:ID stands for.",
    )
    predictions: Days | None = Field(
        None, description="Results of inferences. None keeps them for ever: nobody else knows who still needs them."
    )
    graphs: Days | None = Field(
        30, description="Graphs of versions that were never champion. deploy-model exports them again."
    )
    uploads: Days | None = Field(7, description="Uploads into bucket datasets that nobody has finished.")
    scratch: Days | None = Field(2, description="Scratch folders of killed runs, on the worker that cleans up.")
    tracked: Days | None = Field(30, description="Runs and models that somebody has deleted in MLflow.")


class InferenceParams(Parameters):
    """How objects are detected and what is written."""

    confidence: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        DEFAULT_CONFIDENCE,
        description="Detections below this score, 0 to 1, are dropped. auto takes the threshold of each class that "
        "evaluate-model has kept with the version, and 0.25 for classes without one.",
    )
    class_confidence: dict[Text, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description='Other limits for single classes: {"car": 0.6}.'
    )
    iou: float = Field(
        0.7, gt=0, le=0.7, description="Of two boxes of a class that overlap by more than this share (IoU), one stays."
    )
    tiles: TileParams | None = Field(None, description="Detect in tiles as well, to find small objects.")
    only_new: bool = Field(
        False,
        description="Leave out inputs that an earlier run of the same model version has done (same key and ETag) "
        "and whose results are still there.",
    )
    frame_step: int = Field(1, ge=1, le=1_000_000, description="Use every n-th frame of a video; 1 uses all.")
    track: bool = Field(False, description="Track objects through a video (ByteTrack): column track_id.")
    annotate: bool = Field(True, description="Write images and videos with the detections drawn.")
    images: bool | None = Field(
        None,
        description="Write plain copies of the images, with YOLO labels, beside coco.json, so that other tools load "
        "the run's folder. None does as annotate.",
    )
    image_frames: int = Field(
        0, ge=0, description="Number of used frames of each video to write as such images, a JPEG each."
    )
    in_flight: int = Field(
        0, ge=0, le=256, description="Parallel requests to Triton. 0 takes two for each core of the worker, at least 4."
    )
    shards: int = Field(1, ge=1, le=64, description="Runs of this deployment that share the work.")
    shard: Shard | None = Field(None, description="Set by a run that shares its work; leave it at None.")
    max_failure_share: float = Field(
        0.5, ge=0, le=1, description="Largest share of inputs that may fail; above it the run fails."
    )

    @property
    def least_confidence(self) -> float:
        """The limit of classes that have none of their own."""
        return DEFAULT_CONFIDENCE if self.confidence == "auto" else self.confidence

    @property
    def keeps_images(self) -> bool:
        """Whether plain copies are written."""
        return self.annotate if self.images is None else self.images


class SelectionShares(Parameters):
    """Shares of the strategies in a mixed selection, as whole numbers: 4 gets four times as many images as 1."""

    uncertainty: int = Field(4, ge=0, le=100, description="Images of which the version is unsure.")
    diversity: int = Field(2, ge=0, le=100, description="Images that are unlike what is learnt or chosen already.")
    rare_classes: int = Field(2, ge=0, le=100, description="Images with classes of which little was learnt.")
    drift: int = Field(1, ge=0, le=100, description="Images that are far from all that the version has learnt.")
    disagreement: int = Field(1, ge=0, le=100, description="Images in which two versions find different things.")
    random: int = Field(0, ge=0, le=100, description="Images drawn at random.")


class SelectionParams(Parameters):
    """Which images are chosen, and how many."""

    strategy: Literal["mixed", "random", "uncertainty", "diversity", "rare-classes", "disagreement", "drift"] = Field(
        "mixed",
        description="How images are chosen. mixed takes some of each, as shares says; random is there to compare with.",
    )
    images: int = Field(100, ge=1, le=10_000, description="Most images that are chosen.")
    boxes: int | None = Field(
        None,
        ge=1,
        description="Most boxes that are expected in them, by the confidences: what a person would have to draw.",
    )
    shares: SelectionShares = Field(SelectionShares(), description="What mixed takes of each strategy.")
    version: int | None = Field(
        None, ge=1, description="Number of the version in MLflow that looks at the images. None takes the champion."
    )
    other_version: int | None = Field(
        None, ge=1, description="Number of the version that disagreement compares with. None takes the challenger."
    )
    learnt_images: int = Field(
        500,
        ge=0,
        le=5000,
        description="Images of the version's own training, drawn by the seed, with which diversity, rare-classes and "
        "drift compare.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of what is drawn at random.")
    device: OneDevice = None

    @property
    def wanted(self) -> Mapping[str, int]:
        """The strategies that choose, and their shares."""
        if self.strategy != "mixed":
            return {self.strategy: 1}
        return {name.replace("_", "-"): share for name, share in self.shares.model_dump().items() if share}

    def with_version(self, version: int | None) -> Self:
        """The same, by this version where none is named."""
        return self if self.version else self.model_copy(update={"version": version})


class ReviewParams(Parameters):
    """What a person is asked about, and what becomes of the answers."""

    tool: Literal["auto", "label-studio", "cvat", "front-page"] = Field(
        "auto",
        description="Where people answer: in label-studio and cvat they can draw; on the page of this studio "
        "(front-page) they keep, refuse or rename what a model suggests, with the keyboard. auto takes Label Studio if "
        "there is one, else CVAT if there is one; poses cannot be reviewed in CVAT.",
    )
    confidence: float = Field(
        DEFAULT_CONFIDENCE,
        ge=0,
        le=1,
        description="Suggestions of the model below this score are not shown. A low one gives a person more to delete "
        "and less to draw.",
    )
    max_images: int = Field(
        500, ge=1, le=10_000, description="Images of a round, the first ones of the inputs; others are left out."
    )
    max_wait_d: float = Field(
        14,
        ge=0,
        le=365,
        description="Days after which the round ends with what was submitted by then; without anything it fails.",
    )
    val: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of the images that goes into val. Labels that a person has only accepted flatter the model "
        "that suggested them, so a better version may lose on them: 0 trains on all, and measures elsewhere.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split.")
    groups: SplitGroups = ()


class MonitoringParams(Parameters):
    """Which predictions are looked at, and from when on they are told to differ."""

    version: int | None = Field(
        None,
        ge=1,
        description="Number of the version in MLflow whose predictions are looked at. None takes the champion.",
    )
    days: float = Field(7, gt=0, le=366, description="Answers of the last days are looked at.")
    images: int = Field(500, ge=50, le=5000, description="Most images whose detections are compared, drawn at random.")
    pictures: int = Field(
        100,
        ge=0,
        le=1000,
        description="Most of them whose pixels are looked at: each is fetched and decoded once. Of live requests the "
        "log has brightness, contrast and sharpness.",
    )
    embeddings: bool = Field(
        True,
        description="Have the version make embeddings of these pictures, which tell another camera or another scene. "
        "It takes as long as their inference, and ten seconds.",
    )
    min_images: int = Field(
        50,
        ge=LEAST_MONITORED,
        le=64,
        description="What fewer images have is not compared, nor is the score estimated. It holds for the validation "
        "images, too, of which a version keeps 64 at most.",
    )
    significance: float = Field(
        0.01, gt=0, le=0.2, description="Share of false alarms that is accepted among the traits told to have drifted."
    )
    max_fall: float = Field(
        0.05,
        gt=0,
        le=1,
        description="A score that is estimated to have fallen by this much, of 1, is told: to have fallen if the "
        "interval of the estimate does not hold that of the validation images, else that it may have.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of what is drawn.")
    device: Device | None = Field(
        None,
        description="Where the version makes embeddings, and the first time predicts its validation images: cpu, or "
        "the number of a GPU (0). None takes the first GPU, or else the CPU.",
    )
