"""New values in the place of the former ones, in the files that services read when they start."""

from collections.abc import Mapping
from pathlib import Path

from infra.rotation.state import Rotation
from infra.stack_settings import StackSettings, write_private


def put_in_place(settings: StackSettings, rotation: Rotation) -> None:
    """Change the environments of services, `.studio/env` and the secrets; all else in them stays as it was made.

    A file that has the new values already is let alone: its date says since when.
    """
    texts = _texts(rotation)
    for path in [*sorted((settings.state_dir / "services").glob("*.json")), settings.state_dir / "env"]:
        _replace(path, texts)
    settings.write_secrets(settings.read_secrets() | dict(rotation.new))


def _texts(rotation: Rotation) -> dict[str, str]:
    """What takes the place of each former text; the user of PostgreSQL goes with the password, in addresses."""
    names = rotation.new.keys() - {"postgres", "postgres_user"}
    texts = {rotation.former[name]: rotation.new[name] for name in names}
    if "postgres" in rotation.new:
        former, new = (f"{each['postgres_user']}:{each['postgres']}@" for each in (rotation.former, rotation.new))
        texts[former] = new
    return texts


def _replace(path: Path, texts: Mapping[str, str]) -> None:
    text = before = path.read_text()
    for former, new in texts.items():
        text = text.replace(former, new)
    if text != before:
        write_private(path, text)
