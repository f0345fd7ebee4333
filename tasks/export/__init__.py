"""Trained weights to the graph that is served: ONNX of the serving contract, for every task."""

from tasks.export.errors import ExportError
from tasks.export.steps import check_export, export_onnx

__all__ = ["ExportError", "check_export", "export_onnx"]
