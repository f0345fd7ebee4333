"""For how long a rotation of the keys has not gone on, as a metric."""

import os
import time
from pathlib import Path

import pytest

from infra.metrics.key_source import KeySource
from infra.rotation import state
from infra.rotation.state import Rotation
from infra.stack_settings import StackSettings


def read(folder: Path) -> dict[str, float]:
    source = KeySource(StackSettings(state_dir=folder))
    return {metric.name: metric.samples[0].value for metric in source.read()}


def test_a_rotation_that_was_cut_short_is_measured_until_it_ends(tmp_path: Path) -> None:
    assert read(tmp_path) == {"studio_key_rotation_stalled_seconds": 0}
    state.write(tmp_path, Rotation(former={}, new={}))
    long_ago = time.time() - 900
    os.utime(tmp_path / state.FILE, (long_ago, long_ago))
    assert read(tmp_path) == {"studio_key_rotation_stalled_seconds": pytest.approx(900, abs=60)}
    state.write(tmp_path, Rotation(former={}, new={}, is_ending=True))  # it goes on
    assert read(tmp_path)["studio_key_rotation_stalled_seconds"] < 60
    state.remove(tmp_path)
    assert read(tmp_path) == {"studio_key_rotation_stalled_seconds": 0}
