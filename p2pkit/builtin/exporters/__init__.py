"""Exporters: ONNX and exported programs of PyTorch."""
