"""A graph in FP16, node by node: what is to stay in FP32 stays, everything else is halved.

Inputs and outputs stay FP32. A node that stays gets its FP32 operands as they are, so that the grid
of a GridSample or the weights of a normalisation are never rounded on their way; converters that
round every graph input first do worse there (7.4e-3 against 1.0e-3 on one such graph).
`reasons_to_keep` says which nodes stay from the start, and why.

No processor of this kind computes in FP16, and ONNX Runtime removes pairs of casts that it made
itself, so that the FP16 graph run on a processor looks better than it is. What a device will see is
measured on a *fake-quantised* graph: the FP32 graph in which every weight and value that the FP16
graph halves is rounded to FP16 and back.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

from mien.calibration.audit.traps import FP32_OPERATORS
from mien.calibration.precision.graph import FLOAT, HALF, Graph
from mien.engines.network import Network

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
        _from_no_float(graph),
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
            yield node.name, FP32_OPERATORS[node.op_type].reason


def _from_no_float(graph: Graph) -> Iterator[tuple[str, str]]:
    """Nodes that make floating values of others, such as Cast: their attribute says FP32."""
    for node in graph.nodes:
        if not any(graph.is_float(name) for name in node.input):
            yield node.name, "it makes FP32 of whole numbers"


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


# Inputs of an operator that are FP32 whatever its other inputs are.
ALWAYS_FP32 = {"Resize": (1, 2)}


def half_model(graph: Graph, kept: Collection[str]) -> ModelProto:
    """The graph in FP16, except the nodes named in `kept`; its metadata is that of `graph`."""
    return _Rewrite(graph, kept, fakes_half=False).model()


def fake_quantised_model(graph: Graph, kept: Collection[str]) -> ModelProto:
    """The FP32 graph that computes what `half_model` would on a device with FP16."""
    return _Rewrite(graph, kept, fakes_half=True).model()


class _Rewrite:
    """One way through a graph; a value `v` in FP16 is called `v.half`."""

    def __init__(self, graph: Graph, kept: Collection[str], *, fakes_half: bool) -> None:
        self._graph = graph
        self._fakes_half = fakes_half
        self._halved = {node.name for node in graph.float_nodes()} - set(kept)
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        floats = {v.name for v in graph.model.graph.input if graph.is_float(v.name)}
        self._made = floats | graph.weights.keys()  # the names that there are by now

    def model(self) -> ModelProto:
        for node in self._graph.nodes:
            self._add(node)
        for output in self._graph.model.graph.output:
            self._single(output.name)
        made = ModelProto()
        made.CopyFrom(self._graph.model)
        graph = made.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        weights = {**self._graph.weights, **self._weights}
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in weights.items() if name in used
        )
        return shape_inference.infer_shapes(made, strict_mode=True)

    def _add(self, source: NodeProto) -> None:
        node = NodeProto()
        node.CopyFrom(source)
        halves = node.name in self._halved
        fixed = ALWAYS_FP32.get(node.op_type, ())
        for place, name in enumerate(source.input):
            if self._graph.is_float(name):
                takes_half = halves and place not in fixed
                node.input[place] = self._half(name) if takes_half else self._single(name)
        self._nodes.append(node)
        for place, name in enumerate(source.output):
            self._made.add(name)
            if halves and self._graph.is_float(name):
                self._made.remove(name)
                self._made.add(f"{name}.half")
                node.output[place] = f"{name}.raw" if self._fakes_half else f"{name}.half"
                if self._fakes_half:
                    self._round(f"{name}.raw", f"{name}.half")

    def _half(self, name: str) -> str:
        """The name of a value in FP16, which is made where there is none yet."""
        half = f"{name}.half"
        if half in self._made:
            return half
        if name in self._graph.weights:
            rounded = self._graph.weights[name].astype(np.float16)
            self._weights[half] = rounded.astype(np.float32) if self._fakes_half else rounded
        elif self._fakes_half:
            self._round(name, half)
        else:
            self._cast(name, half, HALF)
        self._made.add(half)
        return half

    def _single(self, name: str) -> str:
        """The name of a value in FP32, which is made where there is none yet."""
        if name not in self._made and f"{name}.half" in self._made:
            self._cast(f"{name}.half", name, FLOAT)
            self._made.add(name)
        return name

    def _round(self, source: str, target: str) -> None:
        self._cast(source, f"{target}.fp16", HALF)
        self._cast(f"{target}.fp16", target, FLOAT)

    def _cast(self, source: str, target: str, kind: int) -> None:
        name = f"{target}.cast"
        self._nodes.append(helper.make_node("Cast", [source], [target], name=name, to=kind))
