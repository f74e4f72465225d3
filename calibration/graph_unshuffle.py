"""A graph without pixel unshuffles before convolutions: a convolution with strides does both.

An unshuffle by r makes r * r channels of squares of r * r pixels. It is exported as Reshape,
Transpose and Reshape, which move every value and compute nothing; a convolution of what comes out
is a convolution of what went in, with a kernel and strides r times as large. The results are the
same but for the order of the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from mien.calibration.graph import Graph, taken_apart

UNSHUFFLE = [0, 1, 3, 5, 2, 4]  # of batch, channel, row, row within, column, column within
SCALED = {"strides": [1, 1], "pads": [0, 0, 0, 0]}  # attributes that grow with r, and their default


@dataclass(frozen=True, slots=True)
class _Unshuffle:
    """What goes in, and by how much it is unshuffled."""

    source: str
    by: int


def without_unshuffles(graph: Graph) -> Graph:
    """The same function in fewer nodes; those that remain keep their names."""
    made = ModelProto()
    made.CopyFrom(graph.model)
    makers = {name: node for node in made.graph.node for name in node.output}
    shapes = _shapes(made)
    weights: dict[str, np.ndarray] = {}
    for node in made.graph.node:
        found = _unshuffle_before(node, graph, makers, shapes)
        if found is not None:
            name = f"{node.input[1]}.unshuffled"
            weights[name] = _unshuffled_kernel(graph.weights[node.input[1]], found.by)
            _widen(node, found, name, weights[name].shape[2:])
    made.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    used = _used(made)
    del made.graph.node[:]
    made.graph.node.extend(used)
    return taken_apart(made, Path("(in memory)"))


def _unshuffle_before(
    node: NodeProto,
    graph: Graph,
    makers: Mapping[str, NodeProto],
    shapes: Mapping[str, Sequence[int]],
) -> _Unshuffle | None:
    """The unshuffle that makes a convolution's input, where the two can be one."""
    plain = {"group": 1, "dilations": [1, 1], "auto_pad": b"NOTSET"}
    if node.op_type != "Conv" or node.input[1] not in graph.weights:
        return None
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if any(given.get(name, value) != value for name, value in plain.items()):
        return None
    chain, name = [], node.input[0]
    for kind in ("Reshape", "Transpose", "Reshape"):
        maker = makers.get(name)
        if maker is None or maker.op_type != kind:
            return None
        chain.append(maker)
        name = maker.input[0]
    if [list(a.ints) for a in chain[1].attribute if a.name == "perm"] != [UNSHUFFLE]:
        return None
    split, joined = shapes.get(chain[2].output[0], ()), shapes.get(node.input[0], ())
    source = shapes.get(name, ())
    if len(split) != 6 or len(joined) != 4 or len(source) != 4 or split[3] != split[5]:
        return None
    batch, channels, rows, by, columns, _ = split
    takes_all = list(source) == [batch, channels, rows * by, columns * by]
    gives_all = list(joined) == [batch, channels * by * by, rows, columns]
    return _Unshuffle(name, by) if takes_all and gives_all else None


def _unshuffled_kernel(kernel: np.ndarray, by: int) -> np.ndarray:
    """Of (outputs, channels * by * by, h, w): (outputs, channels, h * by, w * by)."""
    outputs, inputs, height, width = kernel.shape
    channels = inputs // by**2
    split = kernel.reshape(outputs, channels, by, by, height, width).transpose(0, 1, 4, 2, 5, 3)
    return np.ascontiguousarray(split.reshape(outputs, channels, height * by, width * by))


def _widen(node: NodeProto, found: _Unshuffle, kernel: str, sides: Sequence[int]) -> None:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    given |= {
        name: [found.by * side for side in given.get(name, default)]
        for name, default in SCALED.items()
    }
    given["kernel_shape"] = list(sides)
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in given.items())
    node.input[0], node.input[1] = found.source, kernel


def _used(model: ModelProto) -> list[NodeProto]:
    """Copies of the nodes that the outputs need, in their order."""
    wanted = {output.name for output in model.graph.output}
    used = []
    for node in reversed(model.graph.node):
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            copy = NodeProto()
            copy.CopyFrom(node)
            used.append(copy)
    return used[::-1]


def _shapes(model: ModelProto) -> dict[str, list[int]]:
    """The sides of every value that has them."""
    graph = model.graph
    return {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
