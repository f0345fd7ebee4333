"""Trained weights to the graph that is served: ONNX of the serving contract, for every task."""
