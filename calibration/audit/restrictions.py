"""Every node against the table of the operators that TensorRT's parser imports.

Beyond types the table restricts attributes, ranks, and inputs that must be constant. Each check
yields what is wrong and for which versions; `check_restrictions` makes findings of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mien.calibration.audit.finding import VERSIONS, Finding
from mien.calibration.audit.graph import Node

TABLE = Path(__file__).parent / "trt_operators.json"


@dataclass(frozen=True, slots=True)
class Support:
    """What one version of TensorRT says of an operator; no types where it does not import it."""

    types: frozenset[str]
    restriction: str


NO_SUPPORT = Support(frozenset(), "not in the table")


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """The operators by version and name, and the oldest and newest opset of each version."""

    operators: dict[str, dict[str, Support]]
    opsets: dict[str, tuple[int, int]]

    def support(self, version: str, operator: str) -> Support:
        """What that version of TensorRT says of an operator of ONNX."""
        return self.operators[version].get(operator, NO_SUPPORT)


@cache
def operator_table() -> OperatorTable:
    """The table that comes with mien."""
    stated = json.loads(TABLE.read_text(encoding="utf-8"))
    versions = stated["versions"]
    operators: dict[str, dict[str, Support]] = {version: {} for version in versions}
    for name, rows in stated["operators"].items():
        for index, version in enumerate(versions):
            types, restriction = rows[min(index, len(rows) - 1)]
            operators[version][name] = Support(frozenset(types.split()), restriction)
    ends = zip(versions, stated["opsets"], strict=True)
    opsets = {version: (oldest, newest) for version, (oldest, newest) in ends}
    return OperatorTable(operators, opsets)


def check_operator(node: Node) -> Iterator[Finding]:
    """What the table says against a node: its operator, or the types it works on."""
    if node.proto.domain not in ("", "ai.onnx"):
        text = (
            f"{node.proto.domain}.{node.kind} is no operator of ONNX; TensorRT has no plugin for it"
        )
        fix = "export it as operators of ONNX"
        yield Finding("operator", "error", text, fix, (node.name,), VERSIONS)
        return
    table = operator_table()
    missing = tuple(v for v in VERSIONS if not table.support(v, node.kind).types)
    if missing:
        text = f"{node.kind} is not imported: {table.support(missing[0], node.kind).restriction}"
        fix = "write it with other operators"
        yield Finding("operator", "error", text, fix, (node.name,), missing)
    yield from _check_types(node, tuple(v for v in VERSIONS if v not in missing))


def _check_types(node: Node, versions: tuple[str, ...]) -> Iterator[Finding]:
    table = operator_table()
    types = {tensor.dtype for tensor in node.main_tensors() if tensor.dtype is not None}
    for dtype in sorted(types):
        refusing = tuple(v for v in versions if dtype not in table.support(v, node.kind).types)
        if not refusing:
            continue
        known = " ".join(sorted(table.support(refusing[0], node.kind).types))
        text = f"{node.kind} on {dtype}; it is imported for {known}"
        fix = "cast to one of these before it"
        if dtype == "DOUBLE":
            text, fix = f"{node.kind} on DOUBLE is computed in FP32", "export it in float32"
        yield Finding("type", "error", text, fix, (node.name,), refusing)


OLD = ("10.3",)
Complaint = tuple[str, tuple[str, ...]]
Check = Callable[[Node], Iterator[Complaint]]

RESIZE_COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
    "asymmetric",
    "align_corners",
)
RESIZE_NEAREST = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
TOP_K_LIMIT = 3840
PLAIN_EINSUM = set("abcdefghijklmnopqrstuvwxyz,->. ")


def check_restrictions(node: Node) -> Iterator[Finding]:
    """What the restrictions of the table say against a node."""
    for check in CHECKS.get(node.kind, ()):
        for text, versions in check(node):
            fix = "write it otherwise in the network, and export again"
            whole = f"{node.kind}: {text}"
            yield Finding("restriction", "error", whole, fix, (node.name,), versions)


def _constant(index: int, what: str) -> Check:
    """An input that must be known when the engine is built; up to 10.3 it must be in the file."""

    def check(node: Node) -> Iterator[Complaint]:
        if not node.is_constant(index):
            yield f"{what} must be constant", VERSIONS
        elif not node.is_weight(index):
            yield f"{what} must stand in the file, not be computed", OLD

    return check


def _pool(node: Node) -> Iterator[Complaint]:
    dilations = node.attribute("dilations", [])
    if isinstance(dilations, list) and any(side != 1 for side in dilations):
        yield f"dilations {dilations} are not handled", VERSIONS
    kernel = node.attribute("kernel_shape", [])
    if isinstance(kernel, list) and len(kernel) not in (2, 3):
        yield f"a kernel of {len(kernel)} sides; 2 or 3 are handled", VERSIONS
    if node.kind == "MaxPool" and node.gives(1):
        yield "its output of indices is not given", VERSIONS


def _zero_point(node: Node) -> Iterator[Complaint]:
    if not node.has(2):
        return
    value = node.value(2)
    if value is None:
        yield "its zero point must be constant", VERSIONS
    elif np.any(value.astype(np.float32) != 0):
        yield "its zero point must be 0 (symmetric)", VERSIONS


def _quantized_type(node: Node) -> Iterator[Complaint]:
    if node.output().dtype == "UINT8":
        yield "to UINT8; symmetric INT8 is imported", VERSIONS


def _grid_sample(node: Node) -> Iterator[Complaint]:
    shape = node.input(0).shape
    if shape is not None and len(shape) != 4:
        yield f"on rank {len(shape)}; rank 4 alone is imported", VERSIONS


def _resize(node: Node) -> Iterator[Complaint]:
    mode = node.attribute("mode", "nearest")
    if mode not in ("nearest", "linear"):
        yield f"mode {mode!r}; nearest and linear are in the table", VERSIONS
    if node.attribute("antialias", 0):
        yield "antialias=1 is rejected; filter with a fixed Conv before it", VERSIONS
    coordinates = node.attribute("coordinate_transformation_mode", "half_pixel")
    if coordinates not in RESIZE_COORDINATES:
        yield f"coordinates {coordinates!r} are not handled", VERSIONS
    rounding = node.attribute("nearest_mode", "round_prefer_floor")
    if mode == "nearest" and rounding not in RESIZE_NEAREST:
        yield f"rounding {rounding!r} is not handled", VERSIONS
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        yield f"policy {policy!r}; stretch alone is handled", VERSIONS
    axes, shape = node.attribute("axes"), node.input(0).shape
    if axes is not None and shape is not None and axes != list(range(len(shape))):
        yield "axes must be all of them, in order", VERSIONS


def _recurrent(node: Node) -> Iterator[Complaint]:
    if node.attribute("layout", 0):
        yield "layout must be 0", VERSIONS
    if node.attribute("input_forget", 0):
        yield "a coupled input and forget gate is not handled", VERSIONS
    given = node.attribute("activations")
    if node.attribute("direction") == "bidirectional" and isinstance(given, list):
        half = len(given) // 2
        if given[:half] != given[half:]:
            yield "both directions must have the same activations", VERSIONS


def _top_k(node: Node) -> Iterator[Complaint]:
    if not node.attribute("sorted", 1):
        yield "sorted must be 1", VERSIONS
    value = node.value(1)
    if value is not None and value.size and int(value.flat[0]) >= TOP_K_LIMIT:
        yield f"K must be below {TOP_K_LIMIT}", VERSIONS


def _dropout(node: Node) -> Iterator[Complaint]:
    value = node.value(2)
    if node.has(2) and (value is None or bool(np.any(value))):
        yield "its training flag must be a constant False", VERSIONS


def _einsum(node: Node) -> Iterator[Complaint]:
    equation = str(node.attribute("equation", ""))
    sides = equation.split("->", maxsplit=1)[0].split(",")
    doubled = any(len(set(side.strip())) < len(side.strip()) for side in sides)
    if "..." in equation or doubled or not PLAIN_EINSUM.issuperset(equation):
        yield f"the equation {equation!r} needs TensorRT 10.12; write it with MatMul", OLD


def _constant_node(node: Node) -> Iterator[Complaint]:
    given = {attribute.name for attribute in node.proto.attribute}
    if given & {"sparse_value", "value_string", "value_strings"}:
        yield "sparse and string values are not handled", VERSIONS


def _scatter(node: Node) -> Iterator[Complaint]:
    if node.attribute("reduction", "none") != "none":
        yield "with a reduction is not handled", VERSIONS


def _layer_norm(node: Node) -> Iterator[Complaint]:
    if node.gives(1) or node.gives(2):
        yield "its mean and deviation are not given, only Y", VERSIONS


def _instance_norm(node: Node) -> Iterator[Complaint]:
    shape = node.input(0).shape
    if shape is not None and len(shape) < 3:
        yield f"on rank {len(shape)}; 3 is the least", VERSIONS
    types = {node.input(index).dtype or "" for index in range(3)} - {""}
    if len(types) > 1:
        named = " and ".join(sorted(types))
        yield f"input, scale and bias must have one type, not {named}", VERSIONS
    if "BF16" in types:
        yield "on BF16, which its importer asserts against", OLD


def _prelu(node: Node) -> Iterator[Complaint]:
    data, slope = node.input(0).shape, node.input(1).shape
    if data is None or slope is None:
        return
    ends = zip(reversed(data), reversed(slope), strict=False)
    if len(slope) > len(data) or any(s not in (1, d) for d, s in ends):
        yield f"a slope of shape {slope} does not broadcast to {data}", VERSIONS


def _convolution(node: Node) -> Iterator[Complaint]:
    shape = node.input(0).shape
    if shape is not None and not 3 <= len(shape) <= 5:
        yield f"on rank {len(shape)}; 3 to 5 are handled", VERSIONS


def _deform(node: Node) -> Iterator[Complaint]:
    pads = node.attribute("pads", [])
    if isinstance(pads, list) and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        yield "padding must be the same at both ends of an axis", VERSIONS


def _eye_like(node: Node) -> Iterator[Complaint]:
    if not node.input(0).is_static:
        yield "on a shape that is not fixed", VERSIONS


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
CHECKS: dict[str, tuple[Check, ...]] = {
    **{f"Reduce{name}": (_constant(1, "axes"),) for name in REDUCTIONS},
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), (_pool,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (_recurrent,)),
    **dict.fromkeys(("Conv", "ConvTranspose"), (_convolution,)),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "CumSum"), (_constant(1, "axes"),)),
    "Pad": (_constant(3, "axes"),),
    "OneHot": (_constant(1, "depth"),),
    "QuantizeLinear": (_zero_point, _quantized_type),
    "DequantizeLinear": (_zero_point,),
    "GridSample": (_grid_sample,),
    "Resize": (_resize,),
    "TopK": (_top_k,),
    "Dropout": (_dropout,),
    "Einsum": (_einsum,),
    "Constant": (_constant_node,),
    "ScatterND": (_scatter,),
    "LayerNormalization": (_layer_norm,),
    "InstanceNormalization": (_instance_norm,),
    "PRelu": (_prelu,),
    "DeformConv": (_deform,),
    "EyeLike": (_eye_like,),
}
