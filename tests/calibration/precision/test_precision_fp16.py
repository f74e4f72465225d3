from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mien.calibration.precision.fp16 import fake_quantised_model, half_model, reasons_to_keep
from mien.calibration.precision.graph import read_graph
from mien.calibration.precision.quality import largest_values, run_model
from mien.calibration.precision.search import Search
from mien.engines.catalog import Catalog
from mien.engines.errors import ModelError
from tests.calibration import graphs


def _by_name(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {node.name: node for node in model.graph.node}


def _types(model: onnx.ModelProto) -> dict[str, int]:
    known = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return known | {value.name: value.type.tensor_type.elem_type for value in values}


def warped() -> onnx.ModelProto:
    """Two convolutions, a warp of the input by a grid that they make, and a sum."""
    grid = np.zeros((2, 4, 1, 1), np.float32)
    nodes = [
        graphs.conv("x", "w", "a"),
        graphs.node("Relu", ["a"], "b"),
        graphs.node("Conv", ["b", "g"], "c"),
        graphs.node("Transpose", ["c"], "grid", perm=[0, 2, 3, 1]),
        graphs.node("GridSample", ["x", "grid"], "moved", mode="bilinear"),
        graphs.node("Add", ["moved", "b"], "y"),
    ]
    return graphs.model(nodes, graphs.weights("w") | {"g": grid})


def test_a_halved_graph_keeps_its_inputs_and_outputs_and_the_nodes_that_are_to_stay() -> None:
    graph = graphs.taken_apart(warped(), Path("warped.onnx"))
    made = half_model(graph, {"moved"})
    onnx.checker.check_model(made, full_check=True)
    types, nodes = _types(made), _by_name(made)
    assert types["x"] == types["y"] == TensorProto.FLOAT
    assert {types[name] for name in nodes["a"].input} == {TensorProto.FLOAT16}
    # The picture that is sampled is the input itself, not a rounded one.
    assert nodes["moved"].input[0] == "x"
    assert {types[name] for name in nodes["moved"].input} == {TensorProto.FLOAT}
    assert all(types[name] for node in made.graph.node for name in node.output)
    assert {p.key: p.value for p in made.metadata_props} == graph.metadata


def test_weights_that_both_precisions_need_are_there_twice_and_others_once() -> None:
    nodes = [graphs.conv("x", "w", "a"), graphs.conv("a", "w", "b"), graphs.conv("b", "v", "y")]
    graph = graphs.graph(nodes, graphs.weights("w", "v"))
    made = half_model(graph, {"b"})
    kinds = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    assert kinds == {"w.half": half, "w": single, "v.half": half}


def test_the_scales_of_a_resize_stay_single() -> None:
    nodes = [
        graphs.node("Resize", ["x", "", "scales"], "big", mode="nearest"),
        graphs.node("MaxPool", ["big"], "y", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    graph = graphs.graph(nodes, {"scales": np.array([1, 1, 2, 2], np.float32)})
    made = half_model(graph, ())
    types = _types(made)
    assert [types[name] for name in _by_name(made)["big"].input if name] == [
        TensorProto.FLOAT16,
        TensorProto.FLOAT,
    ]


def test_a_fake_quantised_graph_rounds_what_the_halved_graph_halves_and_nothing_else() -> None:
    graph = graphs.graph(
        [graphs.conv("x", "w", "a"), graphs.conv("a", "v", "y")], graphs.weights("w", "v")
    )
    feed = graphs.feeds(1)
    plain = run_model(graph.model, feed)[0]["y"]
    np.testing.assert_array_equal(
        run_model(fake_quantised_model(graph, {"a", "y"}), feed)[0]["y"], plain
    )
    rounded = run_model(fake_quantised_model(graph, ()), feed)[0]["y"]
    assert np.array_equal(rounded, rounded.astype(np.float16).astype(np.float32))
    assert 0 < np.abs(rounded - plain).max() < 0.01
    only_last = run_model(fake_quantised_model(graph, {"a"}), feed)[0]["y"]
    assert not np.array_equal(only_last, rounded)


def _reasons(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> dict[str, str]:
    graph = graphs.graph(nodes, weights)
    return reasons_to_keep(graph, graphs.NETWORK, largest_values(graph, graphs.feeds()))


def test_a_normalisation_spelt_out_stays_single_up_to_its_division() -> None:
    nodes = [
        graphs.conv("x", "w", "a"),
        graphs.node("ReduceMean", ["a", "axes"], "mean", keepdims=1),
        graphs.node("Sub", ["a", "mean"], "centred"),
        graphs.node("Mul", ["centred", "centred"], "square"),
        graphs.node("ReduceMean", ["square", "axes"], "variance", keepdims=1),
        graphs.node("Add", ["variance", "epsilon"], "kept_off_zero"),
        graphs.node("Sqrt", ["kept_off_zero"], "deviation"),
        graphs.node("Div", ["centred", "deviation"], "normal"),
        graphs.node("Mul", ["normal", "gamma"], "scaled"),
        graphs.conv("scaled", "w", "y"),
    ]
    constants = {
        "axes": np.array([2, 3], np.int64),
        "epsilon": np.array(1e-5, np.float32),
        "gamma": np.ones((4, 1, 1), np.float32),
    }
    kept = _reasons(nodes, graphs.weights("w") | constants)
    single = {"mean", "centred", "square", "variance", "kept_off_zero", "deviation", "normal"}
    assert kept.keys() == single


@pytest.mark.parametrize(
    ("middle", "constants"),
    [
        (["InstanceNormalization", "a", "one", "one"], {"one": np.ones(4, np.float32)}),
        (["Add", "a", "tiny"], {"tiny": np.array(1e-8, np.float32)}),
        (["Mul", "a", "huge"], {"huge": np.full((1, 4, 1, 1), 1e5, np.float32)}),
        (["Softmax", "a"], {}),
        (["Exp", "a"], {}),
    ],
    ids=["normalisation", "epsilon", "too large a constant", "softmax", "exponential"],
)
def test_what_half_precision_cannot_hold_stays_single(
    middle: list[str], constants: dict[str, np.ndarray]
) -> None:
    kind, *inputs = middle
    nodes = [
        graphs.conv("x", "w", "a"),
        graphs.node(kind, inputs, "m"),
        graphs.conv("m", "w", "y"),
    ]
    kept = _reasons(nodes, graphs.weights("w") | constants)
    assert "m" in kept
    assert "a" not in kept


def test_values_that_grow_large_on_real_inputs_keep_their_nodes_single() -> None:
    factor = {"factor": np.full((1, 4, 1, 1), 60000, np.float32)}
    nodes = [
        graphs.conv("x", "w", "a"),
        graphs.node("Mul", ["a", "factor"], "m"),
        graphs.conv("m", "w", "y"),
    ]
    kept = _reasons(nodes, graphs.weights("w") | factor)
    assert kept["m"].startswith("values up to")


def test_the_search_finds_the_nodes_to_blame() -> None:
    nodes = [
        graphs.conv("x", "w", "a"),
        graphs.node("Add", ["a", "far"], "there"),
        graphs.node("Sub", ["there", "far"], "back"),
        graphs.conv("back", "v", "y"),
    ]
    far = {"far": np.full((1, 4, 1, 1), 1000, np.float32)}
    graph = graphs.graph(nodes, graphs.weights("w", "v") | far)
    search = Search(graph, graphs.NETWORK, graphs.feeds())
    assert search.measured({}).worst > 0.05
    plan = search.settle({}, 5e-3)
    assert plan.worst <= 5e-3
    assert "there" in plan.kept
    assert not {"a", "y"} & plan.kept.keys()
    assert plan.kept["there"].startswith("found by trying")


def test_constants_of_every_spelling_become_weights(tmp_path: Path) -> None:
    kernel = graphs.weights("w")["w"].astype(np.float16)
    one = helper.make_node("Constant", [], ["one"], value_float=1.0)
    nodes = [
        one,
        helper.make_node("Cast", ["w.half"], ["w"], to=TensorProto.FLOAT),
        graphs.conv("x", "w", "a"),
        graphs.node("Add", ["a", "one"], "y"),
    ]
    onnx.save(graphs.model(nodes, {"w.half": kernel}), tmp_path / "tiny.onnx")
    graph = read_graph(tmp_path / "tiny.onnx")
    assert [node.op_type for node in graph.nodes] == ["Conv", "Add"]
    assert graph.weights.keys() == {"w", "one"}
    assert graph.weights["w"].dtype == np.float32


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    model = graphs.model([graphs.conv("x", "w", "y")], graphs.weights("w"))
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../w.data")
    (tmp_path / "tiny.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files"):
        read_graph(tmp_path / "tiny.onnx")


def test_what_is_no_graph_in_single_precision_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    with pytest.raises(ModelError, match="cannot read "):
        read_graph(path)
    path.write_bytes(b"\x08\x0a\xff\xff\xff")
    with pytest.raises(ModelError, match="is no ONNX file"):
        read_graph(path)
    source = graphs.graph([graphs.conv("x", "w", "y")], graphs.weights("w"))
    onnx.save(half_model(source, ()), path)
    with pytest.raises(ModelError, match="in FP16 or INT8 already"):
        read_graph(path)


def test_a_file_whose_weights_are_cast_on_loading_says_the_same_when_taken_apart() -> None:
    path = Catalog.bundled().entry("judge").path
    graph = read_graph(path)
    assert not any(node.op_type == "Cast" for node in graph.nodes)
    feed = [{"face": np.random.default_rng(1).random((1, 1, 48, 48), np.float32)}]
    np.testing.assert_allclose(
        run_model(graph.model, feed)[0]["probabilities"],
        run_model(onnx.load(str(path)), feed)[0]["probabilities"],
        atol=1e-6,
    )


def test_no_half_value_is_left_without_a_type_in_a_shipped_graph() -> None:
    graph = read_graph(Catalog.bundled().entry("detector").path)
    made = half_model(graph, ())
    types = _types(made)
    assert all(types.get(name) for node in made.graph.node for name in node.output)
