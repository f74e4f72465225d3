"""What calibration writes in FP16, the audit of precision does not fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mien.calibration.audit.examine import audit_model
from mien.calibration.precision.fp16 import half_model, reasons_to_keep
from mien.calibration.precision.graph import Graph, taken_apart
from tests.calibration.graphs import NETWORK, SIDE, conv, node, weights

ONES = np.ones(4, np.float32)
PICTURE = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, SIDE, SIDE))
RESULT = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, SIDE, SIDE))
# Name: the opset, the nodes from the value `a` to the value `n`, their constants.
IN_THE_MIDDLE: dict[str, tuple[int, list[NodeProto], Mapping[str, np.ndarray]]] = {
    "InstanceNormalization": (
        18, [node("InstanceNormalization", ["a", "g", "b"], "n")], {"g": ONES, "b": ONES}
    ),
    "GroupNormalization": (
        21, [node("GroupNormalization", ["a", "g", "b"], "n", num_groups=2)], {"g": ONES, "b": ONES}
    ),
    "LayerNormalization": (
        18, [node("LayerNormalization", ["a", "g"], "n")], {"g": np.ones(SIDE, np.float32)}
    ),
    "RMSNormalization": (
        23, [node("RMSNormalization", ["a", "g"], "n")], {"g": np.ones(SIDE, np.float32)}
    ),
    "LpNormalization": (18, [node("LpNormalization", ["a"], "n", axis=1)], {}),
    "LRN": (18, [node("LRN", ["a"], "n", size=3)], {}),
    "ReduceL2": (18, [node("ReduceL2", ["a"], "n")], {}),
    "ReduceSumSquare": (18, [node("ReduceSumSquare", ["a"], "n")], {}),
    "ReduceLogSumExp": (18, [node("ReduceLogSumExp", ["a"], "n")], {}),
    "mean of squares": (18, [node("Mul", ["a", "a"], "s"), node("ReduceMean", ["s"], "n")], {}),
    "pool of squares": (
        18, [node("Mul", ["a", "a"], "s"), node("GlobalAveragePool", ["s"], "n")], {}
    ),
    "Softmax": (18, [node("Softmax", ["a"], "n")], {}),
    "LogSoftmax": (18, [node("LogSoftmax", ["a"], "n")], {}),
}  # fmt: skip


def around(name: str) -> Graph:
    """The nodes between two convolutions, so that they do not stay single as the last ones."""
    opset, middle, constants = IN_THE_MIDDLE[name]
    nodes = [conv("x", "w", "a"), *middle, node("Add", ["a", "n"], "m"), conv("m", "v", "y")]
    held = weights("w", "v") | dict(constants)
    tensors = [numpy_helper.from_array(value, key) for key, value in held.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "tiny", [PICTURE], [RESULT], tensors),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    helper.set_model_props(made, NETWORK.metadata())
    return taken_apart(made, Path("tiny.onnx"))


def faults(model: onnx.ModelProto) -> list[str]:
    return [found.text for found in audit_model(model) if found.rule == "precision"]


@pytest.mark.parametrize("name", IN_THE_MIDDLE)
def test_the_audit_has_no_fault_with_what_calibration_keeps_single(name: str) -> None:
    graph = around(name)
    assert faults(half_model(graph, ()))  # all of it in FP16
    kept = reasons_to_keep(graph, NETWORK, {})
    assert not {"a", "y"} & kept.keys()  # the convolutions are halved
    assert faults(half_model(graph, kept.keys())) == []
