"""What TensorRT imports and then computes wrongly, slowly or not at all.

Norms, warps and sums of squares overflow or lose pixels in FP16, so they must stay in FP32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mien.calibration.audit.finding import VERSIONS, Finding, Severity
from mien.calibration.audit.graph import RANDOM, Node

HALF = ("FP16", "BF16")
# A strongly typed network computes in the type of the input: squares of values above 256 are above
# FP16's 65504, sums of many small numbers lose them, and a sampling grid is off by parts of a
# pixel.
NORMALISATION = "normalisation: squares and long sums"
SUMMED = "a sum over many values"
CURVE = "a steep curve or a ratio of squares"
SAMPLING = "a sampling grid: 0.03 px off at 256 in FP16"


@dataclass(frozen=True, slots=True)
class Sensitive:
    """An operator that calibration keeps in FP32.

    reason: why, for people. in_half: what the audit says of a graph that has it in FP16: `square`
    faults it (squares overflow), `sum` only over squares, `warp` for its pixels; `soft` is a note,
    and `fine` nothing, for the weights or values decide there.
    """

    reason: str
    in_half: Literal["square", "sum", "warp", "soft", "fine"]


# The one table of what stays in FP32: `mien calibrate` keeps these, `mien audit` faults them.
FP32_OPERATORS: Mapping[str, Sensitive] = {
    "InstanceNormalization": Sensitive(NORMALISATION, "square"),
    "GroupNormalization": Sensitive(NORMALISATION, "square"),
    "LayerNormalization": Sensitive(NORMALISATION, "square"),
    "RMSNormalization": Sensitive(NORMALISATION, "square"),
    "MeanVarianceNormalization": Sensitive(NORMALISATION, "square"),
    "LpNormalization": Sensitive(NORMALISATION, "square"),
    "LRN": Sensitive(NORMALISATION, "square"),
    "BatchNormalization": Sensitive(NORMALISATION, "fine"),  # a scale and a shift by now
    "ReduceL2": Sensitive(SUMMED, "square"),
    "ReduceSumSquare": Sensitive(SUMMED, "square"),
    "ReduceLogSumExp": Sensitive(SUMMED, "square"),
    "ReduceMean": Sensitive(SUMMED, "sum"),
    "ReduceSum": Sensitive(SUMMED, "sum"),
    "GlobalAveragePool": Sensitive(SUMMED, "sum"),
    "ReduceL1": Sensitive(SUMMED, "fine"),
    "CumSum": Sensitive(SUMMED, "fine"),
    "Pow": Sensitive(CURVE, "fine"),
    "Sqrt": Sensitive(CURVE, "fine"),
    "Reciprocal": Sensitive(CURVE, "fine"),
    "Exp": Sensitive(CURVE, "fine"),
    "Log": Sensitive(CURVE, "fine"),
    "Softplus": Sensitive(CURVE, "fine"),
    "Softmax": Sensitive(CURVE, "soft"),
    "LogSoftmax": Sensitive(CURVE, "soft"),
    "GridSample": Sensitive(SAMPLING, "warp"),
}


def check_precision(node: Node) -> Iterator[Finding]:
    """What a node computes in too few bits."""
    dtype = node.input(0).dtype
    if dtype not in HALF:
        yield from _between_casts(node)
        return
    sensitive = FP32_OPERATORS.get(node.kind)
    if sensitive is None:
        return
    stays = "keep it in FP32, with a Cast before and after"
    if sensitive.in_half == "warp":
        text = f"{node.kind} in {dtype}: its grid is off by up to 0.06 pixels at 512"
        yield _found(node, "error", text, stays)
    elif sensitive.in_half == "square" and sensitive.reason == NORMALISATION:
        text = f"{node.kind} in {dtype}: squares of values above 255 overflow"
        yield _found(node, "error", text, stays)
    elif sensitive.in_half == "square" or (sensitive.in_half == "sum" and _sums_squares(node)):
        yield _found(node, "error", f"{node.kind} over squares in {dtype} overflows", stays)
    elif sensitive.in_half == "soft":
        text = f"{node.kind} in {dtype}: logits above 10,000 overflow"
        yield _found(node, "note", text, "keep it in FP32 where they can be")


def _found(node: Node, severity: Severity, text: str, fix: str) -> Finding:
    return Finding("precision", severity, text, fix, (node.name,), VERSIONS)


def _sums_squares(node: Node) -> bool:
    maker = node.maker(0)
    if maker is None:
        return False
    if maker.kind == "Mul":
        return len(set(maker.proto.input)) == 1
    return maker.kind == "Pow"


def _between_casts(node: Node) -> Iterator[Finding]:
    """FP32 among FP16 is right by the rules, and yet reported wrong since 10.14.1."""
    maker = node.maker(0)
    if node.kind != "GridSample" or maker is None or maker.kind != "Cast":
        return
    if maker.input(0).dtype in HALF:
        text = "GridSample in FP32 behind a Cast: reported wrong since 10.14.1"
        fix = "compare on the device, or make it an engine of its own"
        yield _found(node, "note", text, fix)


MAX_RANK = 8  # Dims.MAX_DIMS
MAX_ELEMENTS = 2**31 - 1
BRANCHES = ("If", "Loop", "Scan")
DATA_DEPENDENT = ("NonZero", "Compress", "Unique", "NonMaxSuppression")
SHAPE_INPUTS = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Slice": (1, 2, 3, 4),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1, 3),
    "TopK": (1,),
    "Split": (1,),
}
INTEGER_ARITHMETIC = {
    "Abs", "Add", "CumSum", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Pow", "ReduceL1",
    "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Sign", "Sub", "Sum",
}  # fmt: skip


def check_traps(node: Node) -> Iterator[Finding]:
    """The traps that a node steps into."""
    for check in (
        _grid_modes,
        _group_norm,
        _random,
        _branches,
        _shapes,
        _integers,
        _sizes,
        _weights,
    ):
        yield from check(node)


def _trap(node: Node, rule: str, text: str, fix: str) -> Finding:
    return Finding(rule, "error", text, fix, (node.name,), VERSIONS)


def _grid_modes(node: Node) -> Iterator[Finding]:
    """The importer compares with the names of opset 16 only (onnx-tensorrt pull request 1060)."""
    if node.kind != "GridSample":
        return
    mode = node.attribute("mode", "linear" if node.graph.opset >= 20 else "bilinear")
    if mode not in ("bilinear", "bicubic", "nearest"):
        text = f"GridSample with mode {mode!r} becomes nearest, without a word"
        yield _trap(node, "grid-sample", text, "export with opset 18, where it is 'bilinear'")


def _group_norm(node: Node) -> Iterator[Finding]:
    if node.kind == "GroupNormalization":
        text = (
            "GroupNormalization: per-group scales up to 10.8, and one group becomes instance norm"
        )
        fix = "export with opset 18 as Reshape, InstanceNormalization, Reshape, Mul, Add"
        yield _trap(node, "group-norm", text, fix)


def _random(node: Node) -> Iterator[Finding]:
    if node.kind in RANDOM:
        text = f"{node.kind}: the seed is ignored, so no two runs can be compared"
        yield _trap(node, "random", text, "make the noise an input")


def _branches(node: Node) -> Iterator[Finding]:
    if node.kind in BRANCHES:
        text = f"{node.kind}: how long it runs depends on the data, and no CUDA graph captures it"
        yield _trap(node, "branch", text, "unroll it, or leave that part to the processor")


def _shapes(node: Node) -> Iterator[Finding]:
    fixed = "export fixed sizes: one engine for each size"
    if node.kind in DATA_DEPENDENT:
        text = f"{node.kind}: how much comes out depends on the data"
        yield _trap(node, "shape", text, "choose among fixed rows outside the graph")
    for index in SHAPE_INPUTS.get(node.kind, ()):
        if not node.is_constant(index):
            text = f"{node.kind}: input {index}, a shape, is computed from the graph's inputs"
            yield _trap(node, "shape", text, fixed)


def _integers(node: Node) -> Iterator[Finding]:
    dtype = node.main_tensors()[0].dtype
    if (
        node.kind in INTEGER_ARITHMETIC
        and dtype in ("INT32", "INT64")
        and not node.gives_constant()
    ):
        text = f"{node.kind} on {dtype} in every run, which nothing fuses"
        yield _trap(node, "integers", text, "compute it before the export, or in float")


def _sizes(node: Node) -> Iterator[Finding]:
    for index, name in enumerate(node.proto.output):
        tensor = node.output(index)
        if name == "" or tensor.shape is None:
            continue
        if len(tensor.shape) > MAX_RANK:
            text = f"{node.kind} gives {len(tensor.shape)} sides; TensorRT has {MAX_RANK}"
            yield _trap(node, "rank", text, "split the reshape into two of fewer sides")
        elements = 1
        for side in tensor.shape:
            elements *= side if side is not None else 1
        if elements > MAX_ELEMENTS:
            text = f"{node.kind} gives {elements} elements; a tensor has less than 2**31"
            yield _trap(node, "huge", text, "do not run this graph")


def _weights(node: Node) -> Iterator[Finding]:
    """A finding for weights outside the file, which come as a second input, by another path."""
    if node.kind not in ("Conv", "ConvTranspose") or node.is_weight(1):
        return
    maker = node.maker(1)
    if maker is not None and maker.kind == "DequantizeLinear":
        return  # the way of INT8
    if not node.is_constant(1):
        text = f"{node.kind} with weights computed in every run: nothing is prepared or fused"
        yield _trap(node, "weights", text, "scale the activations instead of the weights")
        return
    kind = "computed" if maker is None else f"made by {maker.kind}"
    text = f"{node.kind} with weights {kind} from constants: TensorRT must fold them itself"
    fix = "where the build shows it does not, store the weights as they are used"
    yield Finding("weights", "note", text, fix, (node.name,), VERSIONS)
