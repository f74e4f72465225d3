"""Every node against the table of the operators that TensorRT's parser imports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
