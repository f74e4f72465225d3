"""What is refused of a model file before any native code reads it.

A model is data from anywhere: its weights may lie in other files, which nobody has hashed, and a
small file may hold more nodes than its reader has memory for.
Source: onnx.proto3 of ONNX (the numbers of the fields).
"""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from mien.engines.errors import ModelError
from mien.engines.onnx_wire import fields, part

MAX_BYTES = 512 << 20  # the largest network planned here, a StyleGAN2 of 1024 pixels, has 120 MB
MAX_NODES = 20_000  # the largest graph of this kind, a diffusion UNet, has about 5,000
MAX_FIELDS = 1_000_000  # the shipped ones have up to 4,700


class Kind(Enum):
    """A message of onnx.proto3."""

    MODEL = auto()
    TRAINING = auto()
    FUNCTION = auto()
    GRAPH = auto()
    NODE = auto()
    ATTRIBUTE = auto()
    SPARSE_TENSOR = auto()
    TENSOR = auto()


# The fields through which a model leads to its nodes and its tensors.
PARTS: dict[Kind, dict[int, Kind]] = {
    Kind.MODEL: {7: Kind.GRAPH, 20: Kind.TRAINING, 25: Kind.FUNCTION},
    Kind.TRAINING: {1: Kind.GRAPH, 2: Kind.GRAPH},
    Kind.FUNCTION: {7: Kind.NODE, 11: Kind.ATTRIBUTE},
    Kind.GRAPH: {1: Kind.NODE, 5: Kind.TENSOR, 15: Kind.SPARSE_TENSOR},
    Kind.NODE: {5: Kind.ATTRIBUTE},
    Kind.ATTRIBUTE: {
        5: Kind.TENSOR,
        6: Kind.GRAPH,
        10: Kind.TENSOR,
        11: Kind.GRAPH,
        22: Kind.SPARSE_TENSOR,
        23: Kind.SPARSE_TENSOR,
    },
    Kind.SPARSE_TENSOR: {1: Kind.TENSOR, 2: Kind.TENSOR},
    Kind.TENSOR: {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a tensor


def check_graph(model: bytes, path: Path) -> None:
    """Nothing, where a model is one whole graph of a size that a network here can have.

    path: for messages. Raises ModelError.
    """
    try:
        has_graph = _walk(memoryview(model), path)
    except ValueError as error:
        raise ModelError(
            f"the model {path} is no ONNX file: {error}; export or download it again"
        ) from error
    if not has_graph:
        raise ModelError(f"the model {path} is no ONNX file: it holds no graph; export it again")


def _walk(model: memoryview, path: Path) -> bool:
    """Whether there is a graph. Raises ModelError, ValueError."""
    has_graph = False
    nodes = count = 0
    waiting = [(Kind.MODEL, model)]  # no recursion: how deep graphs lie in each other is theirs
    while waiting:
        kind, message = waiting.pop()
        has_graph |= kind is Kind.GRAPH
        leads = PARTS[kind]
        for number, value in fields(message):
            count += 1
            if number in leads:
                waiting.append((leads[number], part(value)))
                nodes += leads[number] is Kind.NODE
            elif kind is Kind.TENSOR and number in (EXTERNAL_DATA, DATA_LOCATION) and value != 0:
                raise ModelError(
                    f"the model {path} keeps weights in other files; export it as one file "
                    "(external_data=False)"
                )
            if nodes > MAX_NODES or count > MAX_FIELDS:
                raise ModelError(
                    f"the model {path} has more than {MAX_NODES:,} nodes, or {MAX_FIELDS:,} parts; "
                    "no network of mien has, so do not use it"
                )
    return has_graph
