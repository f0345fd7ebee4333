"""What runs of inference did during a trial of a version: an object a run, below `runs/canary/<id of the trial>/`."""

import json
from collections.abc import Mapping

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core.buckets import Bucket
from tasks.core.canary import Answers
from tasks.storage.connection import StorageError, client, explained
from tasks.storage.objects import list_keys, write_text


@task(cache_policy=NO_CACHE)
def keep_tally(trial: str, flow_run_id: str, version: int, images: int, detections: int) -> None:
    """Keep what a run did with a version; done twice it counts once. Never raises: the run has its results."""
    said = {"version": version, "images": images, "detections": detections}
    try:
        write_text.fn(json.dumps(said), Bucket.RUNS, f"canary/{trial}/{flow_run_id}.json")
    except StorageError as error:
        get_run_logger().warning("this run does not count in the trial of a version: %s", error)


def read_tallies(trial: str) -> Mapping[int, Answers]:
    """Images and detections by version, of all runs until now."""
    totals: dict[int, Answers] = {}
    for key in list_keys(Bucket.RUNS, f"canary/{trial}/"):
        with explained(f"reading s3://{Bucket.RUNS}/{key}"):
            said = json.loads(client().get_object(Bucket=Bucket.RUNS, Key=key)["Body"].read())
        before = totals.get(said["version"], Answers())
        images, detections = before.images + said["images"], before.detections + said["detections"]
        totals[said["version"]] = Answers(images, detections)
    return totals
