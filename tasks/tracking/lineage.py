"""The origin of a model, as tags."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL

from tasks.errors import StudioError
from tasks.storage.object_names import Bucket, parse_s3_uri
from tasks.tracking.payloads import MAX_TAG

PLAN_ARTIFACT = "merge-plan.json"
BASE_DIGEST = "base_model_sha256"


def lineage_tags(
    digests: Mapping[str, str],
    class_names: Sequence[str],
    base_model: str,
    base_digest: str | None,
    flow_run_id: str,
    plan_digest: str,
) -> dict[str, str]:
    """Return tags of a run and of its version; digests are SHA-256 in hex, `digests` by archive.

    `base_digest` is None for an architecture, which has no weights.

    Raises:
        StudioError: The class names are longer than a version's tag.
    """
    names = json.dumps(list(class_names))
    if len(names) > MAX_TAG:
        raise StudioError(
            f"Expected class names of {MAX_TAG} characters in all, found {len(names)} (classes: {len(class_names)}). "
            f"Give them shorter names with merge.classes."
        )
    return {
        **({BASE_DIGEST: base_digest} if base_digest else {}),
        "archives": json.dumps(digests),
        "class_names": names,
        "base_model": base_model,
        "flow_run_id": flow_run_id,
        "git_commit": code_commit(),
        "merge_plan": json.dumps({"sha256": plan_digest, "artifact": PLAN_ARTIFACT}),
    }


def archives_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the archives in tags of `lineage_tags`, and the SHA-256 (hex) of each; empty if nobody knows.

    An archive of bucket `datasets` is named by its key, another by its address.
    """
    try:
        digests = json.loads(tags.get("archives", "{}"))
        names = {str(archive): parse_s3_uri(str(archive), Bucket.DATASETS) for archive in digests}
        return {
            name.key if name.bucket == Bucket.DATASETS else str(name): str(digests[archive])
            for archive, name in names.items()
        }
    except (ValueError, TypeError):  # tags of somebody else, or cut at the longest that MLflow keeps
        return {}


def code_commit() -> str:
    """Return the commit of this checkout, with `-dirty` if files differ from it; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.check_output(command, cwd=Path(__file__).parent, stderr=DEVNULL, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit.strip()
