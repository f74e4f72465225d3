from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.calibration.precision.graph import Graph, read_graph, taken_apart, without_unshuffles
from mien.calibration.precision.quality import run_model
from mien.engines.catalog import Catalog

COLUMNS_FIRST = [0, 1, 5, 3, 2, 4]


def unshuffled(kernel: int, *, perm: list[int] | None = None, **attributes: object) -> Graph:
    """Two channels (8, 8), unshuffled by two, and a convolution of what that gives."""
    weights = {
        "split": np.array([1, 2, 4, 2, 4, 2]),
        "joined": np.array([1, 8, 4, 4]),
        "w": np.random.default_rng(3).normal(size=(3, 8, kernel, kernel)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"], name="a"),
        helper.make_node("Transpose", ["a"], ["b"], name="b", perm=perm or [0, 1, 3, 5, 2, 4]),
        helper.make_node("Reshape", ["b", "joined"], ["c"], name="c"),
        helper.make_node("Conv", ["c", "w"], ["y"], name="conv", **attributes),
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 2, 8, 8]), ("y", [1, 3, None, None]))
    ]
    made = helper.make_graph(nodes, "small", ends[:1], ends[1:], stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return taken_apart(model, Path("small.onnx"))


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [(1, {}), (3, {"pads": [1, 1, 1, 1]}), (3, {"strides": [2, 1], "pads": [0, 1, 2, 1]})],
)
def test_an_unshuffle_and_its_convolution_become_one_with_the_same_result(
    kernel: int, attributes: dict[str, object]
) -> None:
    graph = unshuffled(kernel, **attributes)
    made = without_unshuffles(graph)
    assert [node.name for node in made.nodes] == ["conv"]
    feed = [{"x": np.random.default_rng(4).normal(size=(1, 2, 8, 8)).astype(np.float32)}]
    before, after = (run_model(g.model, feed)[0]["y"] for g in (graph, made))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_other_orders_and_paddings_stay_as_they_are() -> None:
    for graph in (
        unshuffled(1, perm=COLUMNS_FIRST),
        unshuffled(1, auto_pad="SAME_UPPER"),
    ):
        assert len(without_unshuffles(graph).nodes) == 4


def test_a_shipped_graph_says_the_same_without_its_unshuffles() -> None:
    graph = read_graph(Catalog.bundled().entry("landmarks").path)
    made = without_unshuffles(graph)
    kinds = [[node.op_type for node in g.nodes].count("Transpose") for g in (graph, made)]
    assert kinds == [3, 0]
    feed = [{"face": np.random.default_rng(1).random((1, 1, 112, 112), np.float32)}]
    before, after = (run_model(g.model, feed)[0] for g in (graph, made))
    np.testing.assert_allclose(after["landmarks"], before["landmarks"], atol=1e-5)
