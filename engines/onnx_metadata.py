"""What a model file states of itself, read without ONNX Runtime and without `onnx`.

Only as much of the protobuf wire format as that takes: the fields of ModelProto are walked, and of
the graph only the tensors it holds, to find out whether their bytes lie in other files.
Source: onnx.proto3 of ONNX (the numbers of the fields), protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mien.engines.errors import ModelError
from mien.engines.network import Network

MODEL_GRAPH, MODEL_METADATA = 7, 14
GRAPH_INITIALIZER = 5
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, "int | memoryview"]


def read_metadata(model: bytes, path: Path) -> dict[str, str]:
    """The `metadata_props` of a model.

    path: for messages. Raises ModelError for bytes that are no model, and for a model with weights
    in other files: what is hashed has to be all that runs.
    """
    metadata: dict[str, str] = {}
    has_graph = False
    try:
        for number, value in _fields(memoryview(model)):
            if number == MODEL_METADATA:
                entry = {key: bytes(_part(text)).decode() for key, text in _fields(_part(value))}
                metadata[entry.get(ENTRY_KEY, "")] = entry.get(ENTRY_VALUE, "")
            elif number == MODEL_GRAPH:
                has_graph = True
                _refuse_external(_part(value), path)
    except ValueError as error:
        raise ModelError(
            f"the model {path} is no ONNX file: {error}; export or download it again"
        ) from error
    if not has_graph:
        raise ModelError(f"the model {path} is no ONNX file: it holds no graph; export it again")
    return metadata


def declared_network(network: Network | str, path: Path, metadata: Mapping[str, str]) -> Network:
    """The declaration of the model at `path`, which has to be `network` (or of that name).

    Raises ModelError.
    """
    if not isinstance(network, str):
        if network.matches_metadata(metadata):
            return network
        raise ModelError(
            f"the model {path} does not state that it is the network {network.name!r}; "
            "export it again, so that its metadata is Network.metadata() of the declaration"
        )
    try:
        stated = Network.from_metadata(metadata)
    except ModelError as error:
        raise ModelError(f"the model {path}: {error}") from error
    if stated.name != network:
        raise ModelError(
            f"the model {path} states that it is the network {stated.name!r}, not {network!r}; "
            "correct the catalog beside it"
        )
    return stated


def _refuse_external(graph: memoryview, path: Path) -> None:
    for number, tensor in _fields(graph):
        if number != GRAPH_INITIALIZER:
            continue
        for key, value in _fields(_part(tensor)):
            if key == TENSOR_EXTERNAL_DATA or (key == TENSOR_DATA_LOCATION and value == 1):
                raise ModelError(
                    f"the model {path} keeps weights in other files; export it as one file"
                )


def _fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order. Raises ValueError where it is none."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        if wire == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == BYTES:
            size, position = _varint(message, position)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {wire}")
        if size > len(message) - position:
            raise ValueError("it ends within a field")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is longer than 64 bits")


def _part(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message is expected")  # noqa: TRY004 -- of a file
    return value
