"""Metrics of Triton and of the object store, as far as they have none of their own that everybody may read."""

from collections.abc import Iterable
from itertools import islice

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from infra.metrics.exposition import MOST_VALUES
from tasks.serving.model_control import list_ready_versions
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE


class TritonSource:
    """Which version of each model answers; latencies and counts are in Triton's own metrics."""

    name = "triton"

    def read(self) -> Iterable[Metric]:
        """Return the served versions.

        Raises:
            ServingError: Triton does not answer.
        """
        served = GaugeMetricFamily(
            "studio_served_version", "Version that a client gets who names none.", labels=["model"]
        )
        for model, versions in islice(sorted(list_ready_versions().items()), MOST_VALUES):
            served.add_metric([model], max(versions))
        return [served]


class StoreSource:
    """Whether the object store answers. SeaweedFS' own metrics stay shut: their port has Go's profiler, too."""

    name = "store"

    def read(self) -> Iterable[Metric]:
        """Return nothing.

        Raises:
            StorageError: The object store cannot be reached.
        """
        ObjectStore(Bucket.DATASETS, SHORT_OUTAGE).exists("metrics-ask-for-this")
        return []
