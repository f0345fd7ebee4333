"""When the last backup of a stack succeeded and where it lies: `last-backup.json` of the state folder."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from infra.backup.moments import is_to_come
from infra.stack_settings import StackSettings, write_private

FILE = "last-backup.json"
_HOUR_S = 3600


class LastBackup(BaseModel):
    """A whole backup of what is in the stack: its name, its folder, and when it was taken."""

    model_config = ConfigDict(frozen=True)

    name: str
    folder: str
    taken: AwareDatetime


def write(settings: StackSettings, name: str, folder: Path, taken: datetime) -> None:
    """Write down that there is a backup; the one before is forgotten."""
    readable = str(folder).encode(errors="backslashreplace").decode()  # a name may be no text
    last = LastBackup(name=name, folder=readable, taken=taken)
    write_private(settings.state_dir / FILE, last.model_dump_json())


def read(settings: StackSettings) -> LastBackup | None:
    """Return the last backup; None if nothing is known of one, or not when it was taken: its time is to come."""
    last = _read(settings)
    return None if last is None or is_to_come(last.taken) else last


def _read(settings: StackSettings) -> LastBackup | None:
    try:
        return LastBackup.model_validate_json((settings.state_dir / FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def describe(settings: StackSettings) -> str:
    """Return in words which backup is the last, how old it is, and what to do if there is none or it is too old."""
    last = _read(settings)
    if last is None:
        return "none is known; `studio backup FOLDER` takes one"
    text = f"{last.name} in {last.folder}"
    if is_to_come(last.taken):
        when = f"{last.taken.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"{text} is of {when}, a time to come, so its age is not known; `studio backup FOLDER` takes another"
    hours = max(0.0, (datetime.now(UTC) - last.taken).total_seconds() / _HOUR_S)
    text = f"{text}, {hours:.0f} h old"
    if not settings.backup_hours or hours <= settings.backup_hours:
        return text
    return f"{text}: more than {settings.backup_hours:g} (STUDIO_BACKUP_HOURS); `studio backup FOLDER` takes another"
