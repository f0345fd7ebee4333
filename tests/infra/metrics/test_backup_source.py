"""The age of the last backup as a metric."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.backup import last_backup
from infra.metrics.backup_source import BackupSource
from infra.stack_settings import StackSettings

TAKEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(settings: StackSettings) -> dict[str, float]:
    return {metric.name: metric.samples[0].value for metric in BackupSource(settings).read()}


def test_the_moment_of_the_last_backup_and_its_limit_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDIO_BACKUP_HOURS", raising=False)
    settings = StackSettings(state_dir=tmp_path)
    limit = {"studio_backup_limit_seconds": 48 * 3600}
    assert read(settings) == limit
    last_backup.write(settings, "first", Path("/mnt/a"), TAKEN)
    last_backup.write(settings, "second", Path("/mnt/b"), TAKEN + timedelta(hours=1))
    taken = {"studio_last_backup_timestamp_seconds": TAKEN.timestamp() + 3600}
    assert read(settings) == taken | limit
    assert read(settings.model_copy(update={"backup_hours": 0})) == taken
