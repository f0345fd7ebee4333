"""What a check says: findings, and the report they add up to."""

from collections import Counter
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, computed_field


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Verdict(StrEnum):
    VALID = "valid"
    VALID_WITH_WARNINGS = "valid-with-warnings"
    INVALID = "invalid"


class Finding(BaseModel):
    """One fault: `message` says what was expected, what was found and how to fix it.

    `path` is the entry inside the archive, `line` counts from 1; both are None where the fault has no such place.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    severity: Severity
    message: str
    path: str | None = None
    line: int | None = None


class SplitStatistics(BaseModel):
    """Counts of one split; `instances` maps class name to the number of its labels."""

    model_config = ConfigDict(frozen=True)

    images: int = 0
    labelled: int = 0
    instances: dict[str, int] = {}


class Statistics(BaseModel):
    """What the archive holds, as far as it could be read."""

    model_config = ConfigDict(frozen=True)

    task: str | None = None
    class_names: list[str] = []
    splits: dict[str, SplitStatistics] = {}


class Report(BaseModel):
    """The outcome of checking one archive (`digest` is the SHA-256 of its bytes, in hex)."""

    model_config = ConfigDict(frozen=True)

    archive: str
    digest: str
    findings: list[Finding]
    statistics: Statistics

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        severities = {finding.severity for finding in self.findings}
        if Severity.ERROR in severities:
            return Verdict.INVALID
        return Verdict.VALID_WITH_WARNINGS if Severity.WARNING in severities else Verdict.VALID

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(finding.code for finding in self.findings).items()))
