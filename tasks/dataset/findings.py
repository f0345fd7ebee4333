"""What a check says: findings, and the report they add up to."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, computed_field

from tasks.errors import expected_found_fix
from tasks.finding_codes import Code

Item = TypeVar("Item")


class Severity(StrEnum):
    """How bad a finding is: only an error makes an archive invalid."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def plural(self) -> str:
        """What several findings of this severity are called; notes are what people read infos as."""
        return {"error": "errors", "warning": "warnings", "info": "notes"}[self]


class Verdict(StrEnum):
    """What all findings together say of an archive."""

    VALID = "valid"
    VALID_WITH_WARNINGS = "valid-with-warnings"
    INVALID = "invalid"


class Finding(BaseModel):
    """One fault: `message` says what was expected, what was found and how to fix it.

    `path` is the entry inside the archive, `line` counts from 1; both are None if the fault has no such place.
    `other` is the second entry if the fault lies between two, as with duplicates.
    """

    model_config = ConfigDict(frozen=True)

    code: Code
    severity: Severity
    message: str
    path: str | None = None
    line: int | None = None
    other: str | None = None


@dataclass(frozen=True, kw_only=True)
class FindingBatch:
    """Findings of one code and severity; `make(n)` for n from 0 to `count` - 1 writes the n-th.

    Only those that are kept are written: a dataset can have a million of them.
    """

    code: Code
    severity: Severity
    count: int
    make: Callable[[int], Finding]


class SplitStatistics(BaseModel):
    """Counts of one split; `instances` maps class name to the number of its labels."""

    model_config = ConfigDict(frozen=True)

    images: int = 0
    labelled: int = 0
    instances: dict[str, int] = {}

    @property
    def labels(self) -> int:
        """Number of labels of all classes."""
        return sum(self.instances.values())


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """A version that made labels, in one run, and of how many images; what nobody told is None."""

    model_name: str | None = None
    model_version: int | None = None
    flow_run_id: str | None = None
    images: int

    @property
    def model(self) -> str:
        """Return the version in words."""
        version = "" if self.model_version is None else f" version {self.model_version}"
        return f"{self.model_name or 'a model without a name'}{version}"


class OriginStatistics(BaseModel):
    """Images and labels by who made them; `instances` maps class name to the number of labels that a model made.

    `sources` are the versions and runs of which most of these are, and `accepted_sources` those of which most of the
    labels are that a person has accepted.
    """

    model_config = ConfigDict(frozen=True)

    images: dict[str, int]
    labels: dict[str, int]
    instances: dict[str, int] = {}
    sources: tuple[LabelSource, ...] = ()
    accepted_sources: tuple[LabelSource, ...] = ()


class Statistics(BaseModel):
    """What the archive holds, as far as it could be read; `origins` is None if no model had a part in its labels."""

    model_config = ConfigDict(frozen=True)

    task: str | None = None
    class_names: list[str] = []
    splits: dict[str, SplitStatistics] = {}
    origins: OriginStatistics | None = None

    @property
    def totals(self) -> dict[str, int]:
        """Images, those with a label, and labels, over all splits."""
        splits = self.splits.values()
        return {
            "images": sum(split.images for split in splits),
            "labelled": sum(split.labelled for split in splits),
            "labels": sum(split.labels for split in splits),
        }


class Report(BaseModel):
    """The outcome of checking one archive (`digest` is the SHA-256 of its bytes, in hex).

    `omitted` maps a code to the number of its findings of each severity that were counted but not kept, so that a
    hostile archive cannot make a report of any size; `counts` and `severities` include them.
    """

    model_config = ConfigDict(frozen=True)

    archive: str
    digest: str
    findings: list[Finding]
    statistics: Statistics
    omitted: dict[str, dict[Severity, int]] = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """Return the verdict that the worst finding calls for."""
        severities = {finding.severity for finding in self.findings}
        if Severity.ERROR in severities:
            return Verdict.INVALID
        return Verdict.VALID_WITH_WARNINGS if Severity.WARNING in severities else Verdict.VALID

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> dict[str, int]:
        """Return the number of findings of each code, in the order of the codes."""
        kept: Counter[str] = Counter(finding.code for finding in self.findings)
        return dict(sorted((kept + Counter({code: sum(left.values()) for code, left in self.omitted.items()})).items()))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def severities(self) -> dict[Severity, int]:
        """Return the number of findings of each severity, 0 included."""
        counted = Counter(finding.severity for finding in self.findings)
        for left in self.omitted.values():
            counted.update(left)
        return {severity: counted[severity] for severity in Severity}


def make_finding(  # noqa: PLR0913  the parts of a finding
    severity: Severity,
    code: Code,
    expected: str,
    found: str,
    fix: str,
    *,
    path: str | None = None,
    line: int | None = None,
    other: str | None = None,
) -> Finding:
    """Return a finding whose message says what was expected, what was found and how to fix it."""
    message = expected_found_fix(expected, found, fix)
    return Finding(code=code, severity=severity, message=message, path=path, line=line, other=other)


# A finding that makes the archive invalid.
error = partial(make_finding, Severity.ERROR)
# A finding that a person should look at; the archive stays valid.
warning = partial(make_finding, Severity.WARNING)
# A note about what was done or seen.
info = partial(make_finding, Severity.INFO)


def batch_findings(
    code: Code, severity: Severity, items: Sequence[Item], make: Callable[[Item], Finding]
) -> list[FindingBatch]:
    """Return one batch with a finding for each item, nothing for no items."""
    if len(items) == 0:
        return []
    return [FindingBatch(code=code, severity=severity, count=len(items), make=lambda number: make(items[number]))]
