"""A restore: into nothing alone, whole or none, and what comes of it is what was backed up."""

import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import layout
from infra.backup import last_backup
from infra.backup.manifests import BackupFolder, Manifest
from infra.stack_settings import StackSettings
from tests.another_stack import another_stack, run_studio
from tests.infra.accounts.database import run_postgres
from tests.infra.backup.backed_up_accounts import add_accounts, ask
from tests.paths import ROOT

RELEASE = ROOT / "tests" / "stacks" / "release-0.1.0.tar.xz"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    with tarfile.open(RELEASE) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "backup"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with another_stack(tmp_path / "state") as values:
        yield values


def test_a_restore_writes_over_no_stack(environment: dict[str, str], backups: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / "s3").mkdir(parents=True)
    refused = run_studio(environment, "restore", str(backups))
    assert refused.returncode == 1
    assert "found the data of one, over which nothing is written. Move it away" in " ".join(refused.stderr.split())
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["s3"]


def test_a_backup_of_a_newer_release_is_refused(environment: dict[str, str], backups: Path, tmp_path: Path) -> None:
    (path,) = (backups / "backups").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layout": layout.LAYOUT + 1, "release": "9.0.0"}))
    refused = run_studio(environment, "restore", str(backups))
    assert refused.returncode == 1
    assert "found that release 9.0.0 has made it" in " ".join(refused.stderr.split())
    assert not (tmp_path / "state" / "secrets.json").exists()


def test_a_restore_of_another_backup_does_not_go_on_with_one_that_was_cut_short(
    environment: dict[str, str], backups: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    mark = tmp_path / "state" / layout.RESTORING
    mark.write_text(json.dumps({"backup": "20260101T000000Z", "index": "0" * 64}))
    refused = run_studio(environment, "restore", str(backups))
    assert refused.returncode == 1
    assert "the restore of backup 20260101T000000Z, which was cut short" in " ".join(refused.stderr.split())
    assert [path.name for path in (tmp_path / "state").iterdir()] == [layout.RESTORING]


def test_of_several_stacks_one_has_to_be_named(environment: dict[str, str], backups: Path, tmp_path: Path) -> None:
    (path,) = (backups / "backups").glob("*.json")
    written = json.loads(path.read_text())
    for stack_id, day in (("a" * 32, "02"), ("b" * 32, "03")):
        changes = {"format": 2, "stack": stack_id, "taken": f"2099-01-{day}T00:00:00Z"}
        path.with_name(f"209901{day}T000000Z.json").write_text(json.dumps(written | changes))
    refused = run_studio(environment, "restore", str(backups))
    assert refused.returncode == 1
    told = " ".join(refused.stderr.split())
    assert "found those of 2. Name the one" in told
    assert "20990102T000000Z of stack aaaaaaaa, 20990103T000000Z of stack bbbbbbbb" in told
    assert not (tmp_path / "state").exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackSettings]:
    """A PostgreSQL server that belongs to others."""
    with run_postgres(tmp_path_factory.mktemp("server") / "state") as settings:
        yield settings


def assert_refused(environment: dict[str, str], backups: Path, server: StackSettings) -> None:
    """A restore is refused, and the database of others stays."""
    refused = run_studio(environment, "restore", str(backups))
    assert refused.returncode == 1
    assert "found 1 tables in it. A restore writes over nothing" in " ".join(refused.stderr.split())
    assert ask(server, "mlflow", "SELECT count(*) FROM work_of_a_year") == [(0,)]
    assert ask(server, "postgres", "SELECT datname FROM pg_database WHERE datname ~ 'prefect'") == []
    mark = json.loads((Path(environment["STUDIO_STATE_DIR"]) / layout.RESTORING).read_text())
    assert mark["found_empty"] == []


@pytest.fixture
def elsewhere(environment: dict[str, str], server: StackSettings) -> Iterator[dict[str, str]]:
    """The environment of a stack whose databases are on the server of others, where `mlflow` is theirs."""
    ask(server, "postgres", "CREATE DATABASE mlflow")
    ask(server, "mlflow", "CREATE TABLE work_of_a_year ()")
    yield environment | {"STUDIO_POSTGRES_URL": server.database_url}
    for name in ("mlflow", "prefect", "studio"):
        ask(server, "postgres", f"DROP DATABASE IF EXISTS {name}")


def test_a_restore_that_was_begun_writes_over_nothing_elsewhere_that_it_did_not_find_empty(
    elsewhere: dict[str, str], backups: Path, tmp_path: Path, server: StackSettings
) -> None:
    """The mark is that of an earlier release, which has the name of the backup alone."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / layout.RESTORING).write_text(BackupFolder(backups).names()[0])
    assert_refused(elsewhere, backups, server)


def content(folder: Path, manifest: Manifest) -> list[tuple[object, ...]]:
    """All of an object but its date and the id of its version."""
    return sorted(
        (each.bucket, each.key, each.version is None, each.etag, each.sha256, each.content_type, str(each.metadata))
        for each in BackupFolder(folder).objects(manifest)
        if each.key != "locks/conditional-write-probe"
    )


TAKE = """
import sys
from pathlib import Path
from infra.backup.data_services import data_services
from infra.backup.taking import take
from infra.stack_settings import StackSettings
settings = StackSettings.load()
with data_services(settings):
    take(settings, Path(sys.argv[1]), print, at_work=False)
"""


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_restore_into_databases_elsewhere_is_refused_until_they_are_empty_and_goes_on_when_killed(
    elsewhere: dict[str, str], backups: Path, tmp_path: Path, server: StackSettings
) -> None:
    """With accounts in it, all of whose sessions end."""
    add_accounts(backups, server)
    for _ in range(2):
        assert_refused(elsewhere, backups, server)
    ask(server, "mlflow", "DROP TABLE work_of_a_year")
    state = tmp_path / "state"
    command = [sys.executable, "-m", "studio", "restore", str(backups)]
    lines: list[str] = []
    with subprocess.Popen(command, env=elsewhere, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not lines or "database" not in lines[-1]:
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    (found_empty,) = json.loads((state / layout.RESTORING).read_text())["found_empty"]
    assert found_empty == server.database_url.replace(f":{server.secrets['postgres']}@", "@")
    done = run_studio(elsewhere, "restore", str(backups))
    assert done.returncode == 0, done.stderr
    assert f"{lines[-1].strip().partition(':')[0]} is whole since an attempt before" in done.stdout
    assert not (state / layout.RESTORING).exists()
    assert ask(server, "mlflow", "SELECT count(*) FROM registered_models") == [(1,)]
    assert ask(server, "postgres", "SELECT datname FROM pg_database WHERE datname ~ 'restoring'") == []
    assert "accounts, tokens and keys are those of 20" in done.stdout
    assert ask(server, "studio", "SELECT name FROM accounts") == [("ada",)]
    assert ask(server, "studio", "SELECT count(*) FROM sessions") == [(0,)]
    assert ask(server, "studio", "SELECT count(*) FROM tokens") == [(1,)]


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_a_restore_killed_at_any_moment_begins_anew_and_ends_as_it_was(
    environment: dict[str, str], backups: Path, tmp_path: Path
) -> None:
    """With secrets of this machine, which stay."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "secrets.json").write_text(json.dumps({"postgres": "of this machine"}))
    command = [sys.executable, "-m", "studio", "restore", str(backups)]
    for lines in (1, 2, 4):  # after the manifest, a database, some objects
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
        assert (state / layout.RESTORING).exists()
        refused = run_studio(environment, "up")
        assert "a restore that was cut short" in " ".join(refused.stderr.split())
        print(f"restore | killed after line {lines}", flush=True)
    done = run_studio(environment, "restore", str(backups))
    assert done.returncode == 0, done.stderr
    assert not (state / layout.RESTORING).exists()
    assert json.loads((state / last_backup.FILE).read_bytes())["folder"] == str(backups)
    assert json.loads((state / "secrets.json").read_text())["postgres"] == "of this machine"

    again = tmp_path / "again"
    subprocess.run([sys.executable, "-c", TAKE, str(again)], env=environment, check=True)
    _, first = BackupFolder(backups).read()
    _, second = BackupFolder(again).read()
    assert content(again, second) == content(backups, first)
    assert (second.layout, second.release) == (1, "0.1.0")
    for name, blob in first.databases.items():
        assert abs(second.databases[name].size - blob.size) < blob.size * 0.05
