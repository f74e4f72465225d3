"""A network small enough to write by hand: `scaled` is `x` times `scale`, `total` its sum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from mien.engines import Network, TensorSpec

TINY = Network(
    "tiny",
    inputs=(TensorSpec("x", (1, 4)), TensorSpec("scale", (1, 1), range=(0.0, 2.0))),
    outputs=(TensorSpec("scaled", (1, 4)), TensorSpec("total", (1, 1))),
)


def tiny_feeds() -> dict[str, np.ndarray]:
    return {"x": np.array([[1, 2, 3, 4]], np.float32), "scale": np.full((1, 1), 0.5, np.float32)}


def tiny_function(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    scaled = feeds["x"] * feeds["scale"]
    return {"scaled": scaled, "total": scaled.sum(axis=1, keepdims=True)}


def write_tiny(path: Path, metadata: dict[str, str] | None = None, side: int = 4) -> str:
    """The sha256 of the file written; `side` other than 4 is not the declared network."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "scale"], ["scaled"]),
            helper.make_node("ReduceSum", ["scaled", "axes"], ["total"], keepdims=1),
        ],
        "tiny",
        [_value("x", (1, side)), _value("scale", (1, 1))],
        [_value("scaled", (1, side)), _value("total", (1, 1))],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, TINY.metadata() if metadata is None else metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _value(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
