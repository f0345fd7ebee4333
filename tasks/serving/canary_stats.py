"""What runs of inference did during a trial of a version: an object a chunk, below `runs/canary/TRIAL/FLOW RUN/`."""

import json
from collections.abc import Mapping

from prefect import get_run_logger

from tasks.serving.canary_rules import VersionStats
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError

_RUNS = ObjectStore(Bucket.RUNS, wait_s=0)


def record_canary_stats(trial: str, flow_run_id: str, part: str, version: int, images: int, detections: int) -> None:
    """Keep what a run did with a version in one part of its work; done twice it counts once. Never raises."""
    key = f"canary/{trial}/{flow_run_id}/{part}.json"
    said = {"version": version, "images": images, "detections": detections}
    try:
        _RUNS.put(key, json.dumps(said).encode())
    except StorageError as error:
        get_run_logger().warning("a part of this run does not count in the trial of a version: %s", error)


class CanaryStatsReader:
    """The tallies of a trial; each is read once, so that whoever asks again and again reads only what is new."""

    def __init__(self, trial: str) -> None:
        self._prefix = f"canary/{trial}/"
        self._seen = set[str]()
        self._totals: dict[int, VersionStats] = {}

    def __call__(self) -> Mapping[int, VersionStats]:
        """Return images and detections by version, of all that was kept until now."""
        for key in _RUNS.keys(self._prefix):
            if key not in self._seen:
                self._add(key)
                self._seen.add(key)
        return dict(self._totals)

    def _add(self, key: str) -> None:
        said = json.loads(_RUNS.read_text(key))
        before = self._totals.get(said["version"], VersionStats())
        images, detections = before.images + said["images"], before.detections + said["detections"]
        self._totals[said["version"]] = VersionStats(images, detections)
