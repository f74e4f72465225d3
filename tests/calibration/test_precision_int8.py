from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from mien.calibration.precision_errors import run_model
from mien.calibration.precision_int8 import Rules, alone_model, ends_of, int8_model, layers_of
from mien.calibration.precision_quality import EditQuality
from mien.calibration.precision_verdict import int8_refusal
from tests.calibration import graphs

GOOD = EditQuality(
    frames=60,
    lost=0,
    psnr_db=44.0,
    typical_psnr_db=50.0,
    landmark_shift=0.004,
    edited_shift=0.004,
    calm=1.01,
    named=0.8,
    named_before=0.81,
    same_name=0.97,
)


def chain() -> graphs.Graph:
    nodes = [
        graphs.conv("x", "u", "a"),
        graphs.node("Relu", ["a"], "b"),
        graphs.conv("b", "v", "c"),
        graphs.node("Relu", ["c"], "d"),
        graphs.conv("d", "w", "y"),
    ]
    return graphs.graph(nodes, graphs.weights("u", "v", "w"))


def _zero_points(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The zero point of each Q and DQ, by the node's name."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        node.name: values[node.input[2]]
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }


@pytest.mark.parametrize(("rules", "kind"), [("tensorrt", np.int8), ("cpu", np.uint8)])
def test_each_rule_book_gets_the_activations_it_takes(rules: Rules, kind: type) -> None:
    graph = chain()
    made = int8_model(graph, graphs.feeds(), ends_of(graph), rules)
    onnx.checker.check_model(made, full_check=True)
    assert {o.domain for o in made.opset_import} <= {"", "ai.onnx.ml"}
    assert next(o.version for o in made.opset_import if not o.domain) == 18
    quantised = [n for n in made.graph.node if n.op_type == "QuantizeLinear"]
    zeros = _zero_points(made)
    assert {zeros[node.name].dtype.type for node in quantised} == {kind}
    if rules == "tensorrt":
        assert all(not zero.any() for zero in zeros.values())
        assert TensorProto.INT32 not in {t.data_type for t in made.graph.initializer}


def test_weights_are_quantised_by_output_channel_and_the_ends_are_left_alone() -> None:
    graph = chain()
    assert [node.name for node in layers_of(graph)] == ["a", "c", "y"]
    assert ends_of(graph) == {"a", "y"}
    made = int8_model(graph, graphs.feeds(), ends_of(graph), "tensorrt")
    kinds = {t.name: t for t in made.graph.initializer}
    weights = [t for t in kinds.values() if t.data_type == TensorProto.INT8 and len(t.dims) == 4]
    assert len(weights) == 1
    scales = [t for t in kinds.values() if t.data_type == TensorProto.FLOAT and list(t.dims) == [4]]
    assert len(scales) == 1


def test_an_int8_graph_says_nearly_what_its_source_says() -> None:
    graph, feeds = chain(), graphs.feeds(16)
    expected = run_model(graph.model, feeds)
    made = run_model(int8_model(graph, feeds, (), "tensorrt"), feeds)
    spread = np.std([feed["y"] for feed in expected])
    error = np.std([a["y"] - b["y"] for a, b in zip(expected, made, strict=True)])
    assert 0 < error < 0.03 * spread


def test_a_layer_tried_alone_costs_a_little_and_more_with_too_wide_a_range() -> None:
    graph, feeds = chain(), graphs.feeds()
    plain = run_model(graph.model, feeds)

    def cost(largest: float) -> float:
        found = run_model(alone_model(graph, "c", largest), feeds)
        return float(np.std([a["y"] - b["y"] for a, b in zip(plain, found, strict=True)]))

    assert 0 < cost(3.0) < 0.5 * cost(100.0)


def test_an_edit_as_good_as_before_is_not_refused() -> None:
    assert not int8_refusal(GOOD)


@pytest.mark.parametrize(
    ("worse", "word"),
    [
        ({"lost": 1}, "lost"),
        ({"landmark_shift": 0.02}, "tracked landmarks move by 2.00 %"),
        ({"edited_shift": float("nan")}, "edited face"),
        ({"calm": 1.3}, "shakes 1.30"),
        ({"named": 0.7}, "names 0.70"),
    ],
)
def test_every_loss_is_a_reason_to_refuse_and_told_in_numbers(
    worse: dict[str, float], word: str
) -> None:
    assert word in int8_refusal(replace(GOOD, **worse))


def test_what_no_picture_depends_on_is_refused() -> None:
    assert "nothing says" in int8_refusal(None)


def test_a_graph_can_be_quantised_again_and_again() -> None:
    graph, feeds = chain(), graphs.feeds()
    before = graph.model.SerializeToString()
    first, second = (int8_model(graph, feeds, (), "cpu") for _ in range(2))
    assert graph.model.SerializeToString() == before
    assert first.SerializeToString() == second.SerializeToString()
