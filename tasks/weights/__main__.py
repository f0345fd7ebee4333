"""`python -m tasks.weights WEIGHTS ANSWER REFUSAL OWNER`: write what the weights say to ANSWER, or why not to REFUSAL.

It ends with the process OWNER.
"""

import json
import resource
import sys
from pathlib import Path

from tasks.errors import StudioError
from tasks.weights.process import exit_when_process_ends

_MOST = {resource.RLIMIT_AS: 12 * 2**30, resource.RLIMIT_FSIZE: 8 * 2**30, resource.RLIMIT_CPU: 600}


def main(weights: str, answer: str, refusal: str, owner: str) -> None:
    """Describe the weights; a refusal is written, not raised."""
    for kind, most in _MOST.items():
        resource.setrlimit(kind, (most, most))
    exit_when_process_ends(int(owner))
    from tasks.weights.description import describe_model  # torch takes seconds

    try:
        Path(answer).write_text(json.dumps(describe_model(weights)), encoding="utf-8")
    except StudioError as error:
        Path(refusal).write_text(str(error), encoding="utf-8")
    except MemoryError:
        Path(refusal).write_text("Expected weights of a model that fits into memory, found larger ones.")


if __name__ == "__main__":
    main(*sys.argv[1:])
