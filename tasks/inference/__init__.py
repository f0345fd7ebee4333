"""Batch inference: media in, Triton asked, boxes on the original out."""

from tasks.inference.client import InferenceError
from tasks.inference.items import Made
from tasks.inference.steps import Outside, infer, merge

__all__ = ["InferenceError", "Made", "Outside", "infer", "merge"]
