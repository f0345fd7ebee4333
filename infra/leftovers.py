"""Versions that rollouts that were killed left aside, in Triton and in bucket `models`."""

from typing import TYPE_CHECKING

from infra.triton import BUCKET
from tasks.serving.triton_names import is_aside, model_name_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def remove_leftovers(client: "S3Client") -> list[str]:
    """Drop candidates without a flow run at work, and versions that no run holds; returns the models they were of.

    Raises:
        StudioError: A service that it needs is away.
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    entries = {item["Key"].partition("/")[0] for page in pages for item in page.get("Contents", [])}
    models = sorted({model_name_of(entry) for entry in entries if is_aside(entry)})
    return [model for model in models if _clear(model)]


def _clear(model: str) -> bool:
    # Imported late: nearly every start has nothing to clear, and these take seconds.
    from tasks.orchestration import flow_runs
    from tasks.serving import kept_versions, model_repository
    from tasks.storage import locks

    if locks.is_held(model, flow_runs.flow_run_is_final):
        return False
    asides = model_repository.AsideVersions(model)
    before = asides.names()
    kept_versions.unload_leftovers.fn(model)
    return asides.names() != before
