"""Where a model comes from, as tags."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def lineage_tags(
    digests: Mapping[str, str], class_names: Sequence[str], base_model: str, flow_run_id: str
) -> dict[str, str]:
    """Tags of a run and of the version it gives; `digests` maps archive to SHA-256 in hex."""
    return {
        "archives": json.dumps(digests),
        "class_names": json.dumps(list(class_names)),
        "base_model": base_model,
        "flow_run_id": flow_run_id,
        "git_commit": code_commit(),
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
