"""What is known of the last backup, and how it is told."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.backup import last_backup
from infra.stack_settings import StackSettings

NONE = "none is known; `studio backup FOLDER` takes one"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    monkeypatch.delenv("STUDIO_BACKUP_HOURS", raising=False)
    return StackSettings(state_dir=tmp_path)


def test_a_stack_that_nobody_has_backed_up_says_how_to(settings: StackSettings) -> None:
    assert last_backup.describe(settings) == NONE


@pytest.mark.parametrize("left", [b"", b"{", b'{"name": "x", "folder": "/y", "taken": "2026-01-02T03:04:05"}'])
def test_a_file_that_says_no_moment_is_no_backup(settings: StackSettings, left: bytes) -> None:
    (settings.state_dir / last_backup.FILE).write_bytes(left)
    assert last_backup.read(settings) is None
    assert last_backup.describe(settings) == NONE


def test_a_backup_that_is_too_old_is_told_with_what_to_do(settings: StackSettings) -> None:
    last_backup.write(settings, "young", Path("/mnt/a"), datetime.now(UTC) - timedelta(hours=5))
    assert last_backup.describe(settings) == "young in /mnt/a, 5 h old"
    last_backup.write(settings, "old", Path("/mnt/a"), datetime.now(UTC) - timedelta(hours=50))
    told = "old in /mnt/a, 50 h old"
    assert last_backup.describe(settings.model_copy(update={"backup_hours": 0})) == told
    assert last_backup.describe(settings) == (
        f"{told}: more than 48 (STUDIO_BACKUP_HOURS); `studio backup FOLDER` takes another"
    )


def test_when_a_backup_of_a_time_to_come_was_taken_is_not_known(settings: StackSettings) -> None:
    last_backup.write(settings, "later", Path("/mnt"), datetime(2099, 12, 31, tzinfo=UTC))
    assert last_backup.read(settings) is None
    assert last_backup.describe(settings) == (
        "later in /mnt is of 2099-12-31 00:00 UTC, a time to come, so its age is not known; "
        "`studio backup FOLDER` takes another"
    )


def test_a_clock_may_be_off_by_a_minute(settings: StackSettings) -> None:
    last_backup.write(settings, "later", Path("/mnt"), datetime.now(UTC) + timedelta(minutes=1))
    assert last_backup.read(settings) is not None
    assert last_backup.describe(settings) == "later in /mnt, 0 h old"


def test_a_folder_whose_name_is_no_text_is_written_down(settings: StackSettings) -> None:
    last_backup.write(settings, "odd", Path(os.fsdecode(b"/mnt/\xff")), datetime.now(UTC))
    last = last_backup.read(settings)
    assert last is not None
    assert last.folder == r"/mnt/\udcff"


def test_only_the_owner_reads_where_backups_are(settings: StackSettings) -> None:
    last_backup.write(settings, "x", Path("/mnt"), datetime.now(UTC))
    assert (settings.state_dir / last_backup.FILE).stat().st_mode & 0o077 == 0
