"""What must stay in FP32: norms, warps and sums of squares overflow or lose pixels in FP16."""

from __future__ import annotations

from collections.abc import Iterator

from mien.calibration.audit.finding import VERSIONS, Finding, Severity
from mien.calibration.audit.graph import Node

HALF = ("FP16", "BF16")
# A strongly typed network computes in the type of the input; 256 squared is above FP16's 65504.
NORMS = {
    "InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization",
    "MeanVarianceNormalization", "LpNormalization", "LRN",
}  # fmt: skip
SQUARES = {"ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"}
SUMS = {"ReduceMean", "ReduceSum", "GlobalAveragePool"}
SOFT = {"Softmax", "LogSoftmax"}


def check_precision(node: Node) -> Iterator[Finding]:
    """What a node computes in too few bits."""
    dtype = node.input(0).dtype
    if dtype not in HALF:
        yield from _between_casts(node)
        return
    stays = "keep it in FP32, with a Cast before and after"
    if node.kind == "GridSample":
        text = f"GridSample in {dtype}: its grid is off by up to 0.06 pixels at 512"
        yield _found(node, "error", text, stays)
    elif node.kind in NORMS:
        text = f"{node.kind} in {dtype}: squares of values above 255 overflow"
        yield _found(node, "error", text, stays)
    elif node.kind in SQUARES or (node.kind in SUMS and _sums_squares(node)):
        yield _found(node, "error", f"{node.kind} over squares in {dtype} overflows", stays)
    elif node.kind in SOFT:
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
