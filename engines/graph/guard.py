"""What is refused of a model file before any native code reads it.

A model is data from anywhere: its weights may lie in other files, which nobody has hashed unless
the model itself states the hash of each, a small
file may unfold to gigabytes in its reader's memory, and a Loop may never end. The networks of mien
are feed-forward, so a graph has operators of a known list, each run once, and tensors that hold as
many values as they state.
Source: onnx.proto3 of ONNX (the numbers of the fields).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from mien.engines.errors import ModelError
from mien.engines.graph.wire import Field, fields, integers, part

MAX_BYTES = 512 << 20  # of one file; the weights of larger networks lie in parts beside it
MAX_PARTS_BYTES = 16 << 30  # of all parts together; an e4e encoder has 1 GB
MAX_PARTS = 64
MAX_NODES = 10_000  # the largest graph of this kind, a diffusion UNet, has about 5,000
MAX_FIELDS = 1_000_000  # the shipped ones have up to 4,700
# Of messages and packed numbers: a byte becomes up to 8 as a number, and up to 40 as a message.
MAX_UNFOLDING_BYTES: Final = 8 << 20  # the shipped ones have up to 46 kB
MAX_RANK: Final = 16  # the shipped ones have up to 4 sides
MAX_TEXT_BYTES: Final = 64 << 10  # of one thing that a model states of itself

# What a feed-forward network is made of. All give tensors of numbers, none runs another graph, and
# the work of each follows from the sizes of its tensors: `graph_cost` knows it.
POOLS: Final = frozenset(("AveragePool", "MaxPool"))
CONVOLUTIONS: Final = frozenset(("Conv", "ConvInteger", "QLinearConv"))
PRODUCTS: Final = frozenset(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"))
RECURRENT: Final = frozenset(("LSTM", "GRU", "RNN"))
OPERATORS: Final = frozenset(
    re.findall(
        r"\w+",
        """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
    BatchNormalization BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike
    Ceil Celu CenterCropPad Clip Concat Constant ConstantOfShape Conv ConvInteger
    ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
    DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization MatMul MatMulInteger Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv
    QLinearMatMul QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike
    RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize ReverseSequence Round Scatter ScatterElements ScatterND Selu Shape Shrink
    Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt
    Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze
    Upsample Where Xor
        """,
    )
)
DOMAINS: Final = (b"", b"ai.onnx")


class Kind(Enum):
    """A message of onnx.proto3."""

    MODEL = auto()
    TRAINING = auto()
    GRAPH = auto()
    NODE = auto()
    ATTRIBUTE = auto()
    TENSOR = auto()


# The fields through which a model leads to its nodes and its tensors.
PARTS: dict[Kind, dict[int, Kind]] = {
    Kind.MODEL: {7: Kind.GRAPH, 20: Kind.TRAINING},
    Kind.TRAINING: {1: Kind.GRAPH, 2: Kind.GRAPH},
    Kind.GRAPH: {1: Kind.NODE, 5: Kind.TENSOR},
    Kind.NODE: {5: Kind.ATTRIBUTE},
    Kind.ATTRIBUTE: {5: Kind.TENSOR, 10: Kind.TENSOR},
    Kind.TENSOR: {},
}
# protobuf merges such a message with the one before it: each part could be sound, the whole not.
ONCE: Final = {Kind.MODEL: (7,), Kind.TRAINING: (1, 2), Kind.ATTRIBUTE: (5,)}
WITHIN: Final = "runs other graphs within a node (as Loop, Scan and If do)"
SPARSE: Final = "has sparse weights"
REFUSED: Final[dict[Kind, dict[int, str]]] = {
    Kind.MODEL: {25: "has functions of its own"},
    Kind.GRAPH: {15: SPARSE},
    Kind.ATTRIBUTE: {6: WITHIN, 11: WITHIN, 22: SPARSE, 23: SPARSE},
}
# Messages that are not walked, and packed numbers.
UNFOLDING: Final = {
    Kind.MODEL: (8, 14, 26),
    Kind.GRAPH: (11, 12, 13, 14, 16),
    Kind.NODE: (9, 10),
    Kind.ATTRIBUTE: (8, 14, 15),
    Kind.TENSOR: (1, 5, 7, 11, 16),
}
OP_TYPE, DOMAIN = 4, 7  # of a node
METADATA = 14  # of a model
DIMS, DATA_TYPE, RAW_DATA = 1, 2, 9  # of a tensor
EXTERNAL_DATA, DATA_LOCATION = 13, 14
FLOAT_DATA, INT32_DATA, INT64_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 7, 10, 11
FIXED: Final = {FLOAT_DATA: 4, DOUBLE_DATA: 8}  # bytes of a number; the others vary
# Of each type of element: its bytes in raw data, and the field for its values otherwise.
ELEMENTS: Final = {
    1: (4, FLOAT_DATA),
    2: (1, INT32_DATA),
    3: (1, INT32_DATA),
    4: (2, INT32_DATA),
    5: (2, INT32_DATA),
    6: (4, INT32_DATA),
    7: (8, INT64_DATA),
    9: (1, INT32_DATA),  # bool
    10: (2, INT32_DATA),  # float16
    11: (8, DOUBLE_DATA),
    12: (4, UINT64_DATA),
    13: (8, UINT64_DATA),
    16: (2, INT32_DATA),  # bfloat16
}


def check_graph(model: bytes, path: Path, parts: Mapping[str, int] | None = None) -> None:
    """Check that a model is one whole graph such as a network of mien has.

    path: for messages. parts: the sizes of the files beside it that may hold weights of it, by
    name. Raises ModelError.
    """
    try:
        has_graph = _Walk(path, parts or {}).run(memoryview(model))
    except ValueError as error:
        raise ModelError(
            f"the model {path} is no ONNX file: {error}; export or download it again"
        ) from error
    if not has_graph:
        raise ModelError(f"the model {path} is no ONNX file: it holds no graph; export it again")


class _Walk:
    """One walk through all parts of a model, which counts what it meets."""

    def __init__(self, path: Path, parts: Mapping[str, int]) -> None:
        self._path = path
        self._parts = parts
        self._nodes = self._fields = self._unfolding = 0

    def run(self, model: memoryview) -> bool:
        """Whether there is a graph. Raises ModelError, ValueError."""
        has_graph = False
        waiting = [(Kind.MODEL, model)]  # no recursion: how deep messages lie is the file's choice
        while waiting:
            kind, message = waiting.pop()
            has_graph |= kind is Kind.GRAPH
            if kind is Kind.TENSOR:
                self._check_tensor(message)
                continue
            leads = PARTS[kind]
            met: set[int] = set()
            for number, value in self._counted(kind, message):
                self._check_field(kind, number, value)
                if number in leads:
                    self._check_once(kind, number, met)
                    waiting.append((leads[number], part(value)))
        return has_graph

    def _counted(self, kind: Kind, message: memoryview) -> Iterator[Field]:
        """The fields of a message, bounded in number and in what they unfold to."""
        self._nodes += kind is Kind.NODE
        unfolding = UNFOLDING.get(kind, ())
        for number, value in fields(message):
            self._fields += 1
            if number in unfolding and not isinstance(value, int):
                self._unfolding += len(value)
            if self._nodes > MAX_NODES or self._fields > MAX_FIELDS:
                self._refuse(f"has more than {MAX_NODES:,} nodes, or {MAX_FIELDS:,} parts")
            if self._unfolding > MAX_UNFOLDING_BYTES:
                most = MAX_UNFOLDING_BYTES >> 20
                self._refuse(f"states more than {most} MiB beside its weights")
            yield number, value

    def _check_field(self, kind: Kind, number: int, value: int | memoryview | bytes) -> None:
        reason = REFUSED.get(kind, {}).get(number)
        if reason is not None:
            self._refuse(reason)
        if kind is Kind.NODE and number == OP_TYPE and _text(value) not in OPERATORS:
            self._refuse(f"has the operator {_text(value)!r}")
        if kind is Kind.NODE and number == DOMAIN and bytes(part(value)) not in DOMAINS:
            self._refuse(f"has operators of {_text(value)!r}, not of ONNX")
        if kind is Kind.MODEL and number == METADATA and len(part(value)) > MAX_TEXT_BYTES:
            self._refuse(f"states more than {MAX_TEXT_BYTES >> 10} KiB of itself in one text")

    def _check_once(self, kind: Kind, number: int, met: set[int]) -> None:
        if number in ONCE.get(kind, ()):
            if number in met:
                raise ValueError("a part of it stands twice")
            met.add(number)

    def _check_tensor(self, message: memoryview) -> None:
        """Check that a tensor's values lie in the file and are as many as its shape says."""
        shape: list[int] = []
        element, raw = 0, -1
        place: dict[str, str] = {}
        given = dict.fromkeys((field for _, field in ELEMENTS.values()), 0)
        for number, value in self._counted(Kind.TENSOR, message):
            if number in (EXTERNAL_DATA, DATA_LOCATION) and value != 0:
                self._check_allows_parts()
                if number == EXTERNAL_DATA:
                    key, text = external_entry(part(value))
                    place[key] = text
            if number == DIMS:
                shape += integers(
                    value[: 10 * MAX_RANK] if isinstance(value, memoryview) else value
                )
            elif number == DATA_TYPE and isinstance(value, int):
                element = value
            elif number == RAW_DATA:
                raw = len(part(value))
            elif number in given:
                given[number] += _count(number, value)
        if place:
            if raw >= 0 or any(given.values()):
                raise ValueError("a tensor's values lie in two places")
            raw = self._bytes_in_part(place)
        self._check_values(shape, element, raw, given)

    def _check_allows_parts(self) -> None:
        if not self._parts:
            raise ModelError(
                f"the model {self._path} keeps weights in other files whose hashes it does not "
                "state; write it with mien export, or as one file (external_data=False)"
            )

    def _bytes_in_part(self, place: Mapping[str, str]) -> int:
        """How many bytes a tensor has in a part. Raises ModelError, ValueError."""
        name, offset, length = placed(place)
        if name not in self._parts:
            self._refuse(f"keeps weights in {name[:80]!r}, of which it states no hash")
        if offset + length > self._parts[name]:
            self._refuse(f"looks for weights beyond the end of {name[:80]!r}")
        return length

    def _check_values(
        self, shape: list[int], element: int, raw: int, given: dict[int, int]
    ) -> None:
        if element not in ELEMENTS:
            self._refuse(f"has a tensor with elements of type {element}")
        if len(shape) > MAX_RANK or any(side < 0 for side in shape):
            self._refuse(f"has a tensor with {len(shape)} sides, or one with a side below 0")
        width, number = ELEMENTS[element]
        found = given[number] * width if raw < 0 else raw
        if found != math.prod(shape) * width:
            raise ModelError(
                f"the model {self._path} is damaged: a tensor of shape {tuple(shape)} holds "
                f"{found // width:,} values; export or download it again"
            )

    def _refuse(self, reason: str) -> NoReturn:
        raise ModelError(
            f"the model {self._path} {reason}; no network of mien has, so do not use it"
        )


def external_entry(message: memoryview) -> tuple[str, str]:
    """A key and a text of where a tensor's values lie. Raises ValueError."""
    texts = {number: bytes(part(value)[:1000]).decode() for number, value in fields(message)}
    return texts.get(1, ""), texts.get(2, "")


def placed(place: Mapping[str, str]) -> tuple[str, int, int]:
    """The file, the offset and the length of a tensor's values. Raises ValueError."""
    numbers = [place.get(key, "0") for key in ("offset", "length")]
    if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in numbers):
        raise ValueError("the place of a tensor's values is no number")
    return place.get("location", ""), int(numbers[0]), int(numbers[1])


def _count(number: int, value: int | memoryview | bytes) -> int:
    """How many values a field of a tensor brings. Raises ValueError."""
    size = FIXED.get(number, 0)
    if isinstance(value, memoryview):  # packed; the last byte of a number of no fixed size is < 128
        return len(value) // size if size else int((np.frombuffer(value, np.uint8) < 128).sum())
    if isinstance(value, int) != (size == 0):
        raise ValueError("a tensor has a number of another kind than its own")
    return 1


def _text(value: int | memoryview | bytes) -> str:
    """A field's text, at most the length of a name. Raises ValueError where it is a number."""
    return bytes(part(value)[:100]).decode(errors="backslashreplace")
