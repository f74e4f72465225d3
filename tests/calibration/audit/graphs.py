"""Graphs small enough to write by hand, for the tests of the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mien.calibration.audit.examine import audit
from mien.calibration.audit.finding import Finding

Ends = Mapping[str, tuple[int, Sequence[int | str]]]
PICTURE = (TensorProto.FLOAT, (1, 3, 8, 8))


def make_model(
    nodes: Sequence[NodeProto],
    *,
    inputs: Ends | None = None,
    outputs: Ends | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of `nodes`, from a picture `x` to `y` where nothing else is said."""
    sides = [
        [helper.make_tensor_value_info(name, *kind) for name, kind in ends.items()]
        for ends in (inputs or {"x": PICTURE}, outputs or {"y": PICTURE})
    ]
    weights = [numpy_helper.from_array(v, name) for name, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "hand", *sides, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def found_in(model: onnx.ModelProto, folder: Path) -> tuple[Finding, ...]:
    """What the audit finds in a model, but for the metadata that such a one does not have."""
    path = folder / "hand.onnx"
    path.write_bytes(model.SerializeToString())
    return tuple(found for found in audit(path).findings if found.rule != "metadata")
