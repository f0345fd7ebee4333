"""What a check says: findings, and the report they add up to."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, computed_field

from tasks.finding_codes import Code


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

    `path` is the entry inside the archive, `line` counts from 1; both are None where the fault has no such place.
    `other` is the second entry where the fault lies between two, as with duplicates.
    """

    model_config = ConfigDict(frozen=True)

    code: Code
    severity: Severity
    message: str
    path: str | None = None
    line: int | None = None
    other: str | None = None


@dataclass(frozen=True)
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


class Statistics(BaseModel):
    """What the archive holds, as far as it could be read."""

    model_config = ConfigDict(frozen=True)

    task: str | None = None
    class_names: list[str] = []
    splits: dict[str, SplitStatistics] = {}

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


def error(code: Code, message: str, path: str | None = None, line: int | None = None) -> Finding:
    """Return a finding that makes an archive invalid."""
    return Finding(code=code, severity=Severity.ERROR, message=message, path=path, line=line)


def warning(code: Code, message: str, path: str | None = None, line: int | None = None) -> Finding:
    """Return a finding that a person should look at, and that stops nothing."""
    return Finding(code=code, severity=Severity.WARNING, message=message, path=path, line=line)


def info(code: Code, message: str, path: str | None = None, line: int | None = None) -> Finding:
    """Return a finding that is only told."""
    return Finding(code=code, severity=Severity.INFO, message=message, path=path, line=line)
