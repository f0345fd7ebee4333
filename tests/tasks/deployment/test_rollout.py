"""What a rollout puts back where the store fails it; with Triton and real kills: tests/flows."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks.deployment import rollout
from tasks.errors import Superseded
from tasks.serving import model_control
from tasks.serving.model_repository import ConfigFile
from tasks.serving.servers import TritonServer
from tasks.storage.s3_client import StorageError

FIRST, SECOND = TritonServer("a:1", "a:2"), TritonServer("b:1", "b:2")
BOTH = ["before on a:2", "before on b:2"]


class UnwritableConfig(ConfigFile):
    """A config.pbtxt in a store that gives it and takes none."""

    def read(self) -> str:
        return "as it was"

    def write(self, text: str | None) -> None:
        raise StorageError(f"the store is away, and does not take {text}")


def fails(reason: BaseException) -> Callable[[], None]:
    def require_lock() -> None:
        raise reason

    return require_lock


@pytest.mark.parametrize(
    ("lock", "raised", "restored"),
    [
        (lambda: None, StorageError, BOTH),
        (fails(StorageError("the store is away")), StorageError, BOTH),
        (fails(Superseded("another run works on it")), Superseded, []),
    ],
    ids=["ours", "nobody knows", "another has it"],
)
def test_a_failed_change_is_taken_back_unless_another_run_is_at_work(
    monkeypatch: pytest.MonkeyPatch, lock: Callable[[], None], raised: type[BaseException], restored: list[str]
) -> None:
    """The lock lies in the store that did not take the config: its silence must not leave the new version."""
    done: list[str] = []
    monkeypatch.setattr(model_control, "restore", lambda before, _: done.append(before))
    changed: Any = {server: f"before on {server}" for server in (FIRST, SECOND)}
    config = UnwritableConfig("model")
    with disable_run_logger(), pytest.raises(raised), rollout._rollback_on_error(changed, config, lock, 1.0):
        config.write("new")
    assert sorted(done) == restored
