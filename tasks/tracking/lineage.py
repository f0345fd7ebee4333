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
POLICIES_ARTIFACT = "policies.json"
BASE_DIGEST = "base_model_sha256"
IMPORTED = "imported"


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
    return {
        **({BASE_DIGEST: base_digest} if base_digest else {}),
        "archives": json.dumps(digests),
        "class_names": _class_names(class_names),
        "base_model": base_model,
        "flow_run_id": flow_run_id,
        "git_commit": code_commit(),
        "merge_plan": json.dumps({"sha256": plan_digest, "artifact": PLAN_ARTIFACT}),
    }


def imported_tags(
    weights: str, digest: str, class_names: Sequence[str], measured_on: Mapping[str, str], flow_run_id: str
) -> dict[str, str]:
    """Return tags of the run and of the version of weights that were trained elsewhere; digests are SHA-256 in hex.

    Raises:
        StudioError: The class names are longer than a version's tag.
    """
    return {
        "lineage": IMPORTED,
        "base_model": weights,
        BASE_DIGEST: digest,
        "class_names": _class_names(class_names),
        "measured_on": json.dumps(measured_on),
        "flow_run_id": flow_run_id,
        "git_commit": code_commit(),
    }


def is_imported(tags: Mapping[str, str]) -> bool:
    """Return whether a version was registered from weights that were trained elsewhere."""
    return tags.get("lineage") == IMPORTED


def _class_names(class_names: Sequence[str]) -> str:
    names = json.dumps(list(class_names))
    if len(names) > MAX_TAG:
        raise StudioError(
            f"Expected class names of {MAX_TAG} characters in all, found {len(names)} (classes: {len(class_names)}). "
            f"Give them shorter names, in a training with merge.classes."
        )
    return names


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
