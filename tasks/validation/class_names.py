"""What looks wrong with the classes of a dataset: rules over the counts of each split."""

from collections.abc import Mapping

from tasks.dataset.findings import Finding, FindingBatch, Severity, Statistics, batch_findings, warning
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.parameters import ValidationPolicy


def class_findings(statistics: Statistics, policy: ValidationPolicy) -> list[FindingBatch]:
    """Return warnings about classes that cannot be learnt or measured; nothing if no class has a name or a label.

    A class that is nowhere is unused and nothing else. How often classes are shown is counted in train.
    """
    train, val = (_instances(statistics, split) for split in ("train", "val"))
    names = list(dict.fromkeys(statistics.class_names))
    used = {name for split in statistics.splits for name in _instances(statistics, split)}
    most = max(train, key=lambda name: train[name], default="")

    def write_unused(name: str) -> Finding:
        fix = "Label some, or take the class out of names (and count the ids after it down)."
        return warning(Code.CLASS_UNUSED, f"labels of {safe_repr(name)}", "none", fix)

    def write_few(name: str) -> Finding:
        expected = f"at least {policy.min_class_instances} labels of {safe_repr(name)} in train"
        fix = "Label more of them, or merge the class with another."
        return warning(Code.CLASS_FEW, expected, f"{train[name]}", fix)

    def write_rare(name: str) -> Finding:
        expected = f"at most {policy.max_class_ratio:g} times the labels of {safe_repr(name)} for any class"
        found = f"{train[most]} of {safe_repr(most)} for {train[name]} of it in train"
        fix = "Label more of the rare class, or raise max_class_ratio."
        return warning(Code.CLASS_IMBALANCE, expected, found, fix)

    def write_lost(name: str) -> Finding:
        shown, bare = ("train", "val") if name in train else ("val", "train")
        found = f"{max(train.get(name, 0), val.get(name, 0))} labels in {shown} and none in {bare}"
        fix = f"Move some of its images to {bare}."
        return warning(Code.CLASS_SPLIT, f"{safe_repr(name)} in train and in val", found, fix)

    unused = [name for name in names if used and name not in used]
    few = [name for name in names if 0 < train.get(name, 0) < policy.min_class_instances]
    rare = [name for name in names if 0 < train.get(name, 0) * policy.max_class_ratio < train[most]]
    lost = [name for name in names if train and val and (name in train) != (name in val)]
    return [
        *batch_findings(Code.CLASS_UNUSED, Severity.WARNING, unused, write_unused),
        *batch_findings(Code.CLASS_FEW, Severity.WARNING, few, write_few),
        *batch_findings(Code.CLASS_IMBALANCE, Severity.WARNING, rare, write_rare),
        *batch_findings(Code.CLASS_SPLIT, Severity.WARNING, lost, write_lost),
    ]


def _instances(statistics: Statistics, split: str) -> Mapping[str, int]:
    """Return the classes that a split shows, with the number of their labels."""
    counts = statistics.splits.get(split)
    return {name: count for name, count in counts.instances.items() if count > 0} if counts else {}
