"""Locks in the real object store: one holder at a time, whoever dies."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from uuid import uuid4

import boto3
import pytest
from prefect.logging import disable_run_logger

from tasks.errors import Superseded
from tasks.storage import locks
from tasks.storage.locks import lock
from tasks.storage.s3_client import StorageError

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def name() -> Iterator[str]:
    with disable_run_logger():
        yield f"test-{uuid4()}"


def alive(_: str) -> bool:
    return False


def objects(name: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"locks/{name}/").get("Contents", [])
    return [entry["Key"] for entry in found]


def test_of_many_at_once_one_holds_it_at_a_time(name: str) -> None:
    """Six threads count in a way that loses counts as soon as two of them do it at once."""
    counts = together = most = 0

    def count(holder: str) -> None:
        nonlocal counts, together, most
        with lock(name, holder, alive, 120):
            together += 1
            most = max(most, together)
            seen = counts
            time.sleep(0.01)
            counts = seen + 1
            together -= 1

    threads = [threading.Thread(target=count, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counts, most) == (6, 1)
    assert len(objects(name)) == 1


def test_a_wait_that_is_too_long_ends_with_the_name_of_the_holder(name: str) -> None:
    with lock(name, "first", alive, 0):
        with pytest.raises(StorageError, match=f"nothing else at work on {name}, found flow run first"):
            lock(name, "second", alive, 1).__enter__()
        with lock(f"{name}-other", "second", alive, 0):
            pass
    with lock(name, "second", alive, 0):
        pass


@pytest.mark.parametrize("called", ["brave-otter", None], ids=["named", "unnamed"])
def test_the_log_names_the_holder_once(
    name: str, called: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(locks, "get_run_logger", lambda: logging.getLogger("locks"))
    monkeypatch.setattr(locks, "runtime", SimpleNamespace(flow_run=SimpleNamespace(name=called)))
    with lock(name, "first", alive, 0), caplog.at_level("INFO", "locks"), pytest.raises(StorageError):
        lock(name, "second", alive, 0.3).__enter__()
    assert caplog.messages == [f"waiting behind run '{called or 'first'}', which works on {name}"]


@pytest.mark.parametrize(
    ("again", "is_over"),
    [("dead", alive), ("next", lambda holder: holder == "dead")],
    ids=["tried again", "found dead"],
)
def test_a_holder_that_died_holds_nothing(name: str, again: str, is_over: Callable[[str], bool]) -> None:
    lock(name, "dead", alive, 0).__enter__()  # and never left
    with lock(name, again, is_over, 0), pytest.raises(StorageError, match=f"found flow run {again}"):
        lock(name, "third", alive, 0).__enter__()


def test_a_lock_is_released_if_its_work_fails(name: str) -> None:
    with pytest.raises(KeyError), lock(name, "first", alive, 0):
        raise KeyError
    with lock(name, "second", alive, 0):
        pass


def test_a_lock_is_taken_from_a_holder_that_was_cancelled(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That one changes nothing any more, and letting go of what it has lost takes nothing from the other."""
    monkeypatch.setattr(locks, "YIELD_S", 1.0)
    cancelled: list[str] = []

    def overtake(holder: str) -> bool:
        cancelled.append(holder)
        return True

    with lock(name, "deploying", alive, 0) as require_lock:
        require_lock()
        hurried = lock(name, "rolling back", alive, 30, overtake)
        hurried.__enter__()
        with pytest.raises(Superseded, match="another flow run works on"):
            require_lock()
    assert cancelled == ["deploying"]
    with pytest.raises(StorageError, match="found flow run rolling back"):
        lock(name, "third", alive, 0).__enter__()
    hurried.__exit__(None, None, None)
    with lock(name, "third", alive, 0):
        pass
