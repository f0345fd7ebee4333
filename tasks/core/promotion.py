"""Does a new version earn its alias?"""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.parameters import PromotionPolicy


@dataclass(frozen=True)
class Decision:
    """Whether the version becomes challenger, and why."""

    promoted: bool
    reason: str


def decide(metrics: Mapping[str, float], policy: PromotionPolicy) -> Decision:
    """Compare the validation metrics of a version with what the policy asks for."""
    reached = metrics.get("metrics/mAP50", 0.0)
    if reached >= policy.min_map50:
        return Decision(
            promoted=True, reason=f"mAP50 {reached:.3f} reaches {policy.min_map50:.3f}, it is the challenger"
        )
    return Decision(promoted=False, reason=f"mAP50 {reached:.3f} is below {policy.min_map50:.3f}, it gets no alias")
