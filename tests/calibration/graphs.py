"""Small graphs to change the precision of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mien.calibration.precision.graph import Graph, taken_apart
from mien.engines.network import Network, TensorSpec

SIDE = 8
NETWORK = Network(
    "tiny", (TensorSpec("x", (1, 4, SIDE, SIDE)),), (TensorSpec("y", (1, 4, SIDE, SIDE)),)
)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(kind, list(inputs), [output], name=output, **attributes)


def model(nodes: Sequence[NodeProto], weights: dict[str, np.ndarray]) -> ModelProto:
    """A graph from x to y, both float (1, 4, 8, 8), that states that it is NETWORK."""
    shape = [1, 4, SIDE, SIDE]
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(made, NETWORK.metadata())
    onnx.checker.check_model(made, full_check=True)
    return made


def graph(nodes: Sequence[NodeProto], weights: dict[str, np.ndarray]) -> Graph:
    return taken_apart(model(nodes, weights), Path("tiny.onnx"))


def weights(*names: str) -> dict[str, np.ndarray]:
    """Kernels (4, 4, 3, 3)."""
    rng = np.random.default_rng(4)
    return {name: rng.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32) for name in names}


def conv(source: str, kernel: str, output: str) -> NodeProto:
    return node("Conv", [source, kernel], output, pads=[1, 1, 1, 1])


def feeds(count: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [{"x": rng.normal(size=(1, 4, SIDE, SIDE)).astype(np.float32)} for _ in range(count)]
