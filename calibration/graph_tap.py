"""One more output for an ONNX file: a tensor that the graph computes on its way.

Works on the bytes, without the package `onnx`, which the base install does not have. An ONNX file
is one protobuf message, and messages that stand one after the other are read as one: bytes that
say nothing but "the graph has another output" can simply be appended.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mien.engines.errors import ModelError

# Field numbers of onnx.proto.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_OUTPUT = 1, 12
NODE_INPUT, NODE_TYPE = 1, 4
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_ELEMENT, TENSOR_SHAPE, SHAPE_SIDE, FLOAT32 = 1, 1, 2, 1, 1
# Wire types of protobuf.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def features_tensor(model: bytes, path: Path) -> str:
    """The name of what enters the last fully connected layer of a classifier.

    model: the file's bytes. path: for the message. Raises ModelError.
    """
    last = None
    for number, graph in _fields(model, path):
        if number != MODEL_GRAPH:
            continue
        for kind, node in _fields(graph, path):
            parts = list(_fields(node, path)) if kind == GRAPH_NODE else []
            if any(n == NODE_TYPE and text in (b"Gemm", b"MatMul") for n, text in parts):
                last = next(text for n, text in parts if n == NODE_INPUT)
    if last is None:
        raise ModelError(f"{path} has no fully connected layer; give a classifier that ends in one")
    return last.decode()


def with_output(model: bytes, tensor: str) -> bytes:
    """The file with `tensor`, float32 of two sides of any length, as its last output."""
    kind = _varint(TENSOR_ELEMENT << 3 | VARINT) + _varint(FLOAT32)
    kind += _message(TENSOR_SHAPE, 2 * _message(SHAPE_SIDE, b""))
    value = _message(VALUE_NAME, tensor.encode())
    value += _message(VALUE_TYPE, _message(TYPE_TENSOR, kind))
    return model + _message(MODEL_GRAPH, _message(GRAPH_OUTPUT, value))


def _fields(message: bytes, path: Path) -> Iterator[tuple[int, bytes]]:
    """Each field of a message: its number and its bytes, empty for plain numbers."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place, path)
        kind, length = key & 7, 0
        if kind == VARINT:
            _, place = _read_varint(message, place, path)
        elif kind == BYTES:
            length, place = _read_varint(message, place, path)
        elif kind in (FIXED64, FIXED32):
            place += 8 if kind == FIXED64 else 4
        else:
            raise _damaged(path)
        if place + length > len(message):
            raise _damaged(path)
        yield key >> 3, message[place : place + length]
        place += length


def _read_varint(message: bytes, place: int, path: Path) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise _damaged(path)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path} is not an ONNX file, or damaged; get it again")
