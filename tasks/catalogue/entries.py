"""What the catalogue says of an archive, a model, a version and a run of inference, and a page of them."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, get_args

from tasks.dataset.findings import LabelSource

ArchiveVerdict = Literal["valid", "valid-with-warnings", "invalid", "unchecked"]
VERDICTS: tuple[ArchiveVerdict, ...] = get_args(ArchiveVerdict)
Entry = TypeVar("Entry")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Entry]):
    """Some entries of a list; `next_cursor` gives the page after them, None if they were the last."""

    entries: tuple[Entry, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class PageEntry:
    """A page about a version, such as `shapes/3`; `path` is its place on the front page.

    It is about a split of archives. That of a monitoring is about no archive and has no split.
    """

    title: str
    version: str
    archives: tuple[str, ...]
    split: str
    path: str

    @property
    def split_words(self) -> str:
        """The split in words."""
        return "all splits" if self.split == "all" else f"split {self.split}"


@dataclass(frozen=True, kw_only=True)
class ArchiveEntry:
    """An archive of bucket `datasets`, with what `validate-dataset` found in these very bytes (`size` of them).

    `name` is what flows take: the key, or the address of an archive whose key looks like an address.
    Unchecked, it has no digest (SHA-256 in hex), task, class, image, date of a check, nor report. `report` is the flow
    run whose report is `runs/<report>/report.html` and `report.json`. `versions` were trained on an archive of this
    name, such as `shapes/3`; None if MLflow is away. `pages` are about versions on an archive of this name.
    `label_sources` are the versions that made labels of it.
    """

    name: str
    size: int
    etag: str
    modified: datetime
    verdict: ArchiveVerdict
    task: str | None
    classes: tuple[str, ...]
    images: int | None
    digest: str | None
    checked: datetime | None
    report: str | None
    versions: tuple[str, ...] | None
    pages: tuple[PageEntry, ...]
    label_sources: tuple[LabelSource, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VersionEntry:
    """A registered version.

    `imported_from` are the weights that it was registered from, None if it was trained here. `archives` are those that
    it was trained on, `digests` the SHA-256 (hex) of each. `promotion` is the comparison with the champion in a
    sentence, `refused` whether it went against the version. `training_run` is a flow run of Prefect, `mlflow_run` one
    of MLflow. `parity` is `passed` or `failed`, None before a deployment. `served` says whether Triton answers for it;
    None if Triton is away. `pages` are its evaluations, the label errors that it found, its monitoring, and why it
    was refused.
    """

    model: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    task: str | None
    classes: tuple[str, ...]
    imported_from: str | None
    archives: tuple[str, ...]
    digests: tuple[str, ...]
    scores: dict[str, float]
    promotion: str
    refused: bool
    training_run: str | None
    mlflow_run: str
    parity: str | None
    approved_by: str | None
    served: bool | None
    pages: tuple[PageEntry, ...]

    @property
    def name(self) -> str:
        """Model and number, such as `shapes/3`."""
        return f"{self.model}/{self.number}"


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A registered model with its versions, the newest first; `served` is None if Triton is away.

    `champions` are the versions that were champion, in order, the present one last.
    """

    name: str
    champion: int | None
    challenger: int | None
    champions: tuple[int, ...]
    served: bool | None
    versions: tuple[VersionEntry, ...]

    @property
    def former_champion(self) -> int | None:
        """The version to which a roll back goes if none is named; None if there is none."""
        return next(iter(self.champions[-2:-1]), None)


@dataclass(frozen=True, kw_only=True)
class PredictionEntry:
    """A run of inference: `run` is its flow run, and its files are `predictions/<run>/`.

    `version` is the newest that answered. `images` counts video frames, too, and `failures` the inputs that failed.
    `gallery` is the key of the page in bucket `predictions`. Of a run that is `deleted` MLflow still knows the counts;
    runs of earlier releases have no `inputs` there.
    """

    run: str
    model: str
    version: int | None
    created: datetime
    inputs: int | None
    images: int
    detections: int
    failures: int
    gallery: str | None
    deleted: bool


def plain_values(entry: Page[Any] | ArchiveEntry | ModelEntry | VersionEntry | PredictionEntry) -> dict[str, Any]:
    """Return an entry or a page as values of JSON; times are ISO 8601."""
    return {name: _plain(value) for name, value in asdict(entry).items()}


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
