"""The doors of the object store, of PostgreSQL and of the state folder: docs/security.md says who they are for."""

import json
import os
import platform
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import httpx
import psutil
import psycopg2
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from infra import postgres, supervisord
from infra.environment import LINKS, s3_environment, worker_environment
from infra.identities import Role
from infra.services import s3_client, services
from infra.stack_settings import HOST, REGION, ROOT, StackSettings
from infra.store_security import prepare_security
from infra.supervisord import LAUNCHER
from infra.temporary import SHARED_MEMORY, TEMPORARY, make_temporary_folder, remove_temporary, temporary_folder
from infra.triton import GUARD, KEY_HEADER
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tests.infra import outsider
from tests.waiting import eventually

EVERYWHERE = dict.fromkeys(Bucket, "read list write")
MAY: dict[Role, dict[Bucket, str]] = {
    Role.ADMIN: EVERYWHERE,
    Role.WORKER: EVERYWHERE,
    Role.MLFLOW: {Bucket.MLFLOW: "read list write"},
    Role.TRITON: {Bucket.MODELS: "read list"},
    Role.LINKS: {Bucket.PREDICTIONS: "read", Bucket.RUNS: "read"},
    Role.PERSON: dict.fromkeys((Bucket.DATASETS, Bucket.MEDIA, Bucket.BASE_MODELS), "read list write")
    | dict.fromkeys((Bucket.PREDICTIONS, Bucket.RUNS), "read list"),
    Role.PAGE: {Bucket.DATASETS: "read list write"} | dict.fromkeys((Bucket.PREDICTIONS, Bucket.RUNS), "read list"),
}
KEY = "doors/object"


@pytest.fixture(scope="module")
def an_object_in_each_bucket(stack: StackSettings) -> Iterator[None]:
    client = s3_client(stack)
    for bucket in Bucket:
        client.put_object(Bucket=bucket, Key=KEY, Body=b"yes")
    yield
    for bucket in Bucket:
        client.delete_object(Bucket=bucket, Key=KEY)


@pytest.mark.parametrize("role", Role)
@pytest.mark.usefixtures("an_object_in_each_bucket")
def test_each_role_reaches_its_own_buckets_alone(stack: StackSettings, role: Role) -> None:
    client = s3_client(stack, role)
    asks: dict[str, Callable[[Bucket], object]] = {
        "read": lambda bucket: client.get_object(Bucket=bucket, Key=KEY),
        "list": lambda bucket: client.list_objects_v2(Bucket=bucket, MaxKeys=1),
        "write": lambda bucket: client.put_object(Bucket=bucket, Key=KEY, Body=b"yes"),
    }
    for bucket in Bucket:
        answers = {name: _status(ask, bucket) for name, ask in asks.items()}
        assert set(answers.values()) <= {200, 403}
        assert " ".join(name for name, status in answers.items() if status == 200) == MAY[role].get(bucket, ""), bucket


def _status(ask: Callable[[Bucket], object], bucket: Bucket) -> int:
    try:
        ask(bucket)
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:{live}", 200), ("http://localhost:{live}", 200), ("http://127.0.0.1:{s3}", 200)]
    + [(origin, 403) for origin in ("http://localhost:{s3}", "http://127.0.0.1:1", "http://evil.example", "null")],
)
def test_the_store_is_open_to_the_front_page_and_the_galleries_alone(
    stack: StackSettings, origin: str, status: int
) -> None:
    """What a browser asks before it sends a part of an upload."""
    asked = {"Access-Control-Request-Method": "PUT", "Origin": origin.format(live=stack.live_port, s3=stack.s3_port)}
    answer = httpx.options(f"http://{HOST}:{stack.s3_port}/{Bucket.DATASETS}/a.zip", headers=asked)
    assert answer.status_code == status
    assert answer.headers.get("access-control-allow-origin") == (asked["Origin"] if status == 200 else None)


@pytest.mark.parametrize("role", [role for role in Role if role != Role.ADMIN])
def test_only_make_up_makes_and_removes_buckets(stack: StackSettings, role: Role) -> None:
    client = s3_client(stack, role)
    for ask in (client.create_bucket, client.delete_bucket):
        with pytest.raises(ClientError, match="AccessDenied"):
            ask(Bucket="another" if ask == client.create_bucket else Bucket.MEDIA)


SETTINGS = (
    *("accelerate", "acl", "cors", "encryption", "lifecycle", "logging", "notification", "object-lock"),
    *("ownershipControls", "policy", "publicAccessBlock", "replication", "requestPayment", "tagging"),
    *("versioning", "website"),
)


@pytest.mark.parametrize("role", [role for role in Role if role != Role.ADMIN])
def test_only_make_up_changes_what_a_bucket_does_with_its_objects(stack: StackSettings, role: Role) -> None:
    """Whether it keeps versions, when objects expire, whose pages may read them: not even in a bucket that it writes.

    The store has one word for writing objects and settings; a prefix in the query once made it take these for those.
    """
    bucket = max(MAY[role], key=lambda bucket: ("write" in MAY[role][bucket], bucket == Bucket.DATASETS))
    asked = [
        (method, f"{path}?{setting}{more}")
        for method in ("PUT", "DELETE")
        for setting in SETTINGS
        for path, more in ((f"/{bucket}", ""), (f"/{bucket}/", "&prefix=a"))
    ]
    with httpx.Client(base_url=f"http://{HOST}:{stack.s3_port}") as client:
        answers = {each: client.request(*each, headers=_signed(stack, role, *each)).text for each in asked}
    assert {each: text for each, text in answers.items() if "<Code>AccessDenied</Code>" not in text} == {}
    assert s3_client(stack).get_bucket_versioning(Bucket=Bucket.DATASETS)["Status"] == "Enabled"


def _signed(stack: StackSettings, role: Role, method: str, path: str) -> dict[str, str]:
    """The headers of a request without a body."""
    request = AWSRequest(method, f"http://{HOST}:{stack.s3_port}{path}", data=b"")
    S3SigV4Auth(Credentials(*stack.s3_keys(role)), "s3", REGION).add_auth(request)
    return dict(request.headers)


@pytest.mark.usefixtures("an_object_in_each_bucket")
def test_a_link_opens_its_object_and_nothing_else(stack: StackSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is signed by the weakest key; where none is set for links, by that of the process."""
    link = ObjectStore(Bucket.RUNS).presigned_url(KEY)
    assert stack.s3_keys(Role.LINKS)[0] in link
    assert httpx.get(link).text == "yes"
    assert httpx.get(link.replace("/runs/", "/predictions/")).status_code == 403
    assert httpx.put(link, content=b"no").status_code == 403
    assert httpx.get(ObjectStore(Bucket.DATASETS).presigned_url(KEY)).status_code == 403
    for name in LINKS:
        monkeypatch.delenv(name)
    assert stack.s3_keys(Role.WORKER)[0] in ObjectStore(Bucket.RUNS).presigned_url(KEY)


GRPC_CALLS = {
    "s3_master": "/master_pb.Seaweed/GetMasterConfiguration",
    "s3_volume": "/volume_server_pb.VolumeServer/VolumeServerStatus",
    "s3_filer": "/filer_pb.SeaweedFiler/GetFilerConfiguration",
    "s3": "/messaging_pb.SeaweedS3IamCache/RemoveIdentity",
}


def _ask_grpc(channel: grpc.Channel, method: str) -> grpc.StatusCode:
    with channel:
        try:
            channel.unary_unary(method)(b"", timeout=3)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def _credentials(trusted: Path, own: Path | None) -> grpc.ChannelCredentials:
    files = [trusted / "store.crt", *([own / "store.key", own / "store.crt"] if own else [])]
    return grpc.ssl_channel_credentials(*(path.read_bytes() for path in files))


@pytest.mark.parametrize("part", GRPC_CALLS)
def test_the_parts_of_the_store_talk_to_each_other_alone(stack: StackSettings, part: str, tmp_path: Path) -> None:
    """Without a certificate, and with another one, nobody gets a word; with the store's own one does."""
    method, own = GRPC_CALLS[part], stack.state_dir / "weed"
    prepare_security(tmp_path)
    port = getattr(stack, f"{part}_port") + 10_000
    socket_path = TEMPORARY / f"seaweedfs-{part.removeprefix('s3_')}-grpc-{port}.sock"
    assert stat.S_IMODE(socket_path.stat().st_mode) & 0o077 == 0
    for address in (f"{HOST}:{port}", f"unix:{socket_path}"):
        assert _ask_grpc(grpc.insecure_channel(address), method) == grpc.StatusCode.UNAVAILABLE
    for other in (None, tmp_path):
        channel = grpc.secure_channel(f"{HOST}:{port}", _credentials(own, other))
        assert _ask_grpc(channel, method) == grpc.StatusCode.UNAVAILABLE
    channel = grpc.secure_channel(f"{HOST}:{port}", _credentials(own, own))
    assert _ask_grpc(channel, method) != grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("method", "part", "path", "status"),
    [
        ("GET", "s3_master", "/col/delete?collection=media", 404),
        ("GET", "s3_master", "/dir/assign", 404),
        ("GET", "s3_master", "/dir/status", 404),
        ("GET", "s3_volume", "/1,01637037d6", 401),
        ("POST", "s3_volume", "/1,01637037d6", 401),
        ("DELETE", "s3_volume", "/1,01637037d6", 401),
        ("GET", "s3_volume", "/ui/index.html", 401),
        ("GET", "s3_filer", "/buckets/", 404),
        ("POST", "s3_filer", "/buckets/media/planted", 404),
        ("GET", "s3", "/media", 403),
        ("POST", "s3", "/?Action=ListUsers&Version=2010-05-08", 405),
    ],
)
def test_no_port_of_the_store_obeys_without_a_key(
    stack: StackSettings, method: str, part: str, path: str, status: int
) -> None:
    port = getattr(stack, f"{part}_port")
    assert httpx.request(method, f"http://{HOST}:{port}{path}").status_code == status
    assert s3_client(stack).head_bucket(Bucket=Bucket.MEDIA)


@pytest.mark.heavy
def test_the_stores_own_shell_is_of_no_use_to_another_user(stack: StackSettings) -> None:
    """`weed shell` showed the keys of all to anybody."""
    weed = next(service for service in services(stack) if service.name == "object-store").command[0]
    program = os.open(weed, os.O_RDONLY)  # its folder may be shut to others
    places = [f"-master={HOST}:{stack.s3_master_port}", f"-filer={HOST}:{stack.s3_filer_port}"]
    asked: dict[str, Any] = {"input": "s3.configure\nfs.ls /buckets\nvolume.list\n", "pass_fds": (program,)}
    with pytest.raises(subprocess.TimeoutExpired) as waited:
        outsider.run([f"/proc/self/fd/{program}", "shell", *places], timeout=10, **asked)
    os.close(program)
    said = b"".join(filter(None, (waited.value.stdout, waited.value.stderr))).decode()
    assert "accessKey" not in said
    assert "media" not in said


SECRETS_OF = {
    "supervisord": set[str](),
    "postgres": set[str](),
    "object-store": set[str](),
    "prefect": {"postgres", "prefect"},
    "mlflow": {"postgres", "mlflow", "mlflow_forms", "s3_mlflow_access_key", "s3_mlflow_secret_key"},
    "triton": {"triton_key", "s3_triton_access_key", "s3_triton_secret_key"},
    "studio": {
        *("triton_key", "front_page", "prefect", "mlflow", "metrics"),
        *(f"s3_{Role.PAGE}_{part}_key" for part in ("access", "secret")),
    },
    "worker": {
        *("triton_key", "prefect", "mlflow"),
        *(f"s3_{role}_{part}_key" for role in (Role.WORKER, Role.LINKS) for part in ("access", "secret")),
    },
    "prometheus": set[str](),
    "alertmanager": set[str](),
    "alert-sender": set[str](),
}
SECRETS_OF["training-worker"] = SECRETS_OF["worker"]


def _processes(stack: StackSettings) -> dict[str, psutil.Process]:
    supervisor = supervisord.process(stack)
    assert supervisor is not None
    with supervisord.connect(stack) as connection:
        pids = {info["name"]: info["pid"] for info in connection.getAllProcessInfo()}
    return {"supervisord": supervisor} | {name: psutil.Process(pid) for name, pid in pids.items()}


def test_each_service_has_its_own_keys_in_its_environment(stack: StackSettings) -> None:
    for name, process in _processes(stack).items():
        values = " ".join(process.environ().values())
        known = SECRETS_OF[name] | ({"prometheus", "metrics_postgres"} if name == "studio" and stack.metrics else set())
        assert {key for key, secret in stack.secrets.items() if secret in values} == known, name


def test_the_environment_of_postgresql_is_empty_but_for_what_it_needs(stack: StackSettings) -> None:
    assert _processes(stack)["postgres"].environ().keys() == {"LC_ALL", supervisord.STACK_ENV_VAR}


AS_ROOT = pytest.mark.skipif(not outsider.can_be(), reason="PostgreSQL runs as us unless we are root")


@AS_ROOT
def test_postgresql_is_a_user_of_its_own(stack: StackSettings) -> None:
    """No service and no person has its number, so whoever runs as `nobody` reads nothing of it."""
    process, number = _processes(stack)["postgres"], postgres.own_user(stack)
    assert number not in {entry.pw_uid for entry in pwd.getpwall()}
    family = [process, *process.children(recursive=True)]
    for each in family:
        assert {*each.uids(), *each.gids()} == {number}
    others = [each for each in psutil.process_iter(["uids", "name"]) if each.info["name"] != "postgres"]
    assert number not in {number for each in others for number in each.info["uids"] or ()}
    data = stack.state_dir / "postgres"
    assert {path.stat().st_uid for path in (data, *data.rglob("*")) if path.exists()} == {number}
    nobody = pwd.getpwnam("nobody").pw_uid
    held = [data, data / "PG_VERSION", data / "global" / "pg_control", Path(f"/proc/{process.pid}/environ")]
    assert outsider.readable(held, nobody) == []


def test_postgresql_is_reached_with_its_password_alone(stack: StackSettings) -> None:
    """There is no socket by which a user of this machine could come in by a name."""
    process = _processes(stack)["postgres"]
    assert [each.laddr for each in process.net_connections("unix") if each.laddr] == []
    for password in ("", "postgres"):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(
                host=HOST, port=stack.postgres_port, user="postgres", password=password, passfile="/dev/null"
            )


@AS_ROOT
def test_the_data_of_an_earlier_release_are_handed_over(tmp_path: Path) -> None:
    """They belonged to `nobody`; an interrupted making leaves nothing that counts."""
    settings = StackSettings(state_dir=tmp_path)
    number, partial = postgres.own_user(settings), tmp_path / "postgres.partial"
    partial.mkdir()
    postgres.prepare(settings)
    data = tmp_path / "postgres"
    made = [data, *data.rglob("*")]
    assert not partial.exists()
    assert {(path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o077) for path in made} == {
        (number, number, 0)
    }
    for path in made:
        os.chown(path, pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    postgres.prepare(settings)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(number, number)}


def test_the_environment_file_holds_the_keys_of_a_person_alone(stack: StackSettings) -> None:
    text = (stack.state_dir / "env").read_text()
    held = {name for name, secret in stack.secrets.items() if secret in text}
    pages = {"front_page", "prefect", "mlflow", *(("prometheus", "alertmanager") if stack.metrics else ())}
    assert held == {*pages, "s3_person_access_key", "s3_person_secret_key"}


def test_nobody_else_reads_the_state_folder(stack: StackSettings) -> None:
    """PostgreSQL's user passes through it, to a folder of its own."""
    paths = [path for path in stack.state_dir.rglob("*") if path.exists()]
    assert len(paths) > 100
    assert [path for path in stack.state_dir.iterdir() if path.stat().st_mode & 0o077] == []
    if outsider.can_be():
        assert outsider.readable([stack.state_dir, *paths]) == []


def test_nobody_else_reads_what_lies_outside_the_state_folder(stack: StackSettings) -> None:
    segments = list(SHARED_MEMORY.glob(f"yolo-studio-{stack.triton_http_port}-*"))
    folder = temporary_folder(stack)
    assert segments
    assert outsider.readable([folder, *folder.rglob("*"), *segments]) == []


def test_the_load_key_is_in_no_command_line(stack: StackSettings) -> None:
    """Nor any other secret; Triton has it all the same: see what it answers without the key, and with it."""
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        assert [name for name, secret in stack.secrets.items() if secret in line] == []
    for protocol in ("http-restricted-api", "grpc-restricted-protocol"):
        assert f"--{protocol} {GUARD}" in " ".join(_processes(stack)["triton"].cmdline())
    index = f"http://{HOST}:{stack.triton_http_port}/v2/repository/index"
    assert httpx.post(index).status_code == 403
    assert httpx.post(index, headers={KEY_HEADER: stack.triton_key}).is_success


WATCHED = """
import os, sys
from infra import hidden_argument
hidden_argument.execute(["/bin/sh", "-c", sys.argv[1], "SECRET", "plain"], {"SECRET": "s3cr3t"}, "SECRET")
"""


def test_a_hidden_argument_is_never_seen_from_outside() -> None:
    """From before the program's first instruction; the program itself has it, and no child that it did not start."""
    command = [sys.executable, "-c", WATCHED, 'echo "$0 $1"; read stop']
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        path = Path(f"/proc/{started.pid}/cmdline")
        lines = set[bytes]()

        def sees_the_shell() -> bool:
            lines.add(path.read_bytes())
            return any(line.startswith(b"/bin/sh") for line in lines)

        eventually(sees_the_shell, "the shell's command line", every_s=0)
        assert started.stdout.readline() == "s3cr3t plain\n"
        lines.add(path.read_bytes())
        assert psutil.Process(started.pid).children() == []
        started.stdin.write("stop\n")
        started.stdin.close()
    assert any(line.startswith(b"/bin/sh\0-c") for line in lines)
    assert not any(b"s3cr3t" in line for line in lines if line.startswith(b"/bin/sh"))


UNTRACED = """
import ctypes, platform, struct, sys
number = {"x86_64": 101, "aarch64": 117}[platform.machine()]  # of ptrace
# What this process and its children ask of the kernel: ptrace is not permitted (EPERM), all else is.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == prctl(22, 2, program, 0, 0) == 0  # no new privileges; a filter
"""


@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="the number of ptrace is not known")
def test_where_nobody_may_be_traced_the_program_starts_and_a_line_says_what_is_seen() -> None:
    command = [sys.executable, "-c", UNTRACED + WATCHED, 'echo "$0 $1"; tr "\\0" " " < /proc/$$/cmdline']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    own, seen = done.stdout.splitlines()
    assert own == "s3cr3t plain"
    assert seen.endswith(" s3cr3t plain ")
    assert done.stderr == (
        "expected to hide a secret from the list of processes, found that no process may be traced\n"
    )


def test_secrets_of_an_earlier_release_are_kept_and_the_missing_ones_made(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"postgres": "old", "s3_access_key": "old"}))
    made = StackSettings(state_dir=tmp_path).secrets
    assert made["postgres"] == "old"
    assert len(set(made.values())) == len(made) - 1
    assert StackSettings(state_dir=tmp_path).secrets == made


def test_keys_of_local_services_are_shown_to_none_elsewhere(
    monkeypatch: pytest.MonkeyPatch, stack: StackSettings
) -> None:
    given = {"AWS_ENDPOINT_URL": "https://s3.example.com", "AWS_PROFILE": "mine", "TRITON_GRPC_URL": "gpu:8001"}
    for name in (*LINKS, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "STUDIO_TRITON_KEY"):
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = StackSettings.load()
    for role in Role:
        assert s3_environment(settings, role)["AWS_PROFILE"] == "mine"
    found = " ".join((settings.environment | worker_environment(settings)).values())
    elsewhere = ("s3_", "triton_")
    assert [name for name, secret in stack.secrets.items() if secret in found and name.startswith(elsewhere)] == []


def launch(folder: Path, **facts: object) -> str:
    """What a command prints that is started as a service."""
    (folder / "start.json").write_text(json.dumps({"user": None, "environment": {}, "nice": 0} | facts))
    command = [sys.executable, "-I", "-S", str(LAUNCHER), str(folder / "start.json")]
    return subprocess.run(command, env={"OTHER": "1"}, capture_output=True, text=True, check=True).stdout


def test_a_service_starts_in_its_own_environment_alone(tmp_path: Path) -> None:
    said = launch(tmp_path, command=["/usr/bin/env"], environment={"A": 'x "y" \\ %z'})
    assert said == 'A=x "y" \\ %z\n'


def test_a_service_stands_back_as_far_as_it_says(tmp_path: Path) -> None:
    assert int(launch(tmp_path, command=["/usr/bin/nice"], nice=3)) == os.nice(0) + 3


def test_what_a_stack_leaves_outside_its_folder_is_removed(tmp_path: Path, stack: StackSettings) -> None:
    """But nothing of a stack that runs: what belongs to ports that are in use is not ours."""
    with socket.create_server((HOST, 0)) as taken:
        other = stack.model_copy(update={"state_dir": tmp_path, "s3_master_port": taken.getsockname()[1] - 10_000})
        make_temporary_folder(other)
        left = TEMPORARY / f"seaweedfs-master-grpc-{taken.getsockname()[1]}.sock"
        left.touch()
        remove_temporary(other)
        assert left.exists()
        assert not temporary_folder(other).exists()
        assert temporary_folder(stack).exists()
    remove_temporary(other)
    assert not left.exists()
    assert list(SHARED_MEMORY.glob(f"yolo-studio-{stack.triton_http_port}-*"))
