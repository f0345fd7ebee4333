"""The results of runs of inference during a canary: an object a chunk, below `runs/canary/CANARY/FLOW RUN/`."""

import json
from collections.abc import Mapping

from prefect import get_run_logger

from tasks.serving.canary_rules import VersionStats
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, StorageError

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


def record_canary_stats(
    canary_run: str, flow_run_id: str, part: str, version: int, images: int, detections: int
) -> None:
    """Write what a run did with a version in one part of its work; written twice it counts once. Never raises."""
    key = f"canary/{canary_run}/{flow_run_id}/{part}.json"
    stats = {"version": version, "images": images, "detections": detections}
    try:
        _RUNS.put(key, json.dumps(stats).encode())
    except StorageError as error:
        get_run_logger().warning("a part of this run does not count in the trial of a version: %s", error)


class CanaryStatsReader:
    """The stats of a canary by version; each object is read once.

    `totals` are images and detections by version, of all objects that were read.
    """

    def __init__(self, canary_run: str) -> None:
        self._prefix = f"canary/{canary_run}/"
        self._seen = set[str]()
        self.totals: dict[int, VersionStats] = {}

    def read(self) -> Mapping[int, VersionStats]:
        """Return the totals, with the objects that are new.

        Raises:
            StorageError: The store stays away.
        """
        for key in _RUNS.keys(self._prefix):
            if key not in self._seen:
                self._add(key)
                self._seen.add(key)
        return self.totals

    def _add(self, key: str) -> None:
        part = json.loads(_RUNS.read_text(key))
        stats = VersionStats(images=part["images"], detections=part["detections"])
        self.totals[part["version"]] = self.totals.get(part["version"], VersionStats()) + stats
