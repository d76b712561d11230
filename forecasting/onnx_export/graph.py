"""Writing an ONNX graph node by node, with `onnx.helper` alone.

Values are named by the graph; whoever writes passes the names on. Linear maps act on the rows of a
matrix and are the only nodes whose precision may be chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

CONTRIBUTED = "com.microsoft"
"""Domain of the operators that ONNX Runtime adds to the standard."""

OPSETS = {"": 23, CONTRIBUTED: 1, "ai.onnx.ml": 3}
IR_VERSION = 10


class Graph:
    """Nodes and constants in the order of writing.

    Attributes:
        precision: key in `PRECISIONS`, of the linear maps.
    """

    def __init__(self, precision: str = "float32") -> None:
        self.precision = precision
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._known: dict[bytes, str] = {}
        self._values = 0

    def add(self, operator: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Returns the output of a new node of the standard; arrays become constants."""
        return self.add_many(1, operator, *inputs, **attributes)[0]

    def add_many(
        self, outputs: int, operator: str, *inputs: str | np.ndarray, **attributes: Any
    ) -> list[str]:
        """Returns the outputs of a new node; one named `domain:operator` is not of the standard."""
        domain, _, kind = operator.rpartition(":")
        self._values += 1
        names = [f"value{self._values}_{position}" for position in range(outputs)]
        given = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        self._nodes.append(helper.make_node(kind, given, names, domain=domain, **attributes))
        return names

    def constant(self, array: np.ndarray) -> str:
        """Returns the name of a constant; equal small ones are one."""
        array = np.ascontiguousarray(array)
        key = repr((array.dtype.str, array.shape)).encode() + array.tobytes()
        if key not in self._known:
            name = self._known[key] = f"constant{len(self._known)}"
            self._constants.append(numpy_helper.from_array(array, name))
        return self._known[key]

    def reshape(self, value: str, *shape: int) -> str:
        """Returns `value` in another shape, one size of which may be -1."""
        return self.add("Reshape", value, np.array(shape, dtype=np.int64))

    def linear(self, rows: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """Returns `rows @ weight.T + bias` in the graph's precision.

        Args:
            rows: `(rows, inputs)`.
            weight: `(outputs, inputs)`, as torch keeps it; any float type.
            bias: `(outputs,)`, none for 0.
        """
        return PRECISIONS[self.precision](self, rows, weight, bias)

    def exact(self, rows: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """Returns `linear` in float32 whatever the graph's precision."""
        return float32(self, rows, weight, bias)

    def model(
        self,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
    ) -> bytes:
        """Returns the file.

        Args:
            inputs: shape by name, float32; a dim that is free has a name.
            outputs: for each name the value that it gives, and its shape.
        """
        ends = [
            helper.make_node("Identity", [value], [name]) for name, (value, _) in outputs.items()
        ]
        shapes = {name: shape for name, (_, shape) in outputs.items()}
        graph = helper.make_graph(
            [*self._nodes, *ends], "step", _described(inputs), _described(shapes), self._constants
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="flowcast"
        )
        return bytes(model.SerializeToString())


def float32(graph: Graph, rows: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
    """Returns the linear map as one matrix product."""
    kernel = weight.T.astype(np.float32)
    if bias is None:
        return graph.add("MatMul", rows, kernel)
    return graph.add("Gemm", rows, kernel, bias.astype(np.float32))


def int8(graph: Graph, rows: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
    """Returns the linear map in 8 bits: a scale for each output, and for all rows as they come."""
    scale = np.maximum(np.abs(weight).max(axis=1), 1e-12) / 127
    kernel = np.rint(weight / scale[:, None]).T.astype(np.int8)
    zero = np.zeros(len(scale), dtype=np.int8)
    given = [rows, kernel, scale.astype(np.float32), zero]
    if bias is not None:
        given.append(bias.astype(np.float32))
    return graph.add(f"{CONTRIBUTED}:DynamicQuantizeMatMul", *given)


Linear = Callable[[Graph, str, np.ndarray, np.ndarray | None], str]

PRECISIONS: dict[str, Linear] = {"float32": float32, "int8": int8}
"""How a linear map is written."""


def _described(shapes: Mapping[str, Sequence[int | str]]) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        for name, shape in shapes.items()
    ]
