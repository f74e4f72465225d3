"""Graphs of one picture made to take any number at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from mien.calibration.precision.graph import with_free_batch
from mien.engines import Catalog, EngineError, OnnxRuntimeEngine
from mien.engines.network import example_inputs
from mien.engines.networks import LANDMARKS
from tests.engines.tiny import TINY, tiny_feeds, write_tiny


def reshaped(shape: list[int], *, batch: int = 1) -> ModelProto:
    """A graph that puts (batch, 4) into a shape, and back."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["between"], allowzero=1),
        helper.make_node("Reshape", ["between", "flat"], ["y"], allowzero=1),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 4]) for n in "xy")
    shapes = [
        numpy_helper.from_array(np.array(sides), name)
        for name, sides in (("shape", shape), ("flat", [batch, 4]))
    ]
    graph = helper.make_graph(nodes, "reshaped", [x], [y], shapes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def mixing() -> ModelProto:
    """A graph whose answer for one picture depends on the others."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy")
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    axes = [numpy_helper.from_array(np.array([0, 1]), "axes")]
    graph = helper.make_graph(nodes, "mixing", [x], [y], axes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_a_reshape_keeps_the_batch_and_weights_stay() -> None:
    source = reshaped([1, 2, 2])
    freed = with_free_batch(source)
    assert freed is not None
    sides = [v.type.tensor_type.shape.dim[0] for v in (*freed.graph.input, *freed.graph.output)]
    assert {side.dim_param for side in sides} == {"batch"}
    assert source.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


@pytest.mark.parametrize("model", [reshaped([2, 2]), reshaped([4, 2, 1], batch=2), mixing()])
def test_what_holds_its_batch_elsewhere_is_left_as_it_is(model: ModelProto) -> None:
    assert with_free_batch(model) is None


def test_an_engine_runs_several_inputs_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path / "tiny.onnx")
    freed = with_free_batch(onnx.load(str(tmp_path / "tiny.onnx")))
    assert freed is not None
    onnx.save(freed, str(tmp_path / "free.onnx"))
    sizes: list[int] = []
    run = OnnxRuntimeEngine._run

    def counted(engine: OnnxRuntimeEngine, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        sizes.append(len(feeds["x"]))
        return run(engine, feeds)

    monkeypatch.setattr(OnnxRuntimeEngine, "_run", counted)
    for file, expected in (("tiny.onnx", [1, 1, 1]), ("free.onnx", [3])):
        with OnnxRuntimeEngine(tmp_path / file, TINY) as engine:
            engine.infer_each([tiny_feeds()] * 3)
        assert sizes == expected
        sizes.clear()


def test_one_call_still_takes_one_input(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.onnx")
    freed = with_free_batch(onnx.load(str(tmp_path / "tiny.onnx")))
    assert freed is not None
    onnx.save(freed, str(tmp_path / "free.onnx"))
    two = {name: np.concatenate([value, value]) for name, value in tiny_feeds().items()}
    with (
        OnnxRuntimeEngine(tmp_path / "free.onnx", TINY) as engine,
        pytest.raises(EngineError, match=r"received float32 \(2, 4\)"),
    ):
        engine.infer(two)


def test_the_shipped_landmarks_of_several_faces_are_those_of_each() -> None:
    feeds = [example_inputs(LANDMARKS, seed) for seed in range(5)]
    with Catalog.bundled().in_int8().open(LANDMARKS) as engine:
        for feed, found in zip(feeds, engine.infer_each(feeds), strict=True):
            alone = engine.infer(feed)
            for name, values in alone.items():
                np.testing.assert_allclose(found[name], values, atol=2e-3)
