"""Where a model comes from, as tags."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.errors import StudioError
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
    """Tags of a run and of the version it gives; `digests` maps archive to SHA-256 in hex, the other digests are such.

    `base_digest` is None for an architecture, which has no weights. Raises StudioError where the class names are longer
    than a version can carry: better now than after the training.
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


def code_commit() -> str:
    """The commit of this checkout, with `-dirty` after it where files differ; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
