"""The work of a run of inference in bucket `runs`: its plan, who is at which chunk, and the parts that are done.

`<flow run id>/inference/plan.json` names the plan that counts, and all else lies below `<flow run id>/inference/PLAN/`.
So whoever died while planning, planned beside another, or comes when all is over, leaves nothing that a later plan
takes for its own.
"""

import gzip
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from prefect import get_run_logger

from tasks.inference.concurrency import prefetch_map
from tasks.inference.heartbeats import Beat, Beats
from tasks.inference.work_plan import Chunk, order
from tasks.orchestration.repetition import run_periodically
from tasks.storage import blobs
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.ranged_reads import download, head_object
from tasks.storage.s3_client import StorageError

PAGE = 100  # chunks
KEPT_PAGES = 3
MAX_PART_BYTES = 5 << 30  # the store takes no more in one request
IDLE_S = 2.0
INVITED_WITHIN_S = 60.0  # a worker may begin before the run that asked for it has written down that it did
TOLD_EVERY_S = 10.0


class InvitationError(StorageError):
    """A flow run wants a share of another's work that did not ask for it."""


@dataclass(frozen=True)
class Plan:
    """What is to be done: the number of chunks, of pictures (a video counts as one) and of bytes; `about` what of.

    A plan that is `finished` has its results: what is left is to call `finish` again.
    """

    identity: str
    chunks: int
    pictures: int
    size: int
    about: Mapping[str, Any]
    finished: bool = False

    def to_json(self) -> bytes:
        """Return what `plan.json` holds."""
        return json.dumps(vars(self), indent=2).encode()


def plan(run: str, chunks: Iterable[Chunk], about: Mapping[str, Any]) -> "Job":
    """Keep the chunks of flow run `run` as its plan; where it has one already, that one counts, and none is taken.

    Only a page of them is in memory at a time. Whatever ends it before it returns leaves no plan.
    """
    if planned := open_job(run):
        return planned
    identity, coming = uuid4().hex, iter(chunks)
    count = pictures = size = 0
    while page := list(islice(coming, PAGE)):
        lines = "".join(f"{chunk.to_line()}\n" for chunk in page)
        blobs.put(Bucket.RUNS, _key(run, identity, _page_name(count // PAGE)), gzip.compress(lines.encode(), 1))
        count += len(page)
        pictures += sum(len(chunk.sources) for chunk in page)
        size += sum(source.size for chunk in page for source in chunk.sources)
    blobs.put_if_absent(
        Bucket.RUNS, _key(run, "plan.json"), Plan(identity, count, pictures, size, dict(about)).to_json()
    )
    if planned := open_job(run):
        return planned
    raise StorageError(f"Expected the plan of flow run {run}, found that another process has finished it meanwhile.")


def open_job(run: str) -> "Job | None":
    """Return the work of a flow run; None where it has no plan, or none yet."""
    body = blobs.get(Bucket.RUNS, _key(run, "plan.json"))
    return Job(run, Plan(**json.loads(body))) if body else None


def finish(run: str) -> None:
    """Remove what is left of the work of a flow run whose results are where they belong."""
    if job := open_job(run):
        job.finish()


class Job:
    """The work of a run, for any number of workers; each method may be called again, and from any thread."""

    def __init__(self, run: str, plan: Plan) -> None:
        self.run, self.plan = run, plan
        self._pages, self._lock = OrderedDict[int, list[str]](), threading.Lock()
        self._done, self._held, self._rounds = set[int](), set[int](), 0
        self._beats = Beats(self._key("beats/"))

    def chunk(self, number: int) -> Chunk:
        """Return a chunk; the last few pages are kept."""
        page, line = divmod(number, PAGE)
        with self._lock:
            lines = self._pages.pop(page, None) or self._read_page(page)
            self._pages[page] = lines
            if len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        return Chunk.from_line(lines[line])

    def _read_page(self, page: int) -> list[str]:
        body = blobs.get(Bucket.RUNS, self._key(_page_name(page)))
        if body is None:
            raise StorageError(
                f"Expected the plan of flow run {self.run}, found that the run is over. Start a new one."
            )
        return gzip.decompress(body).decode().splitlines()

    def round(self, shard: int, of: int, goes_on: Callable[[], bool] = lambda: True) -> Iterator[Chunk]:
        """Yield what is left for worker `shard` (from 0) of `of` to do, one by one, and say that it is at it.

        `goes_on` is asked before each; no ends the round. What others are at is passed over, for another round to look
        at. See `tasks.inference.work_plan.order`.
        """
        with self._lock:
            self._rounds += 1
            self._held.clear()  # what an earlier round began and did not commit was given up
        self.done()  # one request knows of a thousand
        is_behind_own = False

        def is_cared_for(number: int) -> bool:
            nonlocal is_behind_own
            if number % of != shard and not is_behind_own:
                is_behind_own = True
                self.done()
            # Nobody takes another's chunks before the end, so few need to ask who is at them.
            asks = is_behind_own or self._rounds > 1
            return self.is_done(number) or (asks and number in self.taken(shard))

        for number in order(self.plan.chunks, shard, of, is_cared_for):
            if not goes_on():
                return
            try:
                chunk = self.chunk(number)
            except StorageError:
                if self.is_over():
                    return
                raise
            with self._lock:
                self._held.add(number)
            self.beat(shard, number, 0)
            yield chunk

    def left(self, shard: int, of: int, goes_on: Callable[[], bool] = lambda: True) -> Iterator[Chunk]:
        """Yield what a `round` gives; where others are at all that is left, wait until that is over or one has died."""
        given = False
        while not given and goes_on() and not self.is_over():
            for chunk in self.round(shard, of, goes_on):
                given = True
                yield chunk
            if not given:
                time.sleep(IDLE_S)

    def done(self) -> set[int]:
        """Return the numbers of the chunks that are done."""
        names = {Path(entry["Key"]).stem for page in self._listed("parts/") for entry in page.get("Contents", [])}
        with self._lock:
            self._done |= {int(name) for name in names}
            return set(self._done)

    def is_complete(self) -> bool:
        """Whether all chunks are done."""
        return len(self.done()) == self.plan.chunks

    def is_over(self) -> bool:
        """Whether there is nothing left to do: all chunks are done, or the run has its results."""
        plan = self._kept_plan()
        return plan is None or plan.finished or self.is_complete()

    def is_done(self, number: int) -> bool:
        """Whether a chunk is done."""
        found = number in self._done or blobs.exists(Bucket.RUNS, self._key(_part_name(number)))
        if found:
            with self._lock:
                self._done.add(number)
        return found

    def commit(self, number: int, part: Path) -> bool:
        """Keep the part of a chunk, whole or not at all; False where another was first, whose part counts."""
        size = part.stat().st_size
        if size > MAX_PART_BYTES:
            raise StorageError(
                f"Expected a part of at most {MAX_PART_BYTES:,} bytes, found {size:,} for chunk {number}. Cut the "
                f"video into shorter ones, or set inference.frame_step."
            )
        first = blobs.put_if_absent(Bucket.RUNS, self._key(_part_name(number)), part)
        with self._lock:
            self._done.add(number)
            self._held.discard(number)
        return first

    def fetch_part(self, number: int, path: Path) -> None:
        """Copy the part of a chunk that is done into a file."""
        download(head_object(S3Uri(Bucket.RUNS, self._key(_part_name(number))), ""), path)

    def parts(self, folder: Path) -> Iterator[Path]:
        """Yield the parts of all chunks in their order, as files that are there until the next is asked for."""

        def fetch(number: int) -> Path:
            path = folder / _part_name(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.fetch_part(number, path)
            return path

        for _, path in prefetch_map(fetch, range(self.plan.chunks)):
            yield path
            path.unlink()

    def invite(self, helper: str, shard: int) -> None:
        """Note that flow run `helper` was asked to be worker `shard`: nobody else is let in."""
        blobs.put(Bucket.RUNS, self._key(_helper_name(helper)), str(shard).encode())

    def require_invited(self, helper: str, shard: int, patience_s: float = INVITED_WITHIN_S) -> None:
        """Raise InvitationError unless flow run `helper` was asked to be worker `shard`, or nothing is left to do.

        Anybody may start a flow run that names this one and read all of its plan, but nobody chooses the id of a flow
        run, and the run that shares its work alone writes down which ones it started.
        """
        deadline = time.monotonic() + patience_s
        while (asked := blobs.get(Bucket.RUNS, self._key(_helper_name(helper)))) is None:
            if self.is_over():
                return
            if time.monotonic() > deadline:
                break
            time.sleep(IDLE_S)
        if asked != str(shard).encode():
            found = f"share {asked.decode()}" if asked else "no share"
            raise InvitationError(
                f"Expected flow run {self.run} to have asked this run for share {shard}, found that it asked for "
                f"{found}. A run shares its work by inference.shards; leave inference.shard empty."
            )

    def beat(self, shard: int, chunk: int, pictures: int, of: int = 0) -> None:
        """Say that worker `shard` is alive, at a chunk of which it has done so many pictures, of about how many."""
        with self._lock:
            held = sorted(self._held | {chunk})
        self._beats.say(shard, chunk=chunk, pictures=pictures, of=of, held=held)

    def beats(self) -> list[Beat]:
        """Return what each worker said last, dead ones too."""
        return self._beats.read()

    def taken(self, shard: int) -> set[int]:
        """Return the chunks that other living workers than `shard` are at."""
        others = (beat for beat in self.beats() if beat.alive and beat.shard != shard)
        return {number for beat in others for number in beat.held}

    def share_done(self) -> float:
        """Return the share of all chunks that is done, from 0 to 1, with what is done of those that workers are at."""
        done = self.done()
        begun = {beat.chunk: beat.share for beat in self.beats() if beat.alive and beat.chunk not in done}
        return (len(done) + sum(begun.values())) / max(self.plan.chunks, 1)

    def finish(self) -> None:
        """Remove the plan, what was said and the parts, when the results are where they belong.

        `plan.json` says first that it is finished and goes last: when this is ended half-way, whoever opens the job
        again sees that there is nothing to do but this.
        """
        is_ours = self._kept_plan() is not None
        last = _key(self.run, "plan.json")
        if is_ours:
            self.plan = replace(self.plan, finished=True)
            blobs.put(Bucket.RUNS, last, self.plan.to_json())
        for page in blobs.list_pages(Bucket.RUNS, _key(self.run, "") if is_ours else self._key("")):
            blobs.remove(Bucket.RUNS, [entry["Key"] for entry in page.get("Contents", []) if entry["Key"] != last])
        if is_ours:
            blobs.remove(Bucket.RUNS, [last])

    def _kept_plan(self) -> Plan | None:
        """This plan as it is kept now; None where it is gone, or another has taken its place."""
        now = open_job(self.run)
        return now.plan if now is not None and now.plan.identity == self.plan.identity else None

    def _listed(self, folder: str) -> Iterator[Any]:
        return blobs.list_pages(Bucket.RUNS, self._key(folder))

    def _key(self, name: str) -> str:
        return _key(self.run, self.plan.identity, name)


class Telling:
    """A context that says every few seconds that worker `shard` lives and how far it is, whatever it waits for.

    It is called with each picture that is done. The other workers are told, and `show`: the share of the whole run that
    is done, and the pictures that this worker has done; at the end of the block once more. What cannot be said is
    logged.
    """

    def __init__(self, job: Job, shard: int, show: Callable[[float, int], None]) -> None:
        self._job, self._shard, self._show = job, shard, show
        self._pictures, self._at = 0, (-1, 0, 0)
        self._log = get_run_logger()
        self._telling = run_periodically(self.tell, TOLD_EVERY_S, name="telling")

    def __enter__(self) -> Self:
        """Begin."""
        self._telling.__enter__()
        return self

    def __call__(self, chunk: int, pictures: int, of: int) -> None:
        """Note that so many pictures of a chunk are done, of about how many."""
        before = self._at[1] if self._at[0] == chunk else 0
        self._pictures += pictures - before
        self._at = chunk, pictures, of

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._telling.__exit__(kind, error, trace)
        if kind is None:
            self.tell()

    def tell(self) -> None:
        """Say it now."""
        chunk, pictures, of = self._at
        try:
            if chunk >= 0:
                self._job.beat(self._shard, chunk, pictures, of)
            self._show(self._job.share_done(), self._pictures)
        except StorageError as error:
            self._log.warning("how far this is could not be told: %s", error)


def _key(run: str, *names: str) -> str:
    return "/".join((run, "inference", *names))


def _page_name(page: int) -> str:
    return f"plan/{page:05d}.jsonl.gz"


def _helper_name(helper: str) -> str:
    return f"helpers/{helper}"


def _part_name(number: int) -> str:
    return f"parts/{number:06d}.zip"
