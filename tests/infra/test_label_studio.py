"""Label Studio as a part of the local stack: only if it is asked for, and behind our door."""

import os
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from infra import label_studio_door, stack
from infra.command_errors import StackError
from infra.door import Door
from infra.environment import inherited_environment, page_environment, worker_environment
from infra.preflight import require_label_studio
from infra.services import label_studio, prefect_server, services
from infra.stack_settings import REVIEWER, StackSettings
from studio.cli import app
from tests.infra.test_door import asked
from tests.label_studio import reviewer, run_label_studio


def test_a_stack_without_it_needs_and_knows_nothing_of_it(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path)
    assert "label-studio" not in {service.name for service in services(settings)}
    assert not [name for name in settings.person_environment if name.startswith("LABEL_")]
    with pytest.raises(StackError, match="make up REVIEW=1"):
        require_label_studio(StackSettings(state_dir=tmp_path, review_venv=tmp_path))


def test_a_stack_with_it_is_remembered_and_each_part_has_what_it_needs(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path, review=True)
    settings.remember()
    assert StackSettings(_env_file=tmp_path / "settings.env").review
    token, password = (settings.secrets[f"label_studio_{name}"] for name in ("token", "password"))
    assert {service.name for service in services(settings)} >= {"label-studio"}
    assert settings.person_environment["LABEL_STUDIO_PASSWORD"] == password
    for environment in (worker_environment(settings), prefect_server(settings).environment):
        assert environment["LABEL_STUDIO_API_KEY"] == token
        assert password not in environment.values()
    assert token not in page_environment(settings).values()


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("option", ["--review", "--no-review", None])
def test_up_is_told_with_or_without_it_or_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str | None, *, remembered: bool
) -> None:
    monkeypatch.setenv("STUDIO_REVIEW", "set here so that it is as it was after this test")
    monkeypatch.delenv("STUDIO_REVIEW")
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    StackSettings(review=remembered).remember()
    given: list[bool] = []
    monkeypatch.setattr(stack, "up", lambda settings, _: given.append(settings.review))
    done = CliRunner().invoke(app, ["up", *([option] if option else [])])
    assert done.exit_code == 0, done.output
    assert given == [remembered if option is None else option == "--review"]


def test_one_elsewhere_is_used_and_none_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is the shell's, and reaches who needs it alone."""
    monkeypatch.setenv("LABEL_STUDIO_URL", "https://labels.example")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "theirs")
    for review in (False, True):
        settings = StackSettings(state_dir=tmp_path, review=review)
        assert "label-studio" not in {service.name for service in services(settings)}
        assert worker_environment(settings)["LABEL_STUDIO_API_KEY"] == "theirs"
        assert "LABEL_STUDIO_PASSWORD" not in settings.person_environment
    assert "theirs" not in inherited_environment(settings).values()


def test_a_cvat_elsewhere_reaches_who_needs_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key is the shell's, and no command needs to be told of one."""
    settings = StackSettings(state_dir=tmp_path)
    assert not [name for name in worker_environment(settings) if name.startswith("CVAT_")]
    monkeypatch.setenv("CVAT_URL", "https://cvat.example")
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", "theirs")
    settings = StackSettings(state_dir=tmp_path)
    for environment in (worker_environment(settings), prefect_server(settings).environment):
        assert environment["CVAT_ACCESS_TOKEN"] == "theirs"
    for environment in (page_environment(settings), inherited_environment(settings)):
        assert "theirs" not in environment.values()


def test_what_the_shell_says_to_other_programs_is_not_said_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEBUG", "HOST", "SENTRY_DSN", "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"):
        monkeypatch.setenv(name, "true")
    environment = label_studio(StackSettings(state_dir=tmp_path)).environment
    assert "DEBUG" not in environment
    assert environment["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"] == "false"
    assert environment["LABEL_STUDIO_SENTRY_DSN"] == ""
    assert set(environment) - {name for name in environment if name.startswith(("LABEL_STUDIO_", "STUDIO_"))} <= {
        *("PATH", "LANG", "TMPDIR", "HOME", "PYTHONPATH")
    }


@pytest.mark.parametrize(
    ("method", "path", "let_in"),
    [
        ("POST", "/api/projects/1/import", True),
        ("GET", "/api/storages/s3", True),
        ("POST", "/api/storages/s3", False),
        ("POST", "//api//storages/localfiles", False),
        ("PATCH", "/api/ml/1", False),
        ("GET", "/admin/", False),
        ("GET", "/django-rq/", False),
        ("POST", "/__lsa/", False),
        ("GET", "/heidi-tips/", False),
    ],
)
def test_what_label_studio_would_reach_elsewhere_is_closed(method: str, path: str, *, let_in: bool) -> None:
    async def inside(_: object, __: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]

    door = Door(inside, label_studio_door.for_an_unused_part)
    sent = asked(door, [("host", "localhost:8004")], method=method, path=path)
    assert sent[0]["status"] == (204 if let_in else 403)


@pytest.mark.heavy
def test_label_studio_is_behind_the_door(tmp_path: Path) -> None:
    """A start again keeps the data, and a token that was changed is ours again."""
    with run_label_studio(tmp_path) as settings, reviewer(settings) as api:
        address = str(api.base_url)
        assert api.get("/api/current-user/whoami").json()["email"] == REVIEWER
        assert api.get("/", headers={"Host": "evil.example"}).status_code == 403
        assert api.get("/api/projects", headers={"Origin": "https://evil.example"}).status_code == 403
        for path in ("/api/projects", "/api/users", "/data/upload/1/x.jpg"):
            assert httpx.get(f"{address}{path}").status_code in {401, 403, 404}
        form = {"email": "a@b.example", "password": "long enough"}
        assert httpx.post(f"{address}/user/signup/", data=form).status_code == 403
        made = api.post("/api/projects", json={"title": "kept"}).raise_for_status().json()["id"]
        elsewhere = f"http://127.0.0.1:{os.environ['STUDIO_S3_PORT']}/tasks.json"
        assert api.post(f"/api/projects/{made}/import", data={"url": elsewhere}).is_client_error
        token = api.post("/api/current-user/reset-token/").raise_for_status().json()["token"]
        assert token != settings.environment["LABEL_STUDIO_API_KEY"]
    with run_label_studio(tmp_path) as settings, reviewer(settings) as api:
        assert [each["id"] for each in api.get("/api/projects").json()["results"]] == [made]
    log = (tmp_path / "label-studio.log").read_text()
    assert not [secret for secret in settings.secrets.values() if secret in log]
