"""A graph in FP16, node by node: what is to stay in FP32 stays, everything else is halved.

Inputs and outputs stay FP32. A node that stays gets its FP32 operands as they are, so that the
grid of a GridSample or the weights of a normalisation are never rounded on their way; converters
that round every graph input first do worse there (7.4e-3 against 1.0e-3 on one such graph).

No processor of this kind computes in FP16, and ONNX Runtime takes pairs of casts that it made
itself away again, so that the FP16 graph run on a processor looks better than it is. What a
device will see is measured on a *rehearsal*: the FP32 graph in which every weight and value that
the FP16 graph halves is rounded to FP16 and back.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

from mien.calibration.graph import FLOAT, HALF, Graph

# Inputs of an operator that are FP32 whatever its other inputs are.
ALWAYS_FP32 = {"Resize": (1, 2)}


def half_model(graph: Graph, kept: Collection[str]) -> ModelProto:
    """The graph in FP16, except the nodes named in `kept`; its metadata is that of `graph`."""
    return _Rewrite(graph, kept, rehearses=False).model()


def rehearsal_model(graph: Graph, kept: Collection[str]) -> ModelProto:
    """The FP32 graph that computes what `half_model` would on a device with FP16."""
    return _Rewrite(graph, kept, rehearses=True).model()


class _Rewrite:
    """One way through a graph; a value `v` in FP16 is called `v.half`."""

    def __init__(self, graph: Graph, kept: Collection[str], *, rehearses: bool) -> None:
        self._graph = graph
        self._rehearses = rehearses
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
                node.output[place] = f"{name}.raw" if self._rehearses else f"{name}.half"
                if self._rehearses:
                    self._round(f"{name}.raw", f"{name}.half")

    def _half(self, name: str) -> str:
        """The name of a value in FP16, which is made where there is none yet."""
        half = f"{name}.half"
        if half in self._made:
            return half
        if name in self._graph.weights:
            rounded = self._graph.weights[name].astype(np.float16)
            self._weights[half] = rounded.astype(np.float32) if self._rehearses else rounded
        elif self._rehearses:
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
