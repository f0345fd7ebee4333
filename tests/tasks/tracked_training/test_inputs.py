"""Under which policy the archives of a training are checked."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest

from tasks.parameters import MergePolicy, ValidationPolicy
from tasks.storage.steps import FetchedArchive
from tasks.tracked_training import inputs

STRICT = ValidationPolicy(min_class_instances=50)


def test_the_policy_is_that_of_the_archives_and_not_of_the_gold_archive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("artifacts", "flow_run_id", "log_step", "merge_steps", "plan_markdown", "storage_steps"):
        monkeypatch.setattr(inputs, name, MagicMock())
    monkeypatch.setattr(inputs, "retried", lambda _: lambda archive, folder: FetchedArchive(folder / archive, "", ""))
    checks = MagicMock()
    monkeypatch.setattr(inputs, "validation_steps", checks)

    inputs.merge_archives(["a.zip"], "gold.zip", STRICT, MergePolicy(), tmp_path)

    policies = {call.args[1]: call.args[3] for call in checks.check_archive.call_args_list}
    assert policies == {"a.zip": STRICT, "gold.zip": ValidationPolicy()}
