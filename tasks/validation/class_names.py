"""What looks wrong with the classes of a dataset: rules over the counts of each split."""

from collections.abc import Callable, Mapping, Sequence

from tasks.dataset.findings import Finding, FindingBatch, Severity, Statistics, warning
from tasks.errors import expected_found_fix, safe_repr
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy


def class_findings(statistics: Statistics, policy: ValidationPolicy) -> list[Finding | FindingBatch]:
    """Return warnings about classes that cannot be learnt or measured; nothing where no class has a name or a label.

    A class that is nowhere is told as unused and not again. How often classes are shown is counted in train.
    """
    train, val = (_instances(statistics, split) for split in ("train", "val"))
    names = list(dict.fromkeys(statistics.class_names))
    used = {name for split in statistics.splits for name in _instances(statistics, split)}
    most = max(train, key=lambda name: train[name], default="")
    few = [name for name in names if 0 < train.get(name, 0) < policy.min_class_instances]
    rare = [name for name in names if 0 < train.get(name, 0) * policy.max_class_ratio < train[most]]
    lost = [name for name in names if train and val and (name in train) != (name in val)]

    def write_few(name: str) -> str:
        expected = f"at least {policy.min_class_instances} labels of {safe_repr(name)} in train"
        return expected_found_fix(expected, f"{train[name]}", "Label more of them, or merge the class with another.")

    def write_rare(name: str) -> str:
        ratio = f"at most {policy.max_class_ratio:g} times the labels of {safe_repr(name)}"
        found = f"{train[most]} of {safe_repr(most)} for {train[name]} of it in train"
        return expected_found_fix(
            f"{ratio} for any class", found, "Label more of the rare class, or raise max_class_ratio."
        )

    def write_lost(name: str) -> str:
        shown, bare = ("train", "val") if name in train else ("val", "train")
        found = f"{max(train.get(name, 0), val.get(name, 0))} labels in {shown} and none in {bare}"
        return expected_found_fix(
            f"{safe_repr(name)} in train and in val", found, f"Move some of its images to {bare}."
        )

    unused = [name for name in names if used and name not in used]
    findings = [
        _batch(Code.CLASS_UNUSED, unused, _write_unused),
        _batch(Code.CLASS_FEW, few, write_few),
        _batch(Code.CLASS_IMBALANCE, rare, write_rare),
        _batch(Code.CLASS_SPLIT, lost, write_lost),
    ]
    return [batch for batch in findings if batch.count]


def _instances(statistics: Statistics, split: str) -> Mapping[str, int]:
    """Return the classes that a split shows, with the number of their labels."""
    found = statistics.splits.get(split)
    return {name: count for name, count in found.instances.items() if count > 0} if found else {}


def _write_unused(name: str) -> str:
    fix = "Label some, or take the class out of names (and count the ids after it down)."
    return expected_found_fix(f"labels of {safe_repr(name)}", "none", fix)


def _batch(code: Code, names: Sequence[str], write: Callable[[str], str]) -> FindingBatch:
    return FindingBatch(code, Severity.WARNING, len(names), lambda number: warning(code, write(names[number])))
