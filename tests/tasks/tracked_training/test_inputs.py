"""Under which policy the archives of a training are checked."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest

from tasks.parameters import MergePolicy, ValidationPolicy
from tasks.storage.steps import FetchedArchive
from tasks.tracked_training import inputs

KEPT: dict[str, str | None] = {"dog": None, "cats": "cat"}
STRICT = ValidationPolicy(min_class_instances=50)


def test_the_policy_is_that_of_the_archives_and_not_of_the_gold_archive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("artifacts", "flow_run_id", "log_step", "merge_steps", "plan_markdown", "storage_steps"):
        monkeypatch.setattr(inputs, name, MagicMock())
    monkeypatch.setattr(inputs, "retried", lambda _: lambda archive, folder: FetchedArchive(folder / archive, "", ""))
    checks = MagicMock()
    monkeypatch.setattr(inputs, "validation_steps", checks)

    inputs.merge_archives(["s3://datasets/a.zip"], "gold.zip", STRICT, MergePolicy(), tmp_path)

    policies = {call.args[1]: call.args[3] for call in checks.check_archive.call_args_list}
    assert policies == {"a.zip": STRICT, "gold.zip": ValidationPolicy()}


def test_a_single_class_is_made_of_all_that_are_not_dropped() -> None:
    merge = inputs.single_class_policy(MergePolicy(classes=KEPT, groups=("{group}.jpg",)))
    assert merge == MergePolicy(classes={"*": "item", "dog": None, "cats": "item"}, groups=("{group}.jpg",))
