"""An FP32 graph taken apart: its weights, its nodes by name, and the type of every value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from mien.calibration.audit.reading import parse
from mien.engines.errors import ModelError
from mien.engines.graph.file import read_model
from mien.engines.ort.backend import check_runnable

FLOAT = TensorProto.FLOAT
HALF = TensorProto.FLOAT16


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph whose floating values are all FP32.

    model: the graph, its constants all initialisers, its nodes all with names of their own.
    weights: those constants by name. types: the ONNX element type of every value, by name.
    """

    model: ModelProto
    weights: Mapping[str, np.ndarray]
    types: Mapping[str, int]

    @property
    def nodes(self) -> Sequence[NodeProto]:
        """The nodes in the order in which they run."""
        nodes: Sequence[NodeProto] = self.model.graph.node
        return nodes

    @property
    def metadata(self) -> dict[str, str]:
        """What the graph states of itself."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    def is_float(self, name: str) -> bool:
        """Whether a value is FP32."""
        return self.types.get(name) == FLOAT

    def float_nodes(self) -> list[NodeProto]:
        """The nodes that compute with floating values: those whose precision can be chosen."""
        return [n for n in self.nodes if any(self.is_float(v) for v in (*n.input, *n.output))]


def read_graph(path: Path) -> Graph:
    """The graph of a file. Raises ModelError where it is none, or not in FP32 already."""
    content = read_model(path)
    check_runnable(content, path)
    try:
        model = parse(content, path)
        onnx.checker.check_model(model, full_check=True)
    except (
        onnx.checker.ValidationError,
        shape_inference.InferenceError,
        ValueError,
    ) as error:
        raise ModelError(f"{path} is not a whole ONNX graph: {_first_line(error)}") from error
    return taken_apart(model, path)


def taken_apart(model: ModelProto, path: Path) -> Graph:
    """A graph with its constants as initialisers. path: for messages. Raises ModelError."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept = [node for node in graph.node if not _folded(node, weights)]
    if any(
        attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in _attributes(kept)
    ):
        raise ModelError(f"{path} has If or Loop nodes; precision is chosen for plain graphs only")
    _name(kept)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    weights = {name: value for name, value in weights.items() if name in used}
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    made = shape_inference.infer_shapes(made, strict_mode=True)
    types = _types(made)
    odd = sorted(
        n for n, kind in types.items() if kind in (HALF, TensorProto.INT8, TensorProto.UINT8)
    )
    if odd:
        raise ModelError(f"{path} is in FP16 or INT8 already ({odd[0]}); give the FP32 graph")
    return Graph(made, weights, types)


def with_metadata(model: ModelProto, metadata: Mapping[str, str]) -> ModelProto:
    """`model` with `metadata` as all that it states of itself, checked."""
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _folded(node: NodeProto, weights: dict[str, np.ndarray]) -> bool:
    """Whether a node is a constant, or casts one to FP32; it is one of the weights then."""
    if node.op_type == "Constant":
        attribute = node.attribute[0]
        value = helper.get_attribute_value(attribute)
        array = numpy_helper.to_array(value) if attribute.name == "value" else np.array(value)
        kinds = {"value_float": np.float32, "value_floats": np.float32}
        weights[node.output[0]] = array.astype(kinds.get(attribute.name, array.dtype))
        return True
    if node.op_type != "Cast" or node.input[0] not in weights:
        return False
    if next(a.i for a in node.attribute if a.name == "to") != FLOAT:
        return False
    weights[node.output[0]] = weights[node.input[0]].astype(np.float32)
    return True


def _attributes(nodes: Sequence[NodeProto]) -> Iterator[onnx.AttributeProto]:
    for node in nodes:
        yield from node.attribute


def _name(nodes: Sequence[NodeProto]) -> None:
    taken: set[str] = set()
    for index, node in enumerate(nodes):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def _types(model: ModelProto) -> dict[str, int]:
    graph = model.graph
    types = {t.name: t.data_type for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
