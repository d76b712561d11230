import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from forecasting.rollout.onnx_rollout import PIECE, OnnxRollout


@pytest.fixture
def summing() -> bytes:
    """A step whose state sums the frames that it saw, and whose output is that sum and a half."""
    shape = ["b", 1, 2, 3]
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    described = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("frame", "h0", "next", "h0_next")
    }
    nodes = [
        helper.make_node("Add", ["frame", "h0"], ["h0_next"]),
        helper.make_node("Add", ["h0_next", "half"], ["next"]),
    ]
    inputs, outputs = (
        [described[name] for name in names] for names in (("frame", "h0"), ("next", "h0_next"))
    )
    graph = helper.make_graph(nodes, "step", inputs, outputs, [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def frames_of(batch: int, seen: int) -> np.ndarray:
    rng = np.random.default_rng(batch)
    return rng.standard_normal((batch, seen, 1, 2, 3)).astype(np.float32)


def by_hand(frames: np.ndarray, horizon: int) -> np.ndarray:
    """After s the outputs are s + 0.5, then 2 s + 1, 4 s + 2: each adds itself to the sum."""
    first = frames.sum(axis=1, keepdims=True) + 0.5
    return np.concatenate([first * 2**step for step in range(horizon)], axis=1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, PIECE, PIECE + 1, 5 * PIECE + 3])
def test_pieces_and_threads_give_the_recurrence(summing: bytes, batch: int, threads: int) -> None:
    rollout = OnnxRollout.open(summing, 3, threads=threads)
    frames = frames_of(batch, 3)
    np.testing.assert_allclose(rollout(frames, 3), by_hand(frames, 3), rtol=1e-5, atol=1e-6)


def test_a_rollout_keeps_nothing_from_call_to_call(summing: bytes, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(summing)
    rollout = OnnxRollout.open(tmp_path / "network.onnx", 4)
    assert rollout.lags(2) == (3, 2, 1, 0)
    frames = frames_of(2, 4)
    first = rollout(frames, 2)
    rollout(frames_of(3, 2), 5)
    np.testing.assert_array_equal(rollout(frames, 2), first)
    assert first.dtype == np.float32


def test_an_empty_stack_gives_an_empty_forecast(summing: bytes) -> None:
    assert OnnxRollout.open(summing, 2)(frames_of(0, 2), 3).shape == (0, 3, 1, 2, 3)


def test_frames_of_any_layout_and_type_are_taken(summing: bytes) -> None:
    frames = frames_of(2, 6)
    turned = frames.astype(np.float64)[:, ::2]
    forecast = OnnxRollout.open(summing, 3)(turned, 2)
    np.testing.assert_allclose(forecast, by_hand(frames[:, ::2], 2), rtol=1e-5, atol=1e-6)


def test_a_rollout_leaves_no_thread_of_its_own(summing: bytes) -> None:
    before = threading.active_count()
    OnnxRollout.open(summing, 3, threads=2)(frames_of(40, 3), 2)
    assert threading.active_count() == before


def test_what_is_no_onnx_file_is_refused() -> None:
    with pytest.raises(RuntimeError):
        OnnxRollout.open(b"no graph", 3)


def test_serving_imports_neither_torch_nor_onnx(summing: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(summing)
    program = f"""
import json, sys
from pathlib import Path
import numpy as np
from forecasting.rollout.onnx_rollout import OnnxRollout
rollout = OnnxRollout.open(Path({str(path)!r}), 1)
shape = rollout(np.zeros((9, 1, 1, 2, 3), np.float32), 2).shape
print(json.dumps([shape, [name for name in ("torch", "onnx") if name in sys.modules]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[9, 2, 1, 2, 3], []]


def test_a_session_tells_nobody_and_leaves_nothing_behind(summing: bytes, tmp_path: Path) -> None:
    (tmp_path / "step.onnx").write_bytes(summing)
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from forecasting.rollout.onnx_rollout import OnnxRollout\n"
        "rollout = OnnxRollout.open(Path(sys.argv[1]), 2)\n"
        "rollout(np.ones((1, 2, 1, 2, 3), np.float32), 1)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    # In what calls itself a test or an integration ONNX Runtime is silent anyway.
    told = {name: text for name, text in os.environ.items() if name != "CI" and "ORT_" not in name}
    told |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    command = [sys.executable, "-c", code, str(tmp_path / "step.onnx")]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    assert (done.stderr, [*home.rglob("*")]) == ("", [])
