"""Which nodes stay in FP32 from the start, and why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from mien.calibration.graph import Graph
from mien.engines.network import Network

# Strongly typed engines compute these in the type of their inputs: squares of values above 256
# overflow, sums of many small numbers lose them, and a sampling grid is off by parts of a pixel.
NORMALISATION = "normalisation: squares and long sums"
SUMMED = "a sum over many values"
CURVE = "a steep curve or a ratio of squares"
SAMPLING = "a sampling grid: 0.03 px off at 256 in FP16"
FP32_OPERATORS = {
    "InstanceNormalization": NORMALISATION,
    "GroupNormalization": NORMALISATION,
    "LayerNormalization": NORMALISATION,
    "BatchNormalization": NORMALISATION,
    "LpNormalization": NORMALISATION,
    "MeanVarianceNormalization": NORMALISATION,
    "ReduceMean": SUMMED,
    "ReduceSum": SUMMED,
    "ReduceL1": SUMMED,
    "ReduceL2": SUMMED,
    "ReduceSumSquare": SUMMED,
    "ReduceLogSumExp": SUMMED,
    "GlobalAveragePool": SUMMED,
    "CumSum": SUMMED,
    "Pow": CURVE,
    "Sqrt": CURVE,
    "Reciprocal": CURVE,
    "Exp": CURVE,
    "Log": CURVE,
    "Softplus": CURVE,
    "Softmax": CURVE,
    "LogSoftmax": CURVE,
    "GridSample": SAMPLING,
}
STATISTICS = frozenset(
    ("ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Pow", "Sqrt",
     "Reciprocal")
)  # fmt: skip
ELEMENTWISE = frozenset(("Add", "Sub", "Mul", "Div"))
RESHAPED = frozenset(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"))
LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
# Beyond it FP16 counts in steps of two, and what is squared or added up overflows soon.
MOST = 2048.0
SMALLEST_NORMAL = 2.0**-14


def reasons_to_keep(graph: Graph, network: Network, largest: Mapping[str, float]) -> dict[str, str]:
    """The reason for each node that stays in FP32, by the node's name.

    largest: the largest absolute value that representative inputs brought into each value.
    """
    reasons: dict[str, str] = {}
    for name, reason in itertools.chain(
        _by_operator(graph),
        _by_constant(graph),
        _by_value(graph, largest),
        _in_normalisation(graph),
        _weighted_means(graph),
        _after_last_layer(graph, network),
    ):
        reasons.setdefault(name, reason)
    floats = {node.name for node in graph.float_nodes()}
    return {name: reason for name, reason in reasons.items() if name in floats}


def _by_operator(graph: Graph) -> Iterator[tuple[str, str]]:
    for node in graph.nodes:
        if node.op_type in FP32_OPERATORS:
            yield node.name, FP32_OPERATORS[node.op_type]


def _by_constant(graph: Graph) -> Iterator[tuple[str, str]]:
    """Nodes with a constant that FP16 has not: too large, or a small one such as an epsilon."""
    for node in graph.nodes:
        for name in node.input:
            values = graph.weights.get(name)
            if values is None or values.dtype != np.float32 or not values.size:
                continue
            size = np.abs(values)
            is_too_large = size.max() > np.finfo(np.float16).max
            is_too_small = values.size == 1 and 0 < size.max() < SMALLEST_NORMAL
            if is_too_large or is_too_small:
                yield node.name, f"a constant of {size.max():.3g}"


def _by_value(graph: Graph, largest: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for node in graph.nodes:
        most = max((largest.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
        if most > MOST:
            yield node.name, f"values up to {most:.0f}"


def _in_normalisation(graph: Graph) -> Iterator[tuple[str, str]]:
    """Arithmetic on means and variances, up to the division that ends a normalisation."""
    statistics: set[str] = set()
    for node in graph.nodes:
        follows = any(name in statistics for name in node.input)
        if node.op_type in STATISTICS or (follows and node.op_type in RESHAPED):
            statistics.update(node.output)
        elif follows and node.op_type in ELEMENTWISE:
            yield node.name, "arithmetic on a mean or a variance"
            if node.op_type != "Div":
                statistics.update(node.output)


def _weighted_means(graph: Graph) -> Iterator[tuple[str, str]]:
    """Products of a softmax with constants: a place read off a heat map."""
    chances: set[str] = set()
    for node in graph.nodes:
        follows = any(name in chances for name in node.input)
        if node.op_type == "Softmax" or (follows and node.op_type in RESHAPED):
            chances.update(node.output)
        elif (
            follows and node.op_type == "MatMul" and not graph.weights.keys().isdisjoint(node.input)
        ):
            yield node.name, "places read off a heat map"


def _after_last_layer(graph: Graph, network: Network) -> Iterator[tuple[str, str]]:
    """What only follows the last layer: there numbers are coordinates, and it costs little."""
    pictures = {spec.name for spec in network.outputs if spec.colour != "none"}
    leads_on: set[str] = set(pictures)  # values that a layer, or a picture, is still made of
    for node in reversed(graph.nodes):
        if node.op_type in LAYERS or any(name in leads_on for name in node.output):
            leads_on.update(node.input)
        elif node.op_type not in LAYERS:
            yield node.name, "after the last layer, where values are coordinates or scores"
