"""Pictures of an archive for a list: those with which the report of its check ends."""

import re

from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

PICTURES = 3
_END_BYTES = 96 << 10  # of megabytes: a picture has at most 20 kB in a report; its outlines come on top
_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)
_PICTURE = re.compile(rb'<image href="(data:image/jpeg;base64,[A-Za-z0-9+/=]+)"')


def read_sample_pictures(flow_run_id: str) -> list[str]:
    """Return the last pictures of the report of a run, as data URIs; none if it has no report or shows none there.

    Raises:
        StorageError: The object store cannot be reached.
    """
    found: list[bytes] = _PICTURE.findall(_RUNS.get_end(f"{flow_run_id}/report.html", _END_BYTES) or b"")
    return [uri.decode() for uri in found[-PICTURES:]]
