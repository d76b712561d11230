"""The start of a process: from its command to the first forecast, as work of a contest."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from data.errors import FlowcastError
from forecasting.onnx_export.export import export
from pipelines.benchmark.speed.cases_networks import config_of, ours, theirs
from pipelines.benchmark.speed.harness import Work
from pipelines.benchmark.speed.reference import Sizes

BY_REFERENCE = """
import json, sys
import torch
from safetensors.torch import load_file
from pipelines.benchmark_speed_reference import Reference, Sizes
network = Reference(Sizes(*json.load(open(sys.argv[1] + "/sizes.json")))).eval()
network.load_state_dict(load_file(sys.argv[1] + "/weights.safetensors"))
sizes = network.sizes
past = torch.rand(1, 4, sizes.channels, sizes.side, sizes.side)
with torch.inference_mode():
    forecast = network(past, 4)[:, -4:].numpy()
"""
BY_ONNX = """
import json, sys
import numpy as np
from forecasting.onnx_rollout import OnnxRollout
rollout = OnnxRollout.open(sys.argv[1] + "/network.onnx", 4)
channels, side, *_ = json.load(open(sys.argv[1] + "/sizes.json"))
past = np.random.default_rng(0).random((1, 4, channels, side, side), dtype=np.float32)
forecast = rollout(past, 4)
"""
TELL = """
from forecasting.memory import peak_memory_of_process
print(peak_memory_of_process())
"""


def start_reference(sizes: Sizes) -> Work:
    """Returns starts of a process that forecasts by the reference."""
    folder = tempfile.TemporaryDirectory(prefix="flowcast-")
    here = Path(folder.name)
    here.joinpath("sizes.json").write_text(json.dumps(sizes))
    save_file(theirs(sizes).state_dict(), here / "weights.safetensors")
    return _start(BY_REFERENCE, folder)


def start_onnx(sizes: Sizes) -> Work:
    """Returns starts of a process that forecasts by ONNX Runtime."""
    folder = tempfile.TemporaryDirectory(prefix="flowcast-")
    made = export("swinlstm-b", ours(sizes), config_of(sizes), "float32")
    Path(folder.name, "sizes.json").write_text(json.dumps(sizes))
    Path(folder.name, "network.onnx").write_bytes(made.model)
    return _start(BY_ONNX, folder)


def _start(script: str, folder: tempfile.TemporaryDirectory[str]) -> Work:
    peaks: list[int] = []

    def run() -> None:
        command = [sys.executable, "-c", script + TELL, folder.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FlowcastError((done.stderr.strip().splitlines() or ["no reason told"])[-1])
        peaks.append(int(done.stdout))

    return Work(run, memory=lambda: max(peaks))
