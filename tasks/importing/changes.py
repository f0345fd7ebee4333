"""How often an import has left out or changed each thing, in words."""

from collections import Counter
from collections.abc import Mapping


def sum_changes(changes: Mapping[str, int]) -> str:
    """Return how much was left out, changed and not kept, without what it was."""
    totals: Counter[str] = Counter()
    for change, count in changes.items():
        totals[change.partition(":")[0]] += count
    return ", ".join(f"{count:,} {kind}" for kind, count in totals.items()) or "nothing lost"


def list_changes(changes: Mapping[str, int], most: int) -> list[str]:
    """Return the kinds of changes with their counts, the most frequent ones first, and the number of other kinds."""
    ordered = sorted(changes.items(), key=lambda entry: -entry[1])
    others = [f"{len(ordered) - most:,} other kinds"] if len(ordered) > most else []
    return [*(f"{'once' if count == 1 else f'{count:,} times'} {change}" for change, count in ordered[:most]), *others]
