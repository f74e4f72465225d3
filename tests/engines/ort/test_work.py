from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mien.apps.bench.networks import PRODUCTS, measure_peak, products_model
from mien.engines.network import Network, TensorSpec
from mien.engines.ort.work import work_of


def write(path: Path, nodes: list[onnx.NodeProto], network: Network, **weights: np.ndarray) -> Path:
    sides = [
        [helper.make_tensor_value_info(s.name, 1, s.shape) for s in specs]
        for specs in (network.inputs, network.outputs)
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", *sides, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_work_counts_two_operations_for_each_multiply_accumulate(tmp_path: Path) -> None:
    network = Network("tiny", (TensorSpec("x", (1, 4, 8, 8)),), (TensorSpec("y", (1, 10)),))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Gemm", ["c", "g"], ["y"]),
    ]
    weights = {
        "w": np.ones((6, 4, 3, 3), np.float32),
        "shape": np.array([1, 384]),
        "g": np.ones((384, 10), np.float32),
    }
    work = work_of(write(tmp_path / "tiny.onnx", nodes, network, **weights), network)
    convolution, relu, product = 2 * 6 * 64 * 4 * 9, 384, 2 * 384 * 10
    assert work.operations == convolution + relu + product
    least = 4 * (256 + 216 + 384 + 384 + 384 + 384 + 3840 + 10)
    assert least <= work.bytes_moved <= 2 * least


def test_the_products_are_a_valid_graph_that_multiplies() -> None:
    model = onnx.load_from_string(products_model(300))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul"] * PRODUCTS
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [300] * 2


def test_a_peak_is_measured_and_an_unknown_provider_refused() -> None:
    from mien.engines import DeviceError

    peak = measure_peak("cpu")
    assert peak.operations_s > 0
    assert peak.bytes_s
    with pytest.raises(DeviceError, match="abacus"):
        measure_peak("abacus")
