import pytest

from tasks.dataset.findings import Finding, FindingBatch, SplitStatistics, Statistics
from tasks.parameters import ValidationPolicy
from tasks.validation.class_names import class_findings

NAMES = ["cat", "dog"]
POLICY = ValidationPolicy.model_validate({})


def check(
    splits: dict[str, dict[str, int]], names: list[str] = NAMES, policy: ValidationPolicy = POLICY
) -> list[Finding]:
    counted = {split: SplitStatistics(images=9, labelled=9, instances=counts) for split, counts in splits.items()}
    batches = class_findings(Statistics(class_names=names, splits=counted), policy)
    return [batch.make(at) for batch in batches if isinstance(batch, FindingBatch) for at in range(batch.count)]


BOTH = {"cat": 20, "dog": 20}
CASES = {
    "all well": ({"train": BOTH, "val": BOTH}, []),
    "unused": ({"train": {"cat": 20}, "val": {"cat": 20}}, [("class-unused", "dog")]),
    "counted as 0": ({"train": {"cat": 20, "dog": 0}, "val": {"cat": 20, "dog": 0}}, [("class-unused", "dog")]),
    "used in test only": ({"train": {"cat": 20}, "val": {"cat": 20}, "test": {"dog": 5}}, []),
    "no labels at all": ({"train": {}, "val": {}}, []),
    "few": ({"train": {"cat": 20, "dog": 9}, "val": BOTH}, [("class-few", "dog")]),
    "just enough": ({"train": {"cat": 20, "dog": 10}, "val": BOTH}, []),
    "few in val": ({"train": BOTH, "val": {"cat": 20, "dog": 1}}, []),
    "rare": ({"train": {"cat": 1001, "dog": 20}, "val": BOTH}, [("class-imbalance", "dog")]),
    "fifty times": ({"train": {"cat": 1000, "dog": 20}, "val": BOTH}, []),
    "never in val": ({"train": BOTH, "val": {"cat": 20}}, [("class-split", "dog")]),
    "never in train": ({"train": {"cat": 20}, "val": BOTH}, [("class-split", "dog")]),
    "val without labels": ({"train": BOTH, "val": {}}, []),
    "no val": ({"train": BOTH}, []),
    "no train": ({"val": BOTH}, []),
}


@pytest.mark.parametrize(("splits", "expected"), CASES.values(), ids=CASES)
def test_each_rule_and_its_nearest_good_neighbour(
    splits: dict[str, dict[str, int]], expected: list[tuple[str, str]]
) -> None:
    findings = check(splits)

    assert [finding.code for finding in findings] == [code for code, _ in expected]
    assert {finding.severity.value for finding in findings} <= {"warning"}
    for finding, (_, name) in zip(findings, expected, strict=True):
        assert finding.message.startswith("Expected")
        assert f"'{name}'" in finding.message


def test_every_rare_class_is_reported() -> None:
    findings = check({"train": {"a": 5000, "b": 30, "c": 40, "d": 100}, "val": dict.fromkeys("abcd", 9)}, list("abcd"))

    assert [(finding.code, finding.message.split(",")[1]) for finding in findings] == [
        ("class-imbalance", " found 5000 of 'a' for 30 of it in train. Label more of the rare class"),
        ("class-imbalance", " found 5000 of 'a' for 40 of it in train. Label more of the rare class"),
    ]


def test_the_limits_are_the_policys() -> None:
    policy = ValidationPolicy.model_validate({"min_class_instances": 0, "max_class_ratio": 3})
    splits = {"train": {"cat": 10, "dog": 3}, "val": BOTH}

    assert [finding.code for finding in check(splits, policy=policy)] == ["class-imbalance"]
    assert check({"train": {"cat": 9, "dog": 3}, "val": BOTH}, policy=policy) == []


@pytest.mark.parametrize("names", [[], ["cat", "cat"]])
def test_odd_names_are_no_trouble(names: list[str]) -> None:
    assert check({"train": {"cat": 20, "7": 20}, "val": {"cat": 20, "7": 20}}, names) == []


def test_a_name_cannot_write_to_the_terminal() -> None:
    name = "\x1b[2J" + "x" * 1000
    (finding,) = check({"train": {"cat": 20}, "val": {"cat": 20}}, ["cat", name])

    assert "\x1b" not in finding.message
    assert len(finding.message) < 300
