"""A graph in INT8 with explicit Q/DQ: weights per channel, activations per tensor.

One calibration, two spellings. TensorRT takes signed activations without a zero point only.
Processors multiply unsigned by signed (VNNI): there signed activations bring nothing, so that a
graph for the processor has unsigned ones with a zero point.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mien.calibration.graph import Graph
from mien.calibration.precision_places import Rules, places_of
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
