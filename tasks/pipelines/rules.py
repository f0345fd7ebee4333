"""Which archives a pipeline trains on, and when it is done with a run that it started."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self

from tasks.dataset_watch.rules import idempotency_key
from tasks.errors import StudioError, safe_repr
from tasks.parameters import MAX_ARCHIVES, ValidationPolicy

CHAMPION_ARCHIVES = "champion+"


class PipelineError(StudioError):
    """A pipeline cannot begin, or its archives cannot be trained on."""


@dataclass(frozen=True, kw_only=True)
class ChosenArchive:
    """An archive under the name that flows take, with the ETag that it has when the pipeline begins."""

    name: str
    etag: str

    def check_key(self, policy: ValidationPolicy) -> str:
        """Return the idempotency key of its check: the same bytes are checked once under one policy, whoever asks."""
        key = idempotency_key(self.name, self.etag)
        if policy == ValidationPolicy():
            return key  # that of the watch
        return hashlib.sha256(f"{key}\n{policy.model_dump_json()}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PipelinePlan:
    """The archives that a pipeline trains on, and the one that it only measures on, if any."""

    archives: tuple[ChosenArchive, ...] = ()
    gold: ChosenArchive | None = None

    @property
    def all(self) -> tuple[ChosenArchive, ...]:
        """All of them, the gold archive last."""
        return (*self.archives, self.gold) if self.gold else self.archives

    def to_json(self) -> bytes:
        """Return it as a document."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, document: bytes) -> Self:
        """Return what `to_json` wrote, of this release or of an earlier one, which has no gold archive in it."""
        kept = json.loads(document)
        gold = kept.get("gold")
        archives = tuple(ChosenArchive(**each) for each in kept["archives"])
        return cls(archives=archives, gold=ChosenArchive(**gold) if gold else None)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What one entry of `archives`, or `promotion.gold`, stands for; `fault` says why it stands for nothing."""

    entry: str
    kind: Literal["name", "glob", "champion", "gold"]
    archives: tuple[ChosenArchive, ...] = ()
    fault: str = ""


def choose_archives(selections: Sequence[Selection]) -> PipelinePlan:
    """Return all archives, each once, in the order of the entries.

    Globs and the champion's archives may overlap with other entries; who names an archive twice has made a mistake.

    Raises:
        PipelineError: An entry stands for nothing, an archive is named twice, or there are too many; it names all
            faults.
    """
    faults = [each.fault for each in selections if each.fault]
    faults += _find_repeated(selections)
    chosen = {archive.name: archive for each in selections for archive in each.archives if each.kind != "gold"}
    gold = next((archive for each in selections for archive in each.archives if each.kind == "gold"), None)
    if len(chosen) > MAX_ARCHIVES:
        faults.append(
            f"Expected at most {MAX_ARCHIVES} archives, found {len(chosen):,}. Name fewer, or pack them together."
        )
    if faults:
        raise PipelineError(" ".join(faults))
    return PipelinePlan(archives=tuple(chosen.values()), gold=gold)


def _find_repeated(selections: Iterable[Selection]) -> list[str]:
    names = [each.archives[0].name for each in selections if each.kind == "name" and each.archives]
    repeated = dict.fromkeys(name for name in names if names.count(name) > 1)
    return [f"Expected each archive once, found {safe_repr(name)} named twice. Remove one." for name in repeated]


def invalid_message(reports: Mapping[str, str]) -> str:
    """Return why a pipeline stops: the addresses of the reports of its invalid archives, by their names."""
    several = f"{len(reports)} archives that are" if len(reports) > 1 else "an archive that is"
    pages = ", ".join(f"{name} ({page})" for name, page in reports.items())
    return (
        f"Expected valid archives, found {several} not: {pages}. Nothing was trained. Fix and upload again, then start "
        "the pipeline again."
    )
