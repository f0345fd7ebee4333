"""The comparison of a registered version does not end its training."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest
from prefect.logging import disable_run_logger

from tasks.parameters import TrainingParams
from tasks.tracked_training import comparison
from tasks.tracked_training.contenders import Contender
from tasks.tracking.registry import ModelVersion


def test_whatever_keeps_images_from_being_corrupted_leaves_the_versions_without_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a fault of a library")

    monkeypatch.setattr(comparison, "read_val_split", fail)
    version = ModelVersion(name="m", version=2, run_id="", task="detect", image_size=96, class_names=("cat",))
    contender = Contender(version=version, folder=tmp_path)
    with disable_run_logger():
        assert comparison.measure_corrupted([contender], MagicMock(), TrainingParams(), tmp_path) == {}
