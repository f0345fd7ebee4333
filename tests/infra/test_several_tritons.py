"""Tritons side by side on this machine, and elsewhere, as `make up` starts and names them."""

import re
from collections import Counter
from pathlib import Path

import pytest

from infra import preflight, services
from infra.command_errors import StackError
from infra.stack_settings import HOST, StackSettings
from infra.supervisord import Service


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing runs elsewhere, and the state folder is new."""
    for name in ("TRITON_TARGETS", "TRITON_GRPC_URL", "TRITON_HTTP_URL", "STUDIO_TRITONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    for number, name in enumerate(("HTTP", "GRPC", "METRICS")):
        monkeypatch.setenv(f"STUDIO_TRITON_{name}_PORT", str(8000 + number))
    return monkeypatch


def tritons(settings: StackSettings) -> list[Service]:
    return [service for service in services.services(settings) if service.name.startswith("triton")]


@pytest.mark.usefixtures("alone")
def test_one_triton_is_as_it_was() -> None:
    settings = StackSettings.load()
    (service,) = tritons(settings)
    assert service.name == "triton"
    assert service.environment["TRITON_HTTP_URL"] == f"{HOST}:8000"
    assert "TRITON_TARGETS" not in settings.environment | service.environment


def test_each_has_ports_and_an_address_of_its_own_and_flows_know_all(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("STUDIO_TRITONS", "3")
    settings = StackSettings.load()
    found = tritons(settings)
    assert [service.name for service in found] == ["triton", "triton-2", "triton-3"]
    assert [service.environment["TRITON_HTTP_URL"] for service in found] == [f"{HOST}:{8000 + n}" for n in (0, 10, 20)]
    assert [service.environment["TRITON_GRPC_URL"] for service in found] == [f"{HOST}:{8001 + n}" for n in (0, 10, 20)]
    ports = Counter(port for service in services.services(settings) for port in service.ports.values())
    assert set(ports.values()) == {1}
    assert settings.person_environment["TRITON_GRPC_URL"] == f"{HOST}:8001"
    assert settings.person_environment["TRITON_TARGETS"].split(",") == [
        f"{HOST}:{8001 + n}/{HOST}:{8000 + n}" for n in (0, 10, 20)
    ]


def test_their_number_is_remembered(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("STUDIO_TRITONS", "2")
    StackSettings.load().remember()
    alone.delenv("STUDIO_TRITONS")
    assert StackSettings.load().tritons == 2


def test_ports_that_there_are_not_are_refused(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("STUDIO_TRITONS", "2")
    alone.setenv("STUDIO_TRITON_METRICS_PORT", "65530")
    with pytest.raises(ValueError, match="expected ports up to 65535 of 2 Tritons, found 65530 of the first"):
        StackSettings.load()


def test_a_triton_here_and_one_elsewhere_are_used_together(alone: pytest.MonkeyPatch) -> None:
    targets = "localhost:8001/localhost:8000,gpu-2:8001/gpu-2:8000"
    alone.setenv("TRITON_TARGETS", targets.replace("localhost", HOST))
    settings = StackSettings.load()
    preflight.require_local_targets(settings)
    assert preflight.other_targets(settings) == ["gpu-2:8001"]
    assert settings.environment["TRITON_TARGETS"] == targets.replace("localhost", HOST)
    assert [service.name for service in tritons(settings)] == ["triton"]


def test_targets_without_the_triton_that_would_run_here_are_refused(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("TRITON_TARGETS", "gpu-1:8001/gpu-1:8000,gpu-2:8001/gpu-2:8000")
    with pytest.raises(StackError, match=re.escape(f"{HOST}:8001/{HOST}:8000, found gpu-1:8001, gpu-2:8001: add it")):
        preflight.require_local_targets(StackSettings.load())
    alone.setenv("TRITON_GRPC_URL", "gpu-1:8001")
    alone.setenv("TRITON_HTTP_URL", "gpu-1:8000")
    settings = StackSettings.load()
    assert tritons(settings) == []
    assert preflight.other_targets(settings) == ["gpu-1:8001", "gpu-2:8001"]


def test_a_target_that_does_not_answer_is_named_before_anything_starts(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("TRITON_TARGETS", f"{HOST}:8001/{HOST}:8000,{HOST}:9/{HOST}:10")
    with pytest.raises(StackError, match=f"TRITON_TARGETS names {HOST}:9, which does not answer"):
        preflight.require_external_services(StackSettings.load())
    alone.setenv("TRITON_TARGETS", "gpu-1")
    with pytest.raises(StackError, match="expected TRITON_TARGETS as GRPC/HTTP"):
        preflight.require_external_services(StackSettings.load())
