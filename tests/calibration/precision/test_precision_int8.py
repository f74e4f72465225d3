from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from mien.calibration.precision.int8 import alone_model, count_int8, int8_model
from mien.calibration.precision.places import Rules, ends_of, layers_of, places_of
from mien.calibration.precision.quality import EditQuality, int8_refusal, run_model
from mien.engines.errors import ModelError
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


def test_weights_are_quantised_by_output_channel_and_the_ends_are_left_unchanged() -> None:
    graph = chain()
    assert [node.name for node in layers_of(graph, "tensorrt")] == ["a", "c", "y"]
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


def gated() -> graphs.Graph:
    """Convolutions with a residual sum, a gate, and a concatenation between them."""
    nodes = [
        graphs.conv("x", "u", "first"),
        graphs.node("Relu", ["first"], "first_relu"),
        graphs.conv("first_relu", "v", "a"),
        graphs.node("Relu", ["a"], "a_relu"),
        graphs.conv("a_relu", "v", "b"),
        graphs.node("Add", ["a_relu", "b"], "sum"),
        graphs.conv("sum", "v", "c"),
        graphs.node("Sigmoid", ["c"], "gate"),
        graphs.node("Mul", ["c", "gate"], "gated"),
        graphs.node("Add", ["gated", "shift"], "shifted"),
        graphs.node("MaxPool", ["sum"], "moved", kernel_shape=[1, 1]),
        graphs.node("MaxPool", ["shifted"], "moved_in_fp32", kernel_shape=[1, 1]),
        graphs.node("Concat", ["moved", "moved_in_fp32"], "both", axis=1),
        graphs.conv("both", "wide", "d"),
        graphs.conv("d", "w", "y"),
    ]
    rng = np.random.default_rng(8)
    more = {
        "shift": rng.normal(size=(1, 4, 1, 1)).astype(np.float32),
        "wide": rng.normal(0, 0.2, (4, 8, 3, 3)).astype(np.float32),
    }
    return graphs.graph(nodes, graphs.weights("u", "v", "w") | more)


def test_on_a_processor_layers_and_what_moves_or_sums_their_results_are_in_int8() -> None:
    graph = gated()
    places = places_of(graph, ends_of(graph), "cpu")
    assert places == {"a", "a_relu", "b", "sum", "c", "moved", "both", "d"}
    # With one of its operands in FP32, the sum is in FP32 too.
    assert "sum" not in places_of(graph, {*ends_of(graph), "b"}, "cpu")
    made = int8_model(graph, graphs.feeds(), ends_of(graph), "cpu")
    count = count_int8(made, graph, "cpu")
    assert (count.layers, count.of_layers) == (4, 6)
    assert count.others in (3, 4)  # ONNX Runtime may draw the Q before moved_in_fp32
    assert count.share == pytest.approx(5 / 7)
    assert "ONNX Runtime" in count.how


def test_for_tensorrt_only_what_goes_into_layers_is_rounded() -> None:
    graph = gated()
    made = int8_model(graph, graphs.feeds(), ends_of(graph), "tensorrt")
    makers = {name: node for node in made.graph.node for name in node.output}
    takers = {name: node for node in made.graph.node for name in node.input}
    rounded = {n.input[0] for n in made.graph.node if n.op_type == "QuantizeLinear"}
    assert rounded == {"first_relu", "a_relu", "sum", "both"}
    # A layer and what follows it are joined only where no Q stands between them.
    assert takers["a"].op_type == "Relu"
    assert makers[takers["c"].input[0]].op_type == "Conv"
    assert count_int8(made, graph, "tensorrt").layers == 4


def test_pairs_that_no_kernel_takes_are_not_counted_as_int8() -> None:
    graph = gated()
    made = int8_model(graph, graphs.feeds(), ends_of(graph), "tensorrt")
    assert count_int8(made, graph, "cpu").layers == 0


def test_a_graph_without_a_layer_to_round_is_refused() -> None:
    graph = graphs.graph([graphs.conv("x", "w", "y")], graphs.weights("w"))
    with pytest.raises(ModelError, match="no layer of it is left for INT8"):
        int8_model(graph, graphs.feeds(), ends_of(graph), "cpu")
