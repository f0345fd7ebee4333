"""Trained weights to the graph that is served: ONNX of the serving contract, for every task."""

from tasks.export.errors import ExportError
from tasks.export.graph import write_graph
from tasks.export.steps import export_onnx

__all__ = ["ExportError", "export_onnx", "write_graph"]
