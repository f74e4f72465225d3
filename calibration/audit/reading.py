"""ONNX files read with care: what is refused before anything looks into the graph.

A model is data from anywhere. `python -m mien.calibration.audit` reads in a process with bounded
memory and time; here are the checks that give the reason in words.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from mien.engines.errors import ModelError
from mien.engines.graph.file import PART_KEY, read_metadata, read_model
from mien.engines.graph.guard import MAX_BYTES, MAX_NODES

MAX_TENSORS = 40_000
# Elements of one byte and less stand in raw_data alone.
WIDTHS: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.DOUBLE: 8,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.INT16: 2,
    TensorProto.UINT16: 2,
    TensorProto.INT32: 4,
    TensorProto.UINT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT64: 8,
    TensorProto.BOOL: 1,
}


def read_bytes(path: Path) -> bytes:
    """The bytes of a model file of an allowed size. Raises ModelError."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ModelError(f"{path} is not a file; give an .onnx file")
        if facts.st_size > MAX_BYTES:
            size, most = facts.st_size >> 20, MAX_BYTES >> 20
            raise ModelError(f"{path} has {size} MiB, more than the {most} MiB that mien reads")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    return read_model(path) if _has_parts(content, path) else content


def _has_parts(content: bytes, path: Path) -> bool:
    """Whether a model states parts; what is no model at all states none."""
    try:
        return any(key.startswith(PART_KEY) for key in read_metadata(content, path))
    except ModelError:
        return False


def parse(content: bytes, path: Path) -> ModelProto:
    """The model in the bytes of a file, bounded and whole. Raises ModelError."""
    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path} is not an ONNX file, or truncated; get it again") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{path} holds no graph: not an ONNX file, or truncated; get it again")
    _check_count(model, path)
    if not _is_text(model):
        raise ModelError(f"{path} has names that are not text; it is damaged, get it again")
    if len(model.functions):
        raise ModelError(f"{path} has functions of its own; export it again with them inlined")
    _check_tensors(model.graph, path)
    return model


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a graph and of the graphs within its nodes."""
    for node in graph.node:
        yield node
        for within in _graphs(node):
            yield from all_nodes(within)


def node_name(node: NodeProto) -> str:
    """How people find the node: its name or its output, and what it is."""
    name = node.name or next(iter(node.output), "") or "unnamed"
    return f"{name} ({node.op_type})"


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _check_count(model: ModelProto, path: Path) -> None:
    count = 0
    for graph in _all_graphs(model.graph):
        count += len(graph.node)
        if count > MAX_NODES:
            raise ModelError(f"{path} has more than {MAX_NODES} nodes; no network of mien has")
        if len(graph.initializer) + len(graph.value_info) > MAX_TENSORS:
            raise ModelError(
                f"{path} names more than {MAX_TENSORS} tensors; no network of mien does"
            )


def _all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    if len(graph.node) > MAX_NODES:
        return
    for node in graph.node:
        for within in _graphs(node):
            yield from _all_graphs(within)


def _is_text(message: Message) -> bool:
    """Whether every text of a message, however deep, is Unicode; protobuf gives others as bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = [value] if isinstance(value, (str, bytes)) else value
            if any(isinstance(text, bytes) for text in texts):
                return False
        elif field.type == field.TYPE_MESSAGE:
            parts = [value] if isinstance(value, Message) else value
            if not all(_is_text(part) for part in parts):
                return False
    return True


def _check_tensors(graph: GraphProto, path: Path) -> None:
    if graph.sparse_initializer:
        raise ModelError(
            f"{path} has sparse weights, which TensorRT does not read; export it again"
        )
    for tensor in graph.initializer:
        _check_tensor(tensor, path)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _check_tensor(attribute.t, path)
        for within in _graphs(node):
            _check_tensors(within, path)


def _check_tensor(tensor: TensorProto, path: Path) -> None:
    """Raise ModelError where a tensor's values are not in the file, or not as many as it says."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        _refuse_external(tensor, path)
    if any(side < 0 for side in tensor.dims):
        raise ModelError(f"{path}: the tensor {tensor.name!r} has a side below 0; get it again")
    elements = 1
    for side in tensor.dims:
        elements *= side
    given = _given_elements(tensor)
    if given is not None and given != elements:
        raise ModelError(
            f"{path}: the tensor {tensor.name!r} of shape {tuple(tensor.dims)} holds {given} "
            f"values, expected {elements}; the file is damaged, get it again"
        )


def _given_elements(tensor: TensorProto) -> int | None:
    """How many values a tensor brings; None for types that this does not count."""
    width = WIDTHS.get(tensor.data_type)
    if width is None:
        return None
    if tensor.HasField("raw_data"):
        return -1 if len(tensor.raw_data) % width else len(tensor.raw_data) // width
    return len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))


def _refuse_external(tensor: TensorProto, path: Path) -> None:
    stated = {entry.key: entry.value for entry in tensor.external_data}
    location = stated.get("location", "")
    folder = path.resolve().parent
    try:
        inside = (folder / location).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a NUL in the name, a loop of links
        inside = False
    if not inside:
        raise ModelError(
            f"{path}: the weights {tensor.name!r} point outside its folder, at {location!r}; "
            "do not use this file"
        )
    raise ModelError(
        f"{path}: the weights {tensor.name!r} lie in another file, {location!r}; mien checks and "
        "reads a model as one file: export it with external_data=False"
    )


def value_of(tensor: TensorProto) -> np.ndarray:
    """The values of a tensor that `parse` has let pass."""
    return onnx.numpy_helper.to_array(tensor)
