"""A graph with the type and shape of every tensor, and what in it is constant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from mien.calibration.audit.reading import node_name, value_of

# What the table of TensorRT's operators calls the element types.
TYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.DOUBLE: "DOUBLE",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.INT4: "INT4",
    TensorProto.FLOAT8E4M3FN: "FP8",
}
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
RANDOM |= {"Bernoulli", "Multinomial"}
MEASURES = {"Shape", "Size"}  # constant wherever the shape is


@dataclass(frozen=True, slots=True)
class Tensor:
    """The type of a tensor, by the names of the table, and its sides; None where not known."""

    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None

    @property
    def is_static(self) -> bool:
        """Whether every side is known."""
        return self.shape is not None and None not in self.shape


UNKNOWN = Tensor()


@dataclass(frozen=True)
class TypedGraph:
    """The nodes of a model's outermost graph.

    tensors: by name. constants: names of tensors that do not depend on the inputs.
    weights: those that stand in the file, as initializers or as nodes of the kind Constant.
    makers: which node makes a tensor.
    """

    model: ModelProto
    tensors: dict[str, Tensor]
    weights: dict[str, TensorProto]
    constants: set[str] = field(default_factory=set)
    makers: dict[str, NodeProto] = field(default_factory=dict)

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators, 0 where none is stated."""
        return opset_of(self.model)

    def nodes(self) -> Iterator[Node]:
        """Each node with what is known of its tensors."""
        for node in self.model.graph.node:
            yield Node(node, self)


@dataclass(frozen=True)
class Node:
    """One node of a typed graph."""

    proto: NodeProto
    graph: TypedGraph

    @property
    def kind(self) -> str:
        """The name of its operator."""
        return self.proto.op_type

    @property
    def name(self) -> str:
        """How people find it."""
        return node_name(self.proto)

    def attribute(self, name: str, default: object = None) -> object:
        """The value of an attribute."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return default

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.proto.input) and self.proto.input[index] != ""

    def input(self, index: int) -> Tensor:
        """The type of an input."""
        return (
            self.graph.tensors.get(self.proto.input[index], UNKNOWN) if self.has(index) else UNKNOWN
        )

    def output(self, index: int = 0) -> Tensor:
        """The type of an output."""
        if index >= len(self.proto.output):
            return UNKNOWN
        return self.graph.tensors.get(self.proto.output[index], UNKNOWN)

    def gives(self, index: int) -> bool:
        """Whether an optional output is asked for."""
        return index < len(self.proto.output) and self.proto.output[index] != ""

    def is_constant(self, index: int) -> bool:
        """Whether an input is absent, or the same in every run."""
        return not self.has(index) or self.proto.input[index] in self.graph.constants

    def is_weight(self, index: int) -> bool:
        """Whether an input is absent, or stands in the file."""
        return not self.has(index) or self.proto.input[index] in self.graph.weights

    def value(self, index: int) -> np.ndarray | None:
        """The value of an input that stands in the file."""
        tensor = self.graph.weights.get(self.proto.input[index]) if self.has(index) else None
        return None if tensor is None else value_of(tensor)

    def maker(self, index: int) -> Node | None:
        """The node that makes an input."""
        made = self.graph.makers.get(self.proto.input[index]) if self.has(index) else None
        return None if made is None else Node(made, self.graph)

    def gives_constant(self) -> bool:
        """Whether its outputs are the same in every run."""
        return all(name in self.graph.constants for name in self.proto.output if name)

    def main_tensors(self) -> tuple[Tensor, ...]:
        """Those whose types the table of operators speaks of: shapes and indices are others."""
        if self.kind in ("Cast", "CastLike"):
            return (self.input(0), self.output())
        if self.kind == "Where":
            return (self.input(1),)
        if self.kind in ("ConstantOfShape", "EyeLike") or not self.proto.input:
            return (self.output(),)
        return (self.input(0),)


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model is written in, 0 where it states none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def typed_graph(model: ModelProto) -> TypedGraph:
    """The graph with the types of `infer_types`' result, and what is constant in it."""
    graph = model.graph
    tensors = {
        value.name: _tensor(value) for value in (*graph.value_info, *graph.output, *graph.input)
    }
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                weights[node.output[0]] = value
    for name, weight in weights.items():
        sides = tuple(weight.dims)
        tensors[name] = Tensor(TYPE_NAMES.get(weight.data_type), sides)
    typed = TypedGraph(model, tensors, weights)
    typed.constants.update(set(weights) - {value.name for value in graph.input})
    for node in graph.node:
        typed.makers.update(dict.fromkeys(node.output, node))
        if _is_constant(node, typed):
            typed.constants.update(name for name in node.output if name)
    return typed


def infer_types(model: ModelProto) -> ModelProto:
    """The model with the type and shape of every tensor, as far as they follow from the graph.

    What the file says of the tensors between its inputs and outputs is not believed.
    Raises onnx.shape_inference.InferenceError.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(
        bare, check_type=True, strict_mode=True, data_prop=True
    )


def knows_operator(node: NodeProto, opset: int) -> bool:
    """Whether ONNX has the node's operator in that version."""
    return node.domain in ("", "ai.onnx") and defs.has(node.op_type, max_inclusive_version=opset)


def _is_constant(node: NodeProto, typed: TypedGraph) -> bool:
    if node.op_type in RANDOM or any(a.type == a.GRAPH for a in node.attribute):
        return False
    if node.op_type in MEASURES and node.input:
        return typed.tensors.get(node.input[0], UNKNOWN).is_static
    return all(name in typed.constants for name in node.input if name)


def _tensor(value: ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return UNKNOWN
    if not kind.HasField("shape"):
        return Tensor(TYPE_NAMES.get(kind.elem_type))
    sides = tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
    return Tensor(TYPE_NAMES.get(kind.elem_type), sides)


def graph_values(graph: GraphProto) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """The inputs, without those that are weights, and the outputs."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights], list(graph.output)
