"""The science of forecasting: forecasters, networks, training, metrics; no user interface, no clock."""

import os

# ONNX Runtime reports every session to its makers, with names and hashes of models, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
