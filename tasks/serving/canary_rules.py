"""A canary: for a while the new version gets a share of the work, and what it did decides about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from tasks.errors import expected_found_fix
from tasks.parameters import CanaryParams
from tasks.rendering.markdown import table


@dataclass(frozen=True)
class Canary:
    """A version that flow run `flow_run_id` tries out beside the champion, with `share` (0 to 1) of the runs."""

    version: int
    share: float
    flow_run_id: str


@dataclass(frozen=True)
class RequestStats:
    """Requests that Triton answered, those that failed, and the milliseconds that the answered ones took in all."""

    answered: int = 0
    failed: int = 0
    milliseconds: float = 0.0

    def since(self, before: "RequestStats") -> "RequestStats":
        """What came after `before`; all, where the server was started anew and counts from zero."""
        if self.answered < before.answered or self.failed < before.failed:
            return self
        return RequestStats(
            self.answered - before.answered, self.failed - before.failed, self.milliseconds - before.milliseconds
        )


@dataclass(frozen=True)
class VersionStats:
    """What one version did: images with their detections, and its requests."""

    images: int = 0
    detections: int = 0
    requests: RequestStats = RequestStats()

    @property
    def failure_share(self) -> float:
        """Share of the requests that failed, from 0 to 1."""
        return self.requests.failed / max(self.requests.answered + self.requests.failed, 1)

    @property
    def milliseconds(self) -> float:
        """How long a request took that was answered."""
        return self.requests.milliseconds / max(self.requests.answered, 1)

    @property
    def per_image(self) -> float:
        """Detections in an image."""
        return self.detections / max(self.images, 1)


def routes_to_canary(canary: Canary, flow_run_id: str) -> bool:
    """Whether a run is one of the share that goes to the new version: by its id, so that a retry decides the same."""
    number = int.from_bytes(sha256(f"{canary.flow_run_id} {flow_run_id}".encode()).digest()[:8])
    return number < canary.share * 2**64


def canary_violations(champion: VersionStats, challenger: VersionStats, params: CanaryParams) -> list[str]:
    """All that speaks against the new version; empty where it did as well as the champion."""
    failures = list(_failures(champion, challenger, params))
    fix = "Let it run longer, with a larger share, or while there is more work."
    if challenger.images < params.min_images:
        found = f"{challenger.images}, as runs that have ended count"
        return [
            *failures,
            expected_found_fix(f"{params.min_images} images of the new version to judge it by", found, fix),
        ]
    if champion.images < params.min_images:
        found = f"{champion.images}, as runs that have ended count"
        return [
            *failures,
            expected_found_fix(f"{params.min_images} images of the champion to compare with", found, fix),
        ]
    return [*failures, *_speed(champion, challenger, params), *_finds(champion, challenger, params)]


def _failures(champion: VersionStats, challenger: VersionStats, params: CanaryParams) -> Sequence[str]:
    most = champion.failure_share + params.max_failure_rise
    if challenger.failure_share <= most:
        return ()
    found = f"{challenger.failure_share:.1%} of {challenger.requests.answered + challenger.requests.failed}"
    return (expected_found_fix(f"at most {most:.1%} failed requests", found, "Read Triton's log for their reasons."),)


def _speed(champion: VersionStats, challenger: VersionStats, params: CanaryParams) -> Sequence[str]:
    most = champion.milliseconds * params.max_slowdown
    if challenger.milliseconds <= most:
        return ()
    found = f"{challenger.milliseconds:.1f} ms, and the champion takes {champion.milliseconds:.1f} ms"
    fix = "Serve a smaller model or image size, or raise serving.canary.max_slowdown."
    return (expected_found_fix(f"requests of at most {most:.1f} ms", found, fix),)


def _finds(champion: VersionStats, challenger: VersionStats, params: CanaryParams) -> Sequence[str]:
    change = abs(challenger.per_image - champion.per_image) / max(champion.per_image, 1e-9)
    if change <= params.max_change or challenger.per_image == champion.per_image:
        return ()
    expected = f"detections in an image within {params.max_change:.0%} of the champion's {champion.per_image:.2f}"
    fix = "Look at its predictions: if the new number is the right one, raise serving.canary.max_change."
    return (expected_found_fix(expected, f"{challenger.per_image:.2f}", fix),)


def canary_table(champion: VersionStats, challenger: VersionStats) -> str:
    """Both versions side by side, as markdown."""
    rows = [
        ("images", f"{champion.images}", f"{challenger.images}"),
        ("detections in an image", f"{champion.per_image:.2f}", f"{challenger.per_image:.2f}"),
        ("requests", f"{champion.requests.answered}", f"{challenger.requests.answered}"),
        ("failed requests", f"{champion.requests.failed}", f"{challenger.requests.failed}"),
        ("milliseconds a request", f"{champion.milliseconds:.1f}", f"{challenger.milliseconds:.1f}"),
    ]
    return table(("", "champion", "new version"), rows)
