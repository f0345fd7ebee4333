"""Gathers findings under a policy, in bounded memory."""

import math
from collections import Counter
from collections.abc import Iterable

from tasks.dataset.findings import Finding, FindingBatch, Severity
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy

# More findings than this of one code and severity are counted but not kept.
MAX_KEPT = 1000

_RANK = {severity: rank for rank, severity in enumerate(Severity)}
_ORDER = {code: place for place, code in enumerate(Code)}


class Collector:
    """Keeps the first findings of each code and severity and counts the rest: a hostile archive can have millions.

    The same finding twice, as for an entry that is refused when it is listed and again when it is read, counts once.
    The policy's `raise_to_error` and `ignore` apply to all that is not an error by itself; the first of them wins.
    """

    def __init__(self, policy: ValidationPolicy) -> None:
        self._policy = policy
        self._kept: dict[Finding, None] = {}
        self._counts: Counter[tuple[Code, Severity]] = Counter()

    def add(self, findings: Iterable[Finding | FindingBatch]) -> None:
        """Take in findings; a batch is written out only as far as its findings are kept."""
        for finding in findings:
            severity = self._severity(finding.code, finding.severity)
            if severity is None:
                continue
            if isinstance(finding, FindingBatch):
                self._add_batch(finding, severity)
            else:
                self._add(finding, severity)

    def findings(self) -> list[Finding]:
        """Return what was kept: errors first, each severity in the order of the codes, then by place."""
        return sorted(
            self._kept,
            key=lambda each: (_RANK[each.severity], _ORDER[each.code], each.path or "", each.line or math.inf),
        )

    def omitted(self) -> dict[str, dict[Severity, int]]:
        """Return how many findings of each code and severity were counted but not kept."""
        left: dict[str, dict[Severity, int]] = {}
        for (code, severity), count in sorted(self._counts.items()):
            if count > MAX_KEPT:
                left.setdefault(code, {})[severity] = count - MAX_KEPT
        return left

    def _severity(self, code: Code, severity: Severity) -> Severity | None:
        if severity is Severity.ERROR or code in self._policy.raise_to_error:
            return Severity.ERROR
        return None if code in self._policy.ignore else severity

    def _add(self, original: Finding, severity: Severity) -> None:
        finding = original if original.severity is severity else original.model_copy(update={"severity": severity})
        if finding in self._kept:
            return
        self._counts[finding.code, severity] += 1
        if self._counts[finding.code, severity] <= MAX_KEPT:
            self._kept[finding] = None

    def _add_batch(self, batch: FindingBatch, severity: Severity) -> None:
        shown = min(batch.count, MAX_KEPT)
        for number in range(shown):
            self._add(batch.make(number), severity)
        self._counts[batch.code, severity] += batch.count - shown
