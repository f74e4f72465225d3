"""How much of a graph with Q/DQ really computes in INT8.

A pair of Q and DQ only says what a value may be rounded to. What is between two pairs computes in
INT8 where the runtime has a kernel for it, and in FP32 elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from mien.calibration.graph import Graph
from mien.calibration.precision_places import LAYERS, Rules
from mien.engines.ort.providers import import_onnxruntime
from mien.engines.system.folders import private_folder

# What ONNX Runtime makes of a layer between pairs, and names after it.
INTEGER_LAYERS = frozenset(("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"))
INTEGER_PREFIX = "QLinear"
MOVES = frozenset(("Resize", "MaxPool", "NhwcMaxPool", "Concat"))  # as they are given it
TURNS = frozenset(("Transpose", "Reshape"))  # the same, and mostly put there by the runtime
RENAMED = re.compile(r"_token_\d+$")
FATAL_ONLY = 4


@dataclass(frozen=True, slots=True)
class Int8Count:
    """What computes in INT8.

    layers, of_layers: convolutions and products with weights, and how many there are at all.
    share: of the multiplications in them, 0 to 1. others: further nodes. how: it was counted.
    """

    layers: int
    of_layers: int
    share: float
    others: int
    how: str


def count_int8(model: ModelProto, source: Graph, rules: Rules) -> Int8Count:
    """What of `model`, which was made of `source`, computes in INT8."""
    sizes = {node.name: _multiplications(node, source) for node in source.nodes}
    of_layers = {name: size for name, size in sizes.items() if size}
    if rules == "cpu":
        layers, others = _in_onnx_runtime(model, of_layers)
        version = import_onnxruntime().__version__
        how = (
            f"counted in the graph that ONNX Runtime {version} made of it on the processor it was "
            "measured on"
        )
    else:
        layers, others = _by_tensorrt_rules(model), 0
        how = (
            "counted by TensorRT's rule, without running it: a layer whose input and weights both "
            "come from a DQ"
        )
    share = sum(of_layers.get(name, 0) for name in layers) / max(1, sum(of_layers.values()))
    return Int8Count(len(layers), len(of_layers), share, others, how)


def _multiplications(node: NodeProto, graph: Graph) -> int:
    """Of a layer; none for other nodes."""
    if node.op_type not in LAYERS["tensorrt"] or node.input[1] not in graph.weights:
        return 0
    weight = graph.weights[node.input[1]]
    if node.op_type == "Gemm":
        return int(weight.size)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in _values(graph.model)}
    places = np.prod([side.dim_value for side in shapes[node.output[0]][2:]], dtype=int)
    return int(weight.size * places)


def _in_onnx_runtime(model: ModelProto, layers: Collection[str]) -> tuple[set[str], int]:
    """The names of the layers that run in INT8, and how many other nodes do."""
    found, others = set(), 0
    integers: set[str] = set()  # values
    for node in _as_run(model).graph.node:
        name = RENAMED.sub("", node.name)
        is_integer = node.op_type in INTEGER_LAYERS or node.op_type.startswith(INTEGER_PREFIX)
        moves = node.op_type in MOVES | TURNS and node.input[0] in integers
        if is_integer or moves or node.op_type == "QuantizeLinear":
            integers.update(node.output)
        if is_integer and name in layers:
            found.add(name)
        elif is_integer or (moves and node.op_type in MOVES):
            others += 1
    return found, others


def _as_run(model: ModelProto) -> ModelProto:
    """The graph as ONNX Runtime changes it when it loads it for the processor."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    with private_folder() as folder:
        path = folder / "as_run.onnx"
        options.optimized_model_filepath = str(path)
        runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(str(path))


def _by_tensorrt_rules(model: ModelProto) -> set[str]:
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {
        node.name
        for node in model.graph.node
        if node.op_type in LAYERS["tensorrt"]
        and all(makers.get(name) == "DequantizeLinear" for name in node.input[:2])
    }


def _values(model: ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.value_info, *model.graph.output]
