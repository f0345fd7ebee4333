"""How TRITON_TARGETS names the Tritons."""

import pytest
from pydantic import ValidationError

from tasks.settings import Settings
from tasks.triton_targets import TritonTarget, parse_targets


def test_targets_are_pairs_of_addresses_in_their_order() -> None:
    found = parse_targets(" gpu-2:8001/gpu-2:8000, [::1]:8001/[::1]:8000,dns:triton:8001/triton:8000")
    assert found == [
        TritonTarget("gpu-2:8001", "gpu-2:8000"),
        TritonTarget("[::1]:8001", "[::1]:8000"),
        TritonTarget("triton:8001", "triton:8000", by_dns=True),
    ]
    assert parse_targets(",".join(map(str, found))) == found
    assert parse_targets("  ") == []


@pytest.mark.parametrize(
    "text",
    [
        *("gpu-1:8001", "gpu-1:8001/", "gpu-1/gpu-1:8000", "http://gpu-1:8001/gpu-1:8000", "a:1/a:2/a:3", ":1/:2"),
        *("a:0/a:1", "a:1/a:65536", "a:1/a:2,", "a:1/a:2,b:1/a:2", "a:1/a:2,a:1/b:2", "dns:a:1/b:2", "a b:1/a:2"),
    ],
)
def test_other_texts_are_refused_and_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*TRITON_TARGETS.*, found "):
        parse_targets(text)


def test_without_targets_there_is_one_at_the_addresses_that_other_tools_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_GRPC_URL", "gpu:1")
    monkeypatch.setenv("TRITON_HTTP_URL", "gpu:2")
    assert Settings().triton_target_list == [TritonTarget("gpu:1", "gpu:2")]
    monkeypatch.setenv("TRITON_TARGETS", "a:1/a:2,b:1/b:2")
    assert Settings().triton_target_list == [TritonTarget("a:1", "a:2"), TritonTarget("b:1", "b:2")]
    monkeypatch.setenv("TRITON_TARGETS", "a")
    with pytest.raises(ValidationError, match="such as gpu-1:8001/gpu-1:8000"):
        Settings()
