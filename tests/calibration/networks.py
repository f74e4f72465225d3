"""Networks small enough to write by hand, for the tests of the measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.engines import Network
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES, FER_SIZE

FEATURES = 3  # of the classifier: the mean brightness of each third of the face, from the top


def write_classifier(path: Path) -> Path:
    """A classifier that names bright faces happy, dark ones sad and others neutral."""
    weight = np.zeros((FEATURES, len(FER_CLASSES)), np.float32)
    bias = np.zeros(len(FER_CLASSES), np.float32)
    weight[:, FER_CLASSES.index("happy")], bias[FER_CLASSES.index("happy")] = 4, -7
    weight[:, FER_CLASSES.index("sad")], bias[FER_CLASSES.index("sad")] = -4, 4
    thirds = np.array([1, FEATURES, FER_SIZE * FER_SIZE // FEATURES], np.int64)
    nodes = [
        helper.make_node("Reshape", ["face", "thirds"], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "last"], ["seen"], keepdims=0),
        helper.make_node("Gemm", ["seen", "weight", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"thirds": thirds, "last": np.array([2]), "weight": weight, "bias": bias}
    return write_network(path, EMOTION_CLASSIFIER, nodes, constants)


def write_network(
    path: Path,
    network: Network,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    facts: dict[str, str] | None = None,
) -> Path:
    """A graph of `nodes` that states it is `network`, and `facts`."""
    model = _model(
        nodes,
        [_value(spec.name, spec.shape) for spec in network.inputs],
        [_value(spec.name, spec.shape) for spec in network.outputs],
        constants,
    )
    helper.set_model_props(model, network.metadata() | (facts or {}))
    path.write_bytes(model.SerializeToString())
    return path


def write_inception(
    path: Path,
    *,
    shape: tuple[int | str, ...] = ("N", 3, 16, 12),
    features: int = 2048,
    facts: dict[str, str] | None = None,
) -> Path:
    """A network whose features are all the mean of its picture."""
    nodes = [
        helper.make_node("ReduceMean", ["pictures", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("MatMul", ["column", "ones"], ["pool"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3]),
        "one": np.array([1]),
        "ones": np.ones((1, features), np.float32),
    }
    inputs = [_value("pictures", shape)]
    model = _model(nodes, inputs, [_value("pool", (shape[0], features))], constants)
    helper.set_model_props(model, facts or {})
    path.write_bytes(model.SerializeToString())
    return path


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _value(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
