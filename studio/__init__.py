"""YOLO Studio for scripts and notebooks: `from studio import Studio`. The command `studio` does the same."""

from studio.client import Studio
from studio.runs import InferenceRun, Run, RunFailedError
from tasks.errors import StudioError

__all__ = ["InferenceRun", "Run", "RunFailedError", "Studio", "StudioError"]
