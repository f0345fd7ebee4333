"""From trained weights to the served ONNX graph, for every task."""
