"""FP32 graphs as calibration needs them: taken apart, with one more output, without unshuffles.

`Graph` holds the weights, the nodes by name, and the type of every value.

A tap works on the bytes, without the package `onnx`, which the base install does not have. An ONNX
file is one protobuf message, and messages that stand one after the other are read as one: bytes
that say nothing but "the graph has another output" can simply be appended.

A pixel unshuffle before a convolution is what a convolution with strides does by itself. An
unshuffle by r makes r * r channels of squares of r * r pixels. It is exported as Reshape, Transpose
and Reshape, which move every value and compute nothing; a convolution of what comes out is a
convolution of what went in, with a kernel and strides r times as large. The results are the same
but for the order of the sums.
"""

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
from mien.engines.ort.backend import FREE_BATCH, check_runnable, open_session

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


def with_free_batch(model: ModelProto) -> ModelProto | None:
    """`model`, of a batch of one, for any number at once; None where it is not made for that.

    Weights stay as they are. Where a Reshape states a batch of one, it keeps that of its input.
    Both must give the same for an input alone, and for it and another one at once, but for the
    order of sums.
    """
    freed = ModelProto()
    freed.CopyFrom(model)
    values = [*freed.graph.input, *freed.graph.output]
    sides = [value.type.tensor_type.shape.dim[0] for value in values]
    if any(side.dim_value != 1 for side in sides):
        return None
    for side in sides:
        side.dim_param = FREE_BATCH
    del freed.graph.value_info[:]
    reshapes = [node for node in freed.graph.node if node.op_type == "Reshape"]
    stated = {node.input[1] for node in reshapes}
    for attribute in _attributes(reshapes):
        if attribute.name == "allowzero":
            attribute.i = 0
    for tensor in (t for t in freed.graph.initializer if t.name in stated):
        shape = numpy_helper.to_array(tensor).copy()
        if shape.size and shape[0] == 1:
            shape[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    return freed if _is_alike(model, freed) else None


def _is_alike(model: ModelProto, freed: ModelProto) -> bool:
    single, many = (
        open_session(one.SerializeToString(), Path("(in memory)"), provider="cpu")
        for one in (model, freed)
    )
    rng = np.random.default_rng(0)
    feeds, others = (
        {node.name: rng.random(node.shape, np.float32) for node in single.get_inputs()}
        for _ in range(2)
    )
    pairs = {name: np.concatenate([x, others[name]]) for name, x in feeds.items()}
    alone = single.run(None, feeds)
    try:
        again, both = many.run(None, feeds), many.run(None, pairs)
    except Exception:  # noqa: BLE001 -- ONNX Runtime's own, of a graph that holds its batch elsewhere
        return False
    return all(
        np.array_equal(one, same) and np.allclose(one, two[:1], atol=1e-5)
        for one, same, two in zip(alone, again, both, strict=True)
    )


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
