"""What machines elsewhere were told of the secrets of a stack, and that a rotation does not shut them out."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.command_errors import StackError
from infra.rotation import remote_keys, state
from infra.rotation.remote_keys import remembered
from infra.rotation.rotating import KEPT, kept_secrets, rotate
from infra.rotation.state import Rotation
from infra.stack_settings import StackSettings, write_private
from studio.cli import app

TRITON = "127.0.0.1:18001/127.0.0.1:18000"


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    """A stack that does not run."""
    return StackSettings(state_dir=tmp_path)


@remembered
def tell(settings: StackSettings, *names: str, text: str = "") -> dict[str, str]:
    """These secrets, and a text, as a machine elsewhere is told them."""
    return {name.upper(): f"studio:{settings.secrets[name]}" for name in names} | {"OWN": text}


@pytest.mark.usefixtures("_stack_with_accounts")
def test_a_rotation_keeps_what_a_file_of_a_machine_elsewhere_has(accounts_settings: StackSettings) -> None:
    printed = CliRunner().invoke(app, ["worker-env", "gpu-7", "--triton", TRITON]).stdout
    told = {name for name, secret in accounts_settings.secrets.items() if secret in printed}
    assert "triton_key" in told
    kept = kept_secrets(accounts_settings, elsewhere=False)
    assert kept.keys() == {*KEPT, *told}
    assert "`studio rotate-keys --elsewhere` changes it" in kept["triton_key"]
    assert kept_secrets(accounts_settings, elsewhere=True).keys() == KEPT.keys()
    remote_keys.forget(accounts_settings.state_dir, accounts_settings.secrets)
    assert kept_secrets(accounts_settings, elsewhere=False).keys() == KEPT.keys()


def test_what_was_told_is_known_until_it_has_changed(settings: StackSettings) -> None:
    assert remote_keys.read(settings.state_dir) == set()
    tell(settings, "triton_key", text="mine")
    tell(settings, "prefect")
    tell(settings, text="mine")
    assert remote_keys.read(settings.state_dir) == {"triton_key", "prefect"}
    assert not any(
        secret in (settings.state_dir / remote_keys.FILE).read_text() for secret in settings.secrets.values()
    )
    remote_keys.forget(settings.state_dir, ["prefect", "mlflow"])
    assert remote_keys.read(settings.state_dir) == {"triton_key"}
    remote_keys.forget(settings.state_dir, ["triton_key"])
    assert remote_keys.read(settings.state_dir) == set()


def test_nothing_is_told_while_keys_are_rotated(settings: StackSettings) -> None:
    settings.read_secrets()
    with state.alone(settings.state_dir), pytest.raises(StackError, match="let it end"):
        tell(settings, "triton_key")
    state.write(settings.state_dir, Rotation(former={}, new={}))
    with pytest.raises(StackError, match="`studio rotate-keys` ends it"):
        tell(settings, "triton_key")
    state.remove(settings.state_dir)
    assert tell(settings, "triton_key")["TRITON_KEY"].endswith(settings.secrets["triton_key"])


def test_a_damaged_file_is_named(settings: StackSettings) -> None:
    write_private(settings.state_dir / remote_keys.FILE, "{")
    with pytest.raises(StackError, match="Remove it"):
        kept_secrets(settings, elsewhere=False)


def test_a_triton_elsewhere_that_takes_part_has_the_key_of_all(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_TARGETS", f"{settings.local_tritons[0]},gpu-2:8001/gpu-2:8000")
    assert "triton_key" in kept_secrets(settings, elsewhere=False)
    assert "triton_key" not in kept_secrets(settings, elsewhere=True)


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("PREFECT_API_URL", {"prefect"}),
        ("MLFLOW_TRACKING_URI", {"mlflow", "mlflow_forms"}),
        ("TRITON_GRPC_URL", {"triton_key"}),
    ],
)
def test_the_password_of_a_service_elsewhere_is_kept_and_named(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch, variable: str, names: set[str]
) -> None:
    monkeypatch.setenv(variable, "http://elsewhere:1")
    kept = kept_secrets(settings, elsewhere=False)
    assert kept.keys() == {*KEPT, *names}
    assert all(kept[name].startswith(variable) for name in names)


def test_of_a_stack_that_is_down_no_key_of_a_machine_elsewhere_changes(settings: StackSettings) -> None:
    before = settings.secrets
    with pytest.raises(StackError, match="`studio up`, then this again"):
        rotate(settings, print, elsewhere=True)
    assert StackSettings(state_dir=settings.state_dir).secrets == before
