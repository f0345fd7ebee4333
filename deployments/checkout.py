"""The pull step of every deployment."""

import os
from pathlib import Path


def enter() -> dict[str, str]:
    """Work in the checkout that this worker runs from, so that no machine's path is part of a deployment."""
    directory = Path(__file__).resolve().parent.parent
    os.chdir(directory)
    return {"directory": str(directory)}
