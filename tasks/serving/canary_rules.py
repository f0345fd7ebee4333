"""A canary: for a while the new version gets a share of the work, and its results decide about it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from tasks.errors import expected_found_fix
from tasks.parameters import CanaryParams
from tasks.rendering.markdown import table

LOG_INTERVAL_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A version that flow run `flow_run_id` tries beside the champion, with `share` (0 to 1) of the runs."""

    version: int
    share: float
    flow_run_id: str


@dataclass(frozen=True, kw_only=True)
class RequestStats:
    """Requests that Triton answered, those that failed, and the sum of the milliseconds of those answered."""

    answered: int = 0
    failed: int = 0
    milliseconds: float = 0.0

    def since(self, before: "RequestStats") -> "RequestStats":
        """Return what came after `before`; all, if the server was started again and counts from zero."""
        if self.answered < before.answered or self.failed < before.failed:
            return self
        return RequestStats(
            answered=self.answered - before.answered,
            failed=self.failed - before.failed,
            milliseconds=self.milliseconds - before.milliseconds,
        )


@dataclass(frozen=True, kw_only=True)
class VersionStats:
    """Images that one version answered with their detections, and its requests."""

    images: int = 0
    detections: int = 0
    requests: RequestStats = RequestStats()

    @property
    def failure_share(self) -> float:
        """Share of the requests that failed, from 0 to 1."""
        return self.requests.failed / max(self.requests.answered + self.requests.failed, 1)

    @property
    def milliseconds(self) -> float:
        """Mean milliseconds of an answered request."""
        return self.requests.milliseconds / max(self.requests.answered, 1)

    @property
    def per_image(self) -> float:
        """Mean number of detections in an image."""
        return self.detections / max(self.images, 1)

    def __add__(self, other: "VersionStats") -> "VersionStats":
        """Return the images and detections of both, without their requests."""
        return VersionStats(images=self.images + other.images, detections=self.detections + other.detections)


class CanaryProgress:
    """The stats of champion and challenger until now, and whether the canary is over.

    Times are seconds of one monotonic clock. `stats` are those of the champion and of the challenger; `log_line` is
    what to log now, at most once a minute.
    """

    def __init__(self, champion: int, challenger: int, params: CanaryParams, started: float) -> None:
        self._versions = champion, challenger
        self._images = max(params.images, params.min_images) if params.images else math.inf
        self._deadline = started + 60 * params.minutes
        self._logged = started
        self.stats = VersionStats(), VersionStats()
        self.log_line: str | None = None

    def update(self, counted: Mapping[int, VersionStats], now: float) -> bool:
        """Take the stats by version until now; returns whether the canary is over."""
        champion, challenger = (counted.get(version, VersionStats()) for version in self._versions)
        self.stats = champion, challenger
        self.log_line = None
        if now - self._logged >= LOG_INTERVAL_S:
            self._logged = now
            images = f"{champion.images} images, the new version for {challenger.images}"
            self.log_line = f"the champion has answered for {images}"
        return now >= self._deadline or min(champion.images, challenger.images) >= self._images


def routes_to_canary(canary: Canary, flow_run_id: str) -> bool:
    """Return whether a run is in the share of the new version: by its id, so that a retry decides the same."""
    number = int.from_bytes(sha256(f"{canary.flow_run_id} {flow_run_id}".encode()).digest()[:8])
    return number < canary.share * 2**64


def canary_violations(champion: VersionStats, challenger: VersionStats, params: CanaryParams) -> list[str]:
    """Return every reason against the new version; empty if it did as well as the champion."""
    return list(_violations(champion, challenger, params))


def _violations(champion: VersionStats, challenger: VersionStats, params: CanaryParams) -> Iterator[str]:
    limit = champion.failure_share + params.max_failure_rise
    if challenger.failure_share > limit:
        found = f"{challenger.failure_share:.1%} of {challenger.requests.answered + challenger.requests.failed}"
        fix = "Read Triton's log for their reasons."
        yield expected_found_fix(f"at most {limit:.1%} failed requests", found, fix)

    needed = {"the new version to judge it by": challenger, "the champion to compare with": champion}
    for purpose, stats in needed.items():
        if stats.images < params.min_images:
            found = f"{stats.images}, as runs that have ended count"
            fix = "Let it run longer, with a larger share, or while there is more work."
            yield expected_found_fix(f"{params.min_images} images of {purpose}", found, fix)
            return

    limit = champion.milliseconds * params.max_slowdown
    if challenger.milliseconds > limit:
        found = f"{challenger.milliseconds:.1f} ms, and the champion takes {champion.milliseconds:.1f} ms"
        fix = "Serve a smaller model or image size, or raise serving.canary.max_slowdown."
        yield expected_found_fix(f"requests of at most {limit:.1f} ms", found, fix)

    change = abs(challenger.per_image - champion.per_image) / max(champion.per_image, 1e-9)
    if change > params.max_change and challenger.per_image != champion.per_image:
        expected = f"detections in an image within {params.max_change:.0%} of the champion's {champion.per_image:.2f}"
        fix = "Look at its predictions: if the new number is the right one, raise serving.canary.max_change."
        yield expected_found_fix(expected, f"{challenger.per_image:.2f}", fix)


def canary_table(champion: VersionStats, challenger: VersionStats) -> str:
    """Return a Markdown table of both versions."""
    rows = [
        ("images", f"{champion.images}", f"{challenger.images}"),
        ("detections in an image", f"{champion.per_image:.2f}", f"{challenger.per_image:.2f}"),
        ("requests", f"{champion.requests.answered}", f"{challenger.requests.answered}"),
        ("failed requests", f"{champion.requests.failed}", f"{challenger.requests.failed}"),
        ("milliseconds a request", f"{champion.milliseconds:.1f}", f"{challenger.milliseconds:.1f}"),
    ]
    return table(("", "champion", "new version"), rows)
