"""Which worker is at which chunk, as each says now and then."""

import json
from dataclasses import dataclass
from typing import Any

from tasks.storage import blobs
from tasks.storage.object_names import Bucket

ALIVE_S = 90.0


@dataclass(frozen=True)
class Beat:
    """What a worker said last: the chunk it is at, the pictures done in it of about how many, all chunks that it holds.

    `age_s` is by the store's clock.
    """

    shard: int
    chunk: int
    pictures: int
    of: int
    held: frozenset[int]
    age_s: float

    @property
    def alive(self) -> bool:
        """Whether the worker is taken to be at it still."""
        return self.age_s < ALIVE_S

    @property
    def share(self) -> float:
        """Share of the chunk that is done, from 0 to 1."""
        return min(self.pictures / self.of, 1.0) if self.of else 0.0


class Beats:
    """An object for each worker below a prefix of bucket `runs`, written over again and again."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._known = dict[str, tuple[str, dict[str, Any]]]()

    def say(self, shard: int, **said: object) -> None:
        """Say something as worker `shard`: the fields of a Beat."""
        blobs.put(Bucket.RUNS, f"{self._prefix}{shard}", json.dumps(said).encode())

    def read(self) -> list[Beat]:
        """Return what each worker said last, dead ones too; what was not said anew is not read again."""
        found = []
        for page in blobs.list_pages(Bucket.RUNS, self._prefix):
            now = blobs.server_time(page)
            for entry in page.get("Contents", []):
                said = self._said(entry["Key"], entry["ETag"])
                if said:
                    age_s = max((now - entry["LastModified"]).total_seconds(), 0.0)
                    shard = int(entry["Key"].removeprefix(self._prefix))
                    found.append(Beat(shard, **said | {"held": frozenset(said["held"])}, age_s=age_s))
        return found

    def _said(self, key: str, etag: str) -> dict[str, Any] | None:
        known, said = self._known.get(key, ("", {}))
        if known == etag:
            return said
        body = blobs.get(Bucket.RUNS, key)
        if body is None:  # the run has finished meanwhile
            return None
        self._known[key] = etag, json.loads(body)
        return self._known[key][1]
