"""Batch inference: media in, Triton asked, boxes on the original out."""

from tasks.inference.items import Made
from tasks.inference.steps import Outside, infer, merge

__all__ = ["Made", "Outside", "infer", "merge"]
