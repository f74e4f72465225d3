"""All checks of one ONNX file, in the process that calls; `guard` does it in one of its own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, defs

from mien.calibration.audit.finding import VERSIONS, Finding, Report, gathered, printable, refused
from mien.calibration.audit.graph import (
    TypedGraph,
    infer_types,
    knows_operator,
    opset_of,
    typed_graph,
)
from mien.calibration.audit.reading import all_nodes, node_name, parse, read_bytes, value_of
from mien.calibration.audit.restrictions import check_operator, check_restrictions, operator_table
from mien.calibration.audit.statement import check_statement, metadata_of, stated_network
from mien.calibration.audit.traps import check_precision, check_traps
from mien.engines.errors import ModelError
from mien.engines.graph.guard import OPERATORS
from mien.engines.system.limits import MAX_MEMORY, memory_text

OPSET = 18  # GridSample's modes change at 20, and all that mien needs is there
NEWEST_IR = 10  # of ONNX Runtime 1.18, the oldest that mien runs with
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
EXPORT_AGAIN = "export it again with opset 18"


def audit(path: Path) -> Report:
    """What was found in the file at `path`. It is read here: see `guard` for hostile ones."""
    try:
        content = read_bytes(path)
        model = parse(content, path)
    except ModelError as error:
        return refused(str(path), str(error), "")
    network = stated_network(metadata_of(model))
    return Report(
        str(path),
        gathered(audit_model(model)),
        printable(network.name) if network is not None else "",
        hashlib.sha256(content).hexdigest(),
        opset_of(model),
        len(model.graph.node),
    )


def audit_model(model: ModelProto) -> Iterator[Finding]:
    """What was found in a model that `parse` has let pass."""
    yield from _check_versions(model)
    problems = list(_check_form(model))
    yield from problems
    graph = typed_graph(model)
    if not problems:
        try:
            graph = typed_graph(infer_types(model))
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            yield Finding("types", "error", f"no types follow: {_reason(error)}", EXPORT_AGAIN)
    yield from check_statement(graph)
    yield from _check_running(graph)
    yield from _check_inputs(graph)
    yield from _check_weights(graph)
    for node in graph.nodes():
        for check in (check_operator, check_restrictions, check_traps, check_precision):
            for found in check(node):
                yield _named(found)
    yield from _check_types(graph)


def _named(found: Finding) -> Finding:
    nodes = tuple(printable(name) for name in found.nodes)
    fields = (found.rule, found.severity, printable(found.text), found.fix)
    return Finding(*fields, nodes, found.versions)


def _check_versions(model: ModelProto) -> Iterator[Finding]:
    opset = opset_of(model)
    if opset != OPSET:
        too_new = tuple(v for v in VERSIONS if opset > operator_table().opsets[v][1])
        text = f"opset {opset}; the graphs of mien are opset {OPSET}"
        yield Finding("opset", "error", text, EXPORT_AGAIN, versions=too_new)
    if model.ir_version > NEWEST_IR:
        text = f"ONNX format {model.ir_version}; {NEWEST_IR} is the newest that mien runs"
        yield Finding("opset", "error", text, EXPORT_AGAIN)
    for other in model.opset_import:
        if other.domain not in ("", "ai.onnx"):
            text = printable(f"it asks for operators of {other.domain!r}")
            yield Finding("operator", "error", text, "export it as operators of ONNX")


def _check_form(model: ModelProto) -> Iterator[Finding]:
    """What keeps the graph from being read as ONNX: nodes in a ring, names used twice, ..."""
    opset = opset_of(model)
    if opset > defs.onnx_opset_version():
        newest = defs.onnx_opset_version()
        text = f"its nodes are not looked into: opset {opset}, the installed onnx knows {newest}"
        yield Finding("form", "error", text, EXPORT_AGAIN)
        return
    unknown = [node for node in all_nodes(model.graph) if not knows_operator(node, opset)]
    if unknown:
        text = f"no types follow: {printable(unknown[0].op_type)} is no operator of opset {opset}"
        names = tuple(printable(node_name(node)) for node in unknown)
        yield Finding("form", "error", text, EXPORT_AGAIN, names)
        return
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        yield Finding("form", "error", f"not valid ONNX: {_reason(error)}", "export it again")


def _check_running(graph: TypedGraph) -> Iterator[Finding]:
    """What mien refuses to load, on whatever device."""
    names: dict[str, list[str]] = {}
    for node in all_nodes(graph.model.graph):
        if node.op_type not in OPERATORS:
            names.setdefault(node.op_type, []).append(printable(node_name(node)))
    for kind, found in names.items():
        text = f"mien does not run {printable(kind)}: it is of no feed-forward network"
        yield Finding("operator", "error", text, "write it with other operators", tuple(found))
    for name, tensor in graph.tensors.items():
        size = math.prod(side or 0 for side in tensor.shape or (0,))
        if size > MAX_MEMORY:  # of a byte at least
            text = printable(f"{name!r} takes {memory_text(size)} or more")
            yield Finding("size", "error", text, "export it in a smaller size")


def _check_inputs(graph: TypedGraph) -> Iterator[Finding]:
    for value in graph.model.graph.input:
        if not graph.tensors[value.name].is_static:
            text = printable(f"the input {value.name!r} has a side that is not fixed")
            fix = "export fixed sizes: one engine for each size"
            yield Finding("shape", "error", text, fix, versions=VERSIONS)


def _check_weights(graph: TypedGraph) -> Iterator[Finding]:
    for name, weight in graph.weights.items():
        if weight.data_type in FLOATS and not np.isfinite(value_of(weight)).all():
            text = printable(f"the weights {name!r} hold NaN or infinity")
            yield Finding("weights", "error", text, "train or convert it again")


def _check_types(graph: TypedGraph) -> Iterator[Finding]:
    """Strong typing needs the type of every tensor, and a plan for one size needs its shape."""
    for node in graph.nodes():
        given = [node.output(i) for i, name in enumerate(node.proto.output) if name]
        if any(tensor.dtype is None or not tensor.is_static for tensor in given):
            text = "the type and size of what it gives do not follow from the graph"
            names = (printable(node.name),)
            yield Finding("types", "error", text, "export fixed sizes", names, VERSIONS)


def _reason(error: Exception) -> str:
    """The first sentence of what the package onnx says."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[0] if lines else type(error).__name__)
