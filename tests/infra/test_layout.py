"""A state folder says which release made it; another one refuses it, or moves it on."""

from pathlib import Path

import pytest

from infra import layout, stack
from infra.command_errors import StackError
from infra.layout import LAYOUT, Layout
from infra.stack_settings import StackSettings
from infra.upgrade import MIGRATIONS


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return StackSettings().model_copy(update={"state_dir": tmp_path})


def with_data(settings: StackSettings, **changes: object) -> StackSettings:
    (settings.state_dir / "postgres").mkdir()
    layout.write(settings, layout.present().model_copy(update=changes))
    return settings


def test_a_new_state_folder_is_of_this_release(settings: StackSettings) -> None:
    layout.ensure(settings)
    assert layout.read(settings) == layout.present()
    layout.ensure(settings)


def test_there_is_a_migration_from_each_layout_to_the_next() -> None:
    assert list(MIGRATIONS) == list(range(1, LAYOUT))


def test_data_without_a_layout_is_of_the_first_release_and_is_not_started(settings: StackSettings) -> None:
    (settings.state_dir / "s3").mkdir()
    with pytest.raises(StackError, match=r"found one of 0\.1\.0 \(layout 1\)\. `make upgrade TO=FOLDER`"):
        stack.up(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": LAYOUT + 1, "release": "9.0.0"}, r"release 9\.0\.0 has made it .* There is no way back"),
        ({"servers": {"mlflow": "99.0", "prefect": "3.8.8"}}, r"Expected mlflow 99\.0 or a newer one"),
        ({"servers": {"mlflow": "3.0", "prefect": "3.8.8"}}, r"found one of .*mlflow 3\.0.*make upgrade"),
    ],
)
def test_a_stack_of_another_release_is_not_started(
    settings: StackSettings, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(StackError, match=message):
        layout.ensure(with_data(settings, **changes))


def test_data_of_another_postgresql_says_how_to_move_it(settings: StackSettings) -> None:
    with_data(settings)
    (settings.state_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StackError, match=r"found data of 17\. Take a backup with release"):
        layout.ensure(settings)


def test_a_restore_that_was_cut_short_is_not_started(settings: StackSettings) -> None:
    (settings.state_dir / layout.RESTORING).touch()
    with pytest.raises(StackError, match="a restore that was cut short"):
        layout.ensure(settings)


def test_a_damaged_layout_is_named(settings: StackSettings) -> None:
    with_data(settings)
    (settings.state_dir / layout.FILE).write_text("{")
    with pytest.raises(StackError, match=r"layout\.json, found what is none"):
        layout.read(settings)


def test_a_pin_that_is_newer_needs_an_upgrade() -> None:
    assert not layout.is_older(layout.present())
    assert layout.is_older(Layout(layout=LAYOUT, release="0.2.0", servers={}))
