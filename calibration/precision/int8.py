"""A graph in INT8 with explicit Q/DQ, and how much of it really computes in INT8.

Weights are quantised per channel, activations per tensor. One calibration, two spellings: TensorRT
takes signed activations without a zero point only. Processors multiply unsigned by signed (VNNI):
there signed activations bring nothing, so that a graph for the processor has unsigned ones with a
zero point.

A pair of Q and DQ only says what a value may be rounded to. What is between two pairs computes in
INT8 where the runtime has a kernel for it, and in FP32 elsewhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mien.calibration.precision.graph import Graph
from mien.calibration.precision.places import LAYERS, Rules, places_of
from mien.calibration.representative import Feeds
from mien.engines.errors import ModelError
from mien.engines.ort.providers import import_onnxruntime
from mien.engines.system.folders import private_folder

MOST = 127
BARE_OUTPUTS = ("Conv", "Gemm")  # TensorRT joins a layer to what follows it itself


class _Reader:
    """What ONNX Runtime asks of a calibration data reader: `get_next`."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def int8_model(
    graph: Graph, feeds: Sequence[Feeds], left_out: Collection[str], rules: Rules
) -> ModelProto:
    """The graph in INT8 where `places_of` says so, its ranges measured on `feeds`.

    left_out: the names of nodes that stay in FP32. Raises ModelError where all of them do.
    """
    symmetric = rules == "tensorrt"
    quantization = import_onnxruntime("onnxruntime.quantization")
    kinds = quantization.QuantType
    places = places_of(graph, left_out, rules)
    if not places:
        raise ModelError("no layer of it is left for INT8; leave the network in FP32, or take fp16")
    source = ModelProto()
    source.CopyFrom(graph.model)  # quantize_static moves the weights of what it is given into files
    with private_folder() as folder, _quiet():
        path = folder / "int8.onnx"
        quantization.quantize_static(
            source,
            str(path),
            _Reader(feeds),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=sorted({n.op_type for n in graph.nodes if n.name in places}),
            nodes_to_quantize=sorted(places),
            activation_type=kinds.QInt8 if symmetric else kinds.QUInt8,
            weight_type=kinds.QInt8,
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                # TensorRT knows no INT32 bias; ONNX Runtime makes one itself when it loads.
                "QuantizeBias": not symmetric,
                "OpTypesToExcludeOutputQuantization": BARE_OUTPUTS if symmetric else (),
            },
        )
        return onnx.load(str(path))


def alone_model(graph: Graph, layer: str, largest: float) -> ModelProto:
    """The graph with one layer's weights and input rounded to INT8, to see what that costs.

    largest: the largest absolute value of its input.
    """
    made = ModelProto()
    made.CopyFrom(graph.model)
    nodes = list(made.graph.node)
    node = next(node for node in nodes if node.name == layer)
    weight = graph.weights[node.input[1]]
    is_rows = node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute)
    rounded = _per_channel(weight, 1 if is_rows else 0)
    scale = np.array(max(largest, 1e-9) / MOST, np.float32)
    zero = helper.make_tensor("alone.zero", TensorProto.INT8, [], [0])
    made.graph.initializer.extend(
        [
            numpy_helper.from_array(rounded, "alone.weight"),
            numpy_helper.from_array(scale, "alone.scale"),
            zero,
        ]
    )
    step = ["alone.scale", "alone.zero"]
    pair = [
        helper.make_node("QuantizeLinear", [node.input[0], *step], ["alone.q"], name="alone.q"),
        helper.make_node("DequantizeLinear", ["alone.q", *step], ["alone.x"], name="alone.dq"),
    ]
    place = nodes.index(node)
    node.input[0], node.input[1] = "alone.x", "alone.weight"
    del made.graph.node[:]
    made.graph.node.extend([*nodes[:place], *pair, *nodes[place:]])
    return made


def _per_channel(weight: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(n for n in range(weight.ndim) if n != axis)
    scale = np.maximum(np.abs(weight).max(others, keepdims=True) / MOST, 1e-12)
    rounded: np.ndarray = (np.round(weight / scale) * scale).astype(np.float32)
    return rounded


@contextmanager
def _quiet() -> Iterator[None]:
    """Without ONNX Runtime's advice to run its preprocessing, which finds nothing to do here."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


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
