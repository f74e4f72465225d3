"""Which nodes of a graph get Q/DQ: the layers, and on a processor what lies between layers.

TensorRT joins a layer, what follows it and the Q of the next layer's input into one kernel by
itself, so that it wants Q/DQ at the inputs of layers and nowhere else. ONNX Runtime computes in
INT8 only what has Q/DQ at its inputs and its outputs. There, more than layers can gain: what only
moves the results of layers, or adds two of them, needs no way to FP32 and back, and what is put
together for a layer is a fourth of the bytes. Other arithmetic (a gate, a scale for each channel)
loses: on a processor it is as fast in FP32 with its nodes joined, and every rounding costs
accuracy. Products of one row gain nothing either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal

from onnx import NodeProto

from mien.calibration.precision.graph import Graph

Rules = Literal["cpu", "tensorrt"]
LAYERS: dict[Rules, tuple[str, ...]] = {"cpu": ("Conv",), "tensorrt": ("Conv", "Gemm")}
RUNS_ALONG = ("Relu",)  # becomes part of the layer before it
MOVES = ("Resize", "MaxPool", "AveragePool")
JOINS = ("Concat",)
ADDS = ("Add",)
NO_LAYER = "no layer, and not between layers in INT8"
ONE_ROW = "a product of one row: on a processor INT8 gains nothing"


def layers_of(graph: Graph, rules: Rules) -> list[NodeProto]:
    """The layers that could be in INT8: convolutions and products with constant weights."""
    kinds = LAYERS[rules]
    return [n for n in graph.nodes if n.op_type in kinds and n.input[1] in graph.weights]


def ends_of(graph: Graph) -> set[str]:
    """The layers that take what comes from outside, or make what goes there: they stay out."""
    kinds = LAYERS["tensorrt"]
    return {
        *_first(graph.nodes, kinds, {value.name for value in graph.model.graph.input}),
        *_last(graph.nodes, kinds, {value.name for value in graph.model.graph.output}),
    }


def places_of(graph: Graph, left_out: Collection[str], rules: Rules) -> set[str]:
    """The names of the nodes that get Q/DQ; none of `left_out` is among them."""
    layers = {node.name for node in layers_of(graph, rules)} - set(left_out)
    if rules == "tensorrt":
        return layers
    made = _made_in_int8(graph, layers, left_out)
    wanted: set[str] = set()  # values that a node in INT8 takes
    found = set()
    for node in reversed(graph.nodes):
        is_wanted = not wanted.isdisjoint(node.output)
        runs = node.name in layers or (node.op_type in (*RUNS_ALONG, *ADDS) and node.name in made)
        moves = is_wanted and (node.op_type in JOINS or node.name in made)
        if runs or (moves and node.name not in left_out):
            found.add(node.name)
            wanted.update(node.input)
    return found


def _made_in_int8(graph: Graph, layers: Collection[str], left_out: Collection[str]) -> set[str]:
    """The names of `layers`, and of what only moves or adds what they make."""
    names = set(layers)
    values: set[str] = set()
    for node in graph.nodes:
        constants = graph.weights.keys() | {""}  # such as the scales of a Resize
        needed = node.input if node.op_type in ADDS else set(node.input) - constants
        follows = node.op_type in (*RUNS_ALONG, *MOVES, *ADDS) and values.issuperset(needed)
        if node.name in layers or (follows and node.name not in left_out):
            names.add(node.name)
            values.update(node.output)
    return names


def reasons_for_rest(graph: Graph, places: Collection[str], rules: Rules) -> dict[str, str]:
    """Why each node that computes with floating values and gets no Q/DQ has none, by name."""
    rows = {node.name for node in layers_of(graph, "tensorrt")} - {
        node.name for node in layers_of(graph, rules)
    }
    return {
        node.name: ONE_ROW if node.name in rows else NO_LAYER
        for node in graph.float_nodes()
        if node.name not in places
    }


def _first(
    nodes: Collection[NodeProto], kinds: Collection[str], sources: set[str]
) -> Iterator[str]:
    for node in nodes:
        if sources.isdisjoint(node.input):
            continue
        if node.op_type in kinds:
            yield node.name
        else:
            sources.update(node.output)


def _last(nodes: Collection[NodeProto], kinds: Collection[str], wanted: set[str]) -> Iterator[str]:
    for node in reversed(list(nodes)):
        if wanted.isdisjoint(node.output):
            continue
        if node.op_type in kinds:
            yield node.name
        else:
            wanted.update(node.input)
