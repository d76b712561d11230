"""Networks run over a horizon, by torch or by ONNX Runtime."""
