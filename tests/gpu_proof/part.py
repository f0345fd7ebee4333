"""`python -m tests.gpu_proof.part NAME`: do one part in this process; the Setup comes by stdin.

What it found is in NAME.json of the folder of the run. It ends with status 1 if something was proved wrong, with 3 if
this machine cannot do it; the reason is then in NAME.reason.
"""

import importlib
import logging
import sys
from collections.abc import Callable

from tests.gpu_proof.setup import Outcome, ProofError, Setup, SkippedError

PARTS = {
    "machine": "machine.describe",
    "train": "training.train",
    "resume": "training.resume",
    "memory": "training.memory",
    "processes": "training.several_processes",
    "export": "serving.export",
    "model": "serving.model",
    "served": "serving.served",
    "pipe": "pipes.pipe",
    "video": "pipes.video",
}
SKIPPED = 3


def main(name: str) -> int:
    """Do a part."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    setup = Setup.from_json(sys.stdin.read())
    module, _, function = PARTS[name].partition(".")
    work: Callable[[Setup], Outcome] = getattr(importlib.import_module(f"tests.gpu_proof.{module}"), function)
    reason = setup.folder / f"{name}.reason"
    try:
        outcome = work(setup)
    except SkippedError as skipped:
        reason.write_text(str(skipped), encoding="utf-8")
        return SKIPPED
    except ProofError as wrong:
        reason.write_text(str(wrong), encoding="utf-8")
        outcome = Outcome(sentence=str(wrong), figures=wrong.figures)
    (setup.folder / f"{name}.json").write_text(outcome.to_json(), encoding="utf-8")
    return int(reason.exists())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
