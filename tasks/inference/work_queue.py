"""The work of a run of inference in bucket `runs`: its plan, and the results of the chunks that are done.

`<flow run id>/inference/plan.json` names the plan that counts, and all else lies below `<flow run id>/inference/PLAN/`,
so that no plan takes for its own what a process left that died while planning, or planned beside another.
"""

import gzip
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.inference.concurrency import ordered_map
from tasks.inference.work_plan import Chunk
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.ranged_reads import download, head_object
from tasks.storage.s3_client import StorageError

CHUNKS_PER_PAGE = 100
MAX_CACHED_PAGES = 3
MAX_RESULT_BYTES = 5 << 30  # the store takes no more in one request
POLL_INTERVAL_S = 2.0
INVITATION_TIMEOUT_S = 60.0  # a run may begin before the run that started it has written down that it did

_RUNS = ObjectStore(Bucket.RUNS)


class InvitationError(StorageError):
    """A flow run wants a share of another's work that did not start it."""


@dataclass(frozen=True, kw_only=True)
class WorkPlan:
    """The number of chunks, of images (a video counts as one) and of bytes to do; `about` is the caller's.

    A plan that is `finished` has its results: it is only left to call `finish` again.
    """

    identity: str
    chunks: int
    pictures: int
    size: int
    about: Mapping[str, Any]
    finished: bool = False

    def to_json(self) -> bytes:
        """Return the content of `plan.json`."""
        return json.dumps(vars(self), indent=2).encode()


def create_queue(run: str, chunks: Iterable[Chunk], about: Mapping[str, Any]) -> "WorkQueue":
    """Write the chunks of flow run `run` as its plan, a page at a time; if it has a plan already, that one counts.

    `about` is written after the last chunk, so it may hold what is counted while they are made.

    Raises:
        StorageError: Another process has finished the run meanwhile.
    """
    if queue := open_queue(run):
        return queue
    identity = uuid4().hex
    remaining = iter(chunks)
    count = sources = size = 0
    while page := list(islice(remaining, CHUNKS_PER_PAGE)):
        lines = "".join(f"{chunk.to_line()}\n" for chunk in page)
        name = _page_name(count // CHUNKS_PER_PAGE)
        _RUNS.put(_key(run, identity, name), gzip.compress(lines.encode(), 1))
        count += len(page)
        sources += sum(len(chunk.sources) for chunk in page)
        size += sum(source.size for chunk in page for source in chunk.sources)
    plan = WorkPlan(identity=identity, chunks=count, pictures=sources, size=size, about=dict(about))
    _RUNS.put_if_absent(_key(run, "plan.json"), plan.to_json())
    if queue := open_queue(run):
        return queue
    raise StorageError(f"Expected the plan of flow run {run}, found that another process has finished it meanwhile.")


def open_queue(run: str) -> "WorkQueue | None":
    """Return the work of a flow run; None if it has no plan, or none yet."""
    body = _RUNS.get(_key(run, "plan.json"))
    return WorkQueue(run, WorkPlan(**json.loads(body))) if body else None


def finish(run: str) -> None:
    """Remove what is left of the work of a flow run whose results are written."""
    if queue := open_queue(run):
        queue.finish()


class WorkQueue:
    """The chunks of a run and their results, for any number of processes; any thread may call a method again.

    Each chunk has one result: the first that is committed. So two processes that do the same chunk do no harm.
    """

    def __init__(self, run: str, plan: WorkPlan) -> None:
        self.run = run
        self.plan = plan
        self._pages = OrderedDict[int, list[str]]()
        self._done = set[int]()
        self._lock = threading.Lock()

    def chunks(self) -> Iterator[Chunk]:
        """Yield all chunks, in their order."""
        return map(self.chunk, range(self.plan.chunks))

    def chunk(self, number: int) -> Chunk:
        """Return a chunk; a StorageError says that the run is over and its plan is gone."""
        page, line = divmod(number, CHUNKS_PER_PAGE)
        with self._lock:
            lines = self._pages.pop(page, None) or self._read_page(page)
            self._pages[page] = lines
            if len(self._pages) > MAX_CACHED_PAGES:
                self._pages.popitem(last=False)
        return Chunk.from_line(lines[line])

    def _read_page(self, page: int) -> list[str]:
        body = _RUNS.get(self._key(_page_name(page)))
        if body is None:
            raise StorageError(
                f"Expected the plan of flow run {self.run}, found that the run is over. Start a new one."
            )
        return gzip.decompress(body).decode().splitlines()

    def done(self) -> set[int]:
        """Return the numbers of the chunks that are done; one request lists a thousand."""
        numbers = {int(Path(key).stem) for key in _RUNS.keys(self._key("parts/"))}
        with self._lock:
            self._done |= numbers
            return set(self._done)

    def is_done(self, number: int) -> bool:
        """Whether a chunk is done."""
        is_done = number in self._done or _RUNS.exists(self._key(_result_name(number)))
        if is_done:
            with self._lock:
                self._done.add(number)
        return is_done

    def is_over(self, numbers: Iterable[int] | None = None) -> bool:
        """Whether there is nothing left to do: all chunks, or these, are done, or the run has its results."""
        plan = self._stored_plan()
        numbers = range(self.plan.chunks) if numbers is None else numbers
        return plan is None or plan.finished or self.done().issuperset(numbers)

    def commit(self, number: int, result: Path) -> bool:
        """Keep the result of a chunk, whole or not at all; False if another was first, whose result counts.

        Raises:
            StorageError: The file is larger than the store takes, or the store stays away.
        """
        size = result.stat().st_size
        if size > MAX_RESULT_BYTES:
            raise StorageError(
                f"Expected a part of at most {MAX_RESULT_BYTES:,} bytes, found {size:,} for chunk {number}. Cut the "
                f"video into shorter ones, or set inference.frame_step."
            )
        first = _RUNS.put_if_absent(self._key(_result_name(number)), result)
        with self._lock:
            self._done.add(number)
        return first

    def results(self, folder: Path) -> Iterator[Path]:
        """Yield the results of all chunks in their order, as files that exist until the next one is yielded."""

        def fetch(number: int) -> Path:
            path = folder / _result_name(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            download(head_object(S3Uri(Bucket.RUNS, self._key(_result_name(number))), ""), path)
            return path

        for path in ordered_map(fetch, range(self.plan.chunks), threads=1, window=2):
            yield path
            path.unlink()

    def invite(self, flow_run: str, share: int) -> None:
        """Record that `flow_run` was started to do share `share`: no other run may do it."""
        _RUNS.put(self._key(_invitation_name(flow_run)), str(share).encode())

    def require_invited(self, flow_run: str, share: int, timeout_s: float = INVITATION_TIMEOUT_S) -> None:
        """Return if `flow_run` was started to do share `share`, or if nothing is left to do.

        Anybody may start a flow run that names this one, but nobody chooses the id of a flow run, and only the run that
        shares its work records which ones it started.

        Raises:
            InvitationError: No such invitation within `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while (invited := _RUNS.get(self._key(_invitation_name(flow_run)))) is None:
            if self.is_over():
                return
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_INTERVAL_S)
        if invited != str(share).encode():
            found = f"share {invited.decode()}" if invited else "no share"
            raise InvitationError(
                f"Expected flow run {self.run} to have started this run for share {share}, found that it started it "
                f"for {found}. A run shares its work by inference.shards; leave inference.shard empty."
            )

    def finish(self) -> None:
        """Remove the plan, the invitations and the results of chunks, after the results of the run are written.

        `plan.json` says first that it is finished and goes last, so that the next process can end what this one began.
        """
        is_ours = self._stored_plan() is not None
        last = _key(self.run, "plan.json")
        if is_ours:
            self.plan = replace(self.plan, finished=True)
            _RUNS.put(last, self.plan.to_json())
        _RUNS.delete(*(key for key in _RUNS.keys(_key(self.run, "") if is_ours else self._key("")) if key != last))
        if is_ours:
            _RUNS.delete(last)

    def _stored_plan(self) -> WorkPlan | None:
        """This plan as it is stored now; None if it is gone, or another has taken its place."""
        now = open_queue(self.run)
        return now.plan if now is not None and now.plan.identity == self.plan.identity else None

    def _key(self, name: str) -> str:
        return _key(self.run, self.plan.identity, name)


def _key(run: str, *names: str) -> str:
    return "/".join((run, "inference", *names))


def _page_name(page: int) -> str:
    return f"plan/{page:05d}.jsonl.gz"


def _invitation_name(flow_run: str) -> str:
    return f"helpers/{flow_run}"


def _result_name(number: int) -> str:
    return f"parts/{number:06d}.zip"
