"""What a graph takes to run, worked out from the sizes of its tensors before any is made.

ONNX Runtime computes what is constant while it loads a graph, so that one node which gives five
gigabytes of zeros takes them at once. The sizes are those that ONNX Runtime itself infers, from the
graph without its weights and without what the file says of the tensors between its ends.
Source: onnx.proto3 of ONNX (the numbers of the fields).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mien.engines.errors import ModelError
from mien.engines.graph.guard import (
    CONVOLUTIONS,
    DATA_LOCATION,
    ELEMENTS,
    MAX_RANK,
    POOLS,
    PRODUCTS,
    RECURRENT,
)
from mien.engines.graph.wire import bytes_field, fields, integers, number_field, part, text_field
from mien.engines.system.limits import MAX_MEMORY, memory_text

# One call on a processor; a diffusion UNet on 64x64 takes 1e12 operations.
MAX_SECONDS: Final = 120.0
# Slower than what any of the kernels does here: a matrix product, and a single element.
OPERATIONS_S: Final = 1e10
ELEMENTS_S: Final = 1e8
# The bytes of the file, the message that is read from them and the weights that are taken out.
COPIES: Final = 3
SMALL_BYTES: Final = 8 << 10  # such a tensor may state a size; a larger one is weights
IR_VERSION, GRAPH, OPSET = 1, 7, 8  # of a model
NODE, GRAPH_NAME, INITIALIZER, INPUT, OUTPUT = 1, 2, 5, 11, 12  # of a graph
NODE_INPUT, NODE_OUTPUT, OP_TYPE, ATTRIBUTE = 1, 2, 4, 5  # of a node
TEXT, INTS = 4, 8  # of an attribute
DIMS, DATA_TYPE, TENSOR_NAME = 1, 2, 8  # of a tensor
FLOAT, HALF = 1, 10  # types of elements; ONNX Runtime casts FP16 to FP32 on a processor

ELEMENT_NAMES: Final = (
    *("float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16"),
    *("double", "uint32", "uint64", "complex64", "complex128", "bfloat16"),
)  # of ONNX Runtime, in the order of the numbers from 1
TYPES: Final = {f"tensor({name})": number for number, name in enumerate(ELEMENT_NAMES, 1)}


class SizedValue(Protocol):
    """What ONNX Runtime says of an output."""

    type: str
    shape: Sequence[object]


# The outputs of a session of a model, none of which is run.
InferSizes = Callable[[bytes], Sequence[SizedValue]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """The size of a tensor. element: the number of its type in onnx.proto3."""

    element: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        width, _ = ELEMENTS.get(self.element, ELEMENTS[FLOAT])
        return self.count * width


EMPTY: Final = Tensor(1, (0,))


@dataclass(frozen=True, slots=True)
class Node:
    """A node.

    kernel: the product of `kernel_shape`, 1 where it has none. equation: of an Einsum.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: int = 1
    equation: str = ""


class SizedGraph:
    """A graph in the order in which ONNX Runtime runs it.

    tensors: the size of each that is known. kept: the names of its weights.
    """

    def __init__(
        self, nodes: Sequence[Node], tensors: Mapping[str, Tensor], weights: Iterable[str]
    ) -> None:
        self.nodes = nodes
        self.tensors = tensors
        self.weights = frozenset(weights)

    def of(self, names: Sequence[str]) -> list[Tensor]:
        """The sizes of tensors, and an empty one at the end; one that is left out is empty."""
        return [*(self.tensors.get(name, EMPTY) for name in names), EMPTY]

    def bytes_of(self, names: Iterable[str]) -> int:
        """What tensors take together."""
        return sum(self.tensors[name].size for name in names if name in self.tensors)

    def peak_bytes(self) -> int:
        """The most that its tensors take at once, the weights left out.

        What depends on no input is computed once, and kept.
        """
        uses = Counter(name for node in self.nodes for name in node.inputs)
        kept = set(self.weights)
        made = {name for node in self.nodes for name in node.outputs}
        now = peak = self.bytes_of(self.tensors.keys() - made - kept)  # the inputs
        for node in self.nodes:
            if all(name in kept for name in node.inputs if name):
                kept.update(node.outputs)
                continue
            now += self.bytes_of(node.outputs)
            peak = max(peak, now + _scratch_bytes(node, self))
            uses.subtract(node.inputs)
            done = {name for name in node.inputs if not uses[name]}
            now -= self.bytes_of((done & made) - kept)
        return peak + self.bytes_of(kept - self.weights)

    def seconds(self) -> float:
        """About what one run takes at most."""
        elements = operations = 0
        for node in self.nodes:
            inputs, outputs = self.of(node.inputs), self.of(node.outputs)
            written = sum(tensor.count for tensor in outputs)
            elements += written * node.kernel + sum(tensor.count for tensor in inputs)
            operations += _operations(node, inputs, outputs)
        return operations / OPERATIONS_S + elements / ELEMENTS_S


def check_cost(
    model: bytes, path: Path, infer_sizes: InferSizes, *, limit: int = MAX_MEMORY
) -> None:
    """Check that a model that `read_model` gave takes no more memory and time than a network may.

    Raises ModelError, also where the size of a tensor does not follow from the graph, and what
    `infer_sizes` raises.
    """
    try:
        graph = sized_graph(memoryview(model), path, infer_sizes)
    except ValueError as error:
        raise ModelError(
            f"the model {path} is no ONNX file: {error}; export or download it again"
        ) from error
    # Weights are as large as their file; one that is larger than the limit is no small file that
    # asks for much.
    needed = COPIES * min(len(model), limit // (2 * COPIES)) + graph.peak_bytes()
    if needed > limit:
        raise ModelError(
            f"the model {path} takes about {memory_text(needed)} of memory, more than the "
            f"{memory_text(limit)} that mien gives a network; export it in a smaller size"
        )
    seconds = graph.seconds()
    if seconds > MAX_SECONDS:
        raise ModelError(
            f"one run of the model {path} takes up to {seconds:,.0f} s, more than the "
            f"{MAX_SECONDS:g} s that mien gives a network; export it in a smaller size"
        )


def sized_graph(model: memoryview, path: Path, infer_sizes: InferSizes) -> SizedGraph:
    """A graph with the sizes of all that its nodes give. Raises ModelError."""
    wanted = (NODE, INPUT, INITIALIZER, OUTPUT)
    parts = [(number, part(value)) for number, value in fields(_graph(model)) if number in wanted]
    nodes = [_node(message) for number, message in parts if number == NODE]
    inputs = dict(_stated_input(message) for number, message in parts if number == INPUT)
    weights = dict(_stated_tensor(message) for number, message in parts if number == INITIALIZER)
    for number, message in parts:
        if number == OUTPUT:
            _name(message, 1)  # raises where it is no text, over which ONNX Runtime stumbles
    made = _inferred_sizes(_Bare.of(model, weights.keys()), nodes, path, infer_sizes)
    return SizedGraph(_run_order(nodes), inputs | weights | made, weights)


@dataclass(frozen=True, slots=True)
class _Bare:
    """A model from which sizes follow, up to its outputs: what it is before its graph, and that.

    Large weights are inputs of it. What the file says of other tensors than inputs is left out.
    """

    head: bytes
    graph: bytes

    @classmethod
    def of(cls, model: memoryview, weights: Collection[str]) -> _Bare:
        head = b"".join(
            number_field(number, value) if isinstance(value, int) else bytes_field(number, value)
            for number, value in fields(model)
            if number in (IR_VERSION, OPSET)
        )
        parts = [text_field(GRAPH_NAME, "sizes")]
        for number, value in fields(_graph(model)):
            if number == NODE or (number == INITIALIZER and _is_small(part(value))):
                parts.append(bytes_field(number, part(value)))
            elif number == INITIALIZER:
                parts.append(_input_field(*_stated_tensor(part(value))))
            elif number == INPUT and _name(part(value), 1) not in weights:
                parts.append(_input_field(*_stated_input(part(value))))
        return cls(head, b"".join(parts))

    def giving(self, names: Sequence[str]) -> bytes:
        """The model with these outputs."""
        outputs = b"".join(bytes_field(OUTPUT, text_field(1, name)) for name in names)
        return self.head + bytes_field(GRAPH, self.graph + outputs)

    def giving_ranks(self, names: Sequence[str]) -> bytes:
        """The model with the shapes of these tensors, whose lengths are ranks, as its outputs."""
        ranks = [f"{name}/rank" for name in names]
        nodes = b"".join(
            bytes_field(
                NODE,
                text_field(NODE_INPUT, name)
                + text_field(NODE_OUTPUT, rank)
                + text_field(OP_TYPE, "Shape"),
            )
            for name, rank in zip(names, ranks, strict=True)
        )
        return _Bare(self.head, self.graph + nodes).giving(ranks)


def _inferred_sizes(
    bare: _Bare, nodes: Sequence[Node], path: Path, infer_sizes: InferSizes
) -> dict[str, Tensor]:
    """The sizes of what nodes give. Raises ModelError."""
    names = [name for node in nodes for name in node.outputs if name]
    values = dict(zip(names, infer_sizes(bare.giving(names)), strict=False))
    # ONNX Runtime gives no sides for a single number, and where it does not know how many.
    single = [name for name, value in values.items() if not value.shape]
    ranks = infer_sizes(bare.giving_ranks(single)) if single else ()
    unknown = {n for n, rank in zip(single, ranks, strict=False) if list(rank.shape) != [0]}
    return {
        name: _inferred(name, value, path, is_known=name not in unknown)
        for name, value in values.items()
    }


def _run_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes as ONNX Runtime runs them: from what nothing takes, each after what it takes."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    before = [sorted({makers[n] for n in node.inputs if n in makers}) for node in nodes]
    taken = {index for indices in before for index in indices}
    waiting = [(index, False) for index in range(len(nodes)) if index not in taken]
    order, met = [], set()
    while waiting:
        index, is_ready = waiting.pop()
        if is_ready:
            order.append(nodes[index])
        elif index not in met:
            met.add(index)
            waiting.append((index, True))
            waiting += [(other, False) for other in before[index] if other not in met]
    return order


def _inferred(name: str, value: SizedValue, path: Path, *, is_known: bool) -> Tensor:
    """The size of a tensor as ONNX Runtime infers it. Raises ModelError."""
    shape = [side for side in value.shape if isinstance(side, int) and side >= 0]
    if len(shape) < len(value.shape) or not is_known:
        raise ModelError(
            f"the size of {name[:80]!r} in the model {path} does not follow from the graph; "
            "export it with fixed sizes"
        )
    element = TYPES.get(value.type, 0)
    if element not in ELEMENTS or len(shape) > MAX_RANK:
        raise ModelError(
            f"{name[:80]!r} in the model {path} is no tensor of numbers with up to {MAX_RANK} "
            "sides; no network of mien has such, so do not use it"
        )
    return Tensor(element, tuple(shape))


def _operations(node: Node, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Additions and multiplications of a node whose work is more than what it reads and writes."""
    if node.operator in CONVOLUTIONS:
        return 2 * outputs[0].count * math.prod(_kernel(node, inputs).shape[1:])
    if node.operator == "ConvTranspose":
        return 2 * inputs[0].count * math.prod(_kernel(node, inputs).shape[1:])
    if node.operator == "Gemm":  # A may lie transposed
        rows = outputs[0].shape[0] if outputs[0].shape else 1
        return 2 * outputs[0].count * (inputs[0].count // max(1, rows))
    if node.operator in PRODUCTS:
        return 2 * outputs[0].count * (inputs[0].shape or (1,))[-1]
    return _operations_of_sequences(node, inputs, outputs)


def _operations_of_sequences(
    node: Node, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> int:
    """The same of the operators that language and attention are made of."""
    if node.operator == "Einsum":
        return len(node.inputs) * _places(node.equation, inputs)
    if node.operator in RECURRENT:  # X, then for each direction W and R: (gates * hidden, ...)
        steps = math.prod(inputs[0].shape[:2])
        return 2 * steps * sum(tensor.count for tensor in inputs[1:3])
    if node.operator == "Attention":  # queries with keys, and weights with values: lengths twice
        keys = inputs[1].shape[-2] if len(inputs[1].shape) > 1 else 1
        return 2 * keys * (inputs[0].count + outputs[0].count)
    return 0


def _places(equation: str, inputs: Sequence[Tensor]) -> int:
    """The product of the lengths of all indices of an Einsum; those of `...` count for each."""
    lengths: dict[str, int] = {}
    more = 1
    for term, tensor in zip(equation.partition("->")[0].split(","), inputs, strict=False):
        letters = [letter for letter in term if letter.isalpha()]
        start = len(tensor.shape) - len(letters) if "..." in term else 0
        more = max(more, math.prod(tensor.shape[: max(0, start)]))
        for letter, side in zip(letters, tensor.shape[max(0, start) :], strict=False):
            lengths[letter] = max(side, lengths.get(letter, 1))
    return more * math.prod(lengths.values())


def _scratch_bytes(node: Node, graph: SizedGraph) -> int:
    """What a convolution unfolds its input to while it runs; for float32 ONNX Runtime does not."""
    inputs, outputs = graph.of(node.inputs), graph.of(node.outputs)
    if node.operator == "ConvTranspose":
        places, width = inputs[0].shape[2:], 4
    elif node.operator in CONVOLUTIONS and inputs[0].element not in (FLOAT, HALF):
        places, width = outputs[0].shape[2:], 8  # or an address
    else:
        return 0
    return width * math.prod(places) * math.prod(_kernel(node, inputs).shape[1:])


def _kernel(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    index = 3 if node.operator == "QLinearConv" else 1
    return inputs[index] if len(inputs) > index else EMPTY


def _is_small(message: memoryview) -> bool:
    """Whether an initializer may state a size; the values of one in a part are not here."""
    return len(message) <= SMALL_BYTES and not any(
        number == DATA_LOCATION and value for number, value in fields(message)
    )


def _graph(model: memoryview) -> memoryview:
    return _inner(model, GRAPH)


def _name(message: memoryview, field: int) -> str:
    """A text in a message, the last where it is given more than once, as protobuf reads it."""
    texts = [part(value) for number, value in fields(message) if number == field]
    return bytes(texts[-1]).decode() if texts else ""


def _node(message: memoryview) -> Node:
    names: dict[int, list[str]] = {NODE_INPUT: [], NODE_OUTPUT: [], OP_TYPE: []}
    kernel, equation = 1, ""
    for number, value in fields(message):
        if number in names:
            names[number].append(bytes(part(value)).decode())
        elif number == ATTRIBUTE and _name(part(value), 1) == "equation":
            equation = _name(part(value), TEXT)
        elif number == ATTRIBUTE and _name(part(value), 1) == "kernel_shape":
            sides = [
                side for key, ints in fields(part(value)) if key == INTS for side in integers(ints)
            ]
            kernel = math.prod(max(1, side) for side in sides)
    operator = names[OP_TYPE][-1] if names[OP_TYPE] else ""
    made = tuple(names[NODE_OUTPUT])
    window = kernel if operator in POOLS else 1
    return Node(operator, tuple(names[NODE_INPUT]), made, window, equation)


def _stated_tensor(message: memoryview) -> tuple[str, Tensor]:
    """The name and size of an initializer."""
    shape: list[int] = []
    element = 0
    for number, value in fields(message):
        if number == DIMS:
            shape += integers(value)
        elif number == DATA_TYPE and isinstance(value, int):
            element = value
    return _name(message, TENSOR_NAME), Tensor(element, tuple(shape))


def _input_field(name: str, tensor: Tensor) -> bytes:
    """The field of an input."""
    sides = b"".join(bytes_field(1, number_field(1, side)) for side in tensor.shape)
    kind = number_field(1, tensor.element) + bytes_field(2, sides)
    return bytes_field(INPUT, text_field(1, name) + bytes_field(2, bytes_field(1, kind)))


def _stated_input(message: memoryview) -> tuple[str, Tensor]:
    """The name and size of an input; a side that is not fixed, as that of a batch, is 1."""
    tensor = _inner(_inner(message, 2), 1)
    element = next((v for n, v in fields(tensor) if n == 1 and isinstance(v, int)), FLOAT)
    sides = [_side(part(value)) for number, value in fields(_inner(tensor, 2)) if number == 1]
    return _name(message, 1), Tensor(element, tuple(sides))


def _side(message: memoryview) -> int:
    numbers = [integers(value)[0] for number, value in fields(message) if number == 1]
    return max(1, numbers[-1]) if numbers else 1


def _inner(message: memoryview, field: int) -> memoryview:
    """A message within a message, an empty one where it is missing."""
    return next((part(value) for number, value in fields(message) if number == field), message[:0])
