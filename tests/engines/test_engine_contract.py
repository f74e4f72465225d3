"""What every backend promises. A backend is added to BACKENDS and passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.engines import Engine, EngineError, FakeEngine, OnnxRuntimeEngine
from mien.engines.opening import LazyEngine
from mien.engines.ort.backend import DeviceBinding
from mien.engines.tensorrt.backend import TensorRTBuilder
from mien.engines.tensorrt.engine import PlanModel, PlanSource
from mien.engines.tensorrt.plans import BuildWatch, PlanCache
from tests.engines.tensorrt.fake_builder import FakePlanBuilder
from tests.engines.tensorrt.stub_tensorrt import Stub
from tests.engines.tiny import TINY, tiny_feeds, tiny_function, write_tiny


def _fake(_folder: Path, _patch: pytest.MonkeyPatch) -> Engine:
    return FakeEngine(TINY, tiny_function)


def _onnx_runtime(folder: Path, _patch: pytest.MonkeyPatch) -> Engine:
    write_tiny(folder / "tiny.onnx")
    return OnnxRuntimeEngine(folder / "tiny.onnx", TINY)


def _bound(folder: Path, patch: pytest.MonkeyPatch) -> Engine:
    """ONNX Runtime with bound tensors, as on a device; here the processor is the device."""
    patch.setattr(
        "mien.engines.ort.backend._bind",
        lambda session, network: DeviceBinding(session, network, device="cpu"),
    )
    return _onnx_runtime(folder, patch)


def _plan(folder: Path, _patch: pytest.MonkeyPatch) -> Engine:
    write_tiny(folder / "tiny.onnx")
    source = PlanSource(FakePlanBuilder(function=tiny_function), PlanCache(folder / "plans"))
    return source.open(PlanModel.read(folder / "tiny.onnx", TINY))


def _tensorrt(folder: Path, patch: pytest.MonkeyPatch) -> Engine:
    """The backend's own lines, with stand-ins for the packages it drives."""
    Stub().install(patch)
    write_tiny(folder / "tiny.onnx")
    source = PlanSource(TensorRTBuilder(), PlanCache(folder / "plans"))
    return source.open(PlanModel.read(folder / "tiny.onnx", TINY))


def _on_fallback(folder: Path, patch: pytest.MonkeyPatch) -> Engine:
    """A lazy engine that runs on its fallback for the whole test."""
    return LazyEngine(_fake(folder, patch), lambda gave_up: _never(folder, gave_up))


def _never(folder: Path, gave_up: Callable[[], bool]) -> Engine:
    write_tiny(folder / "tiny.onnx")
    source = PlanSource(FakePlanBuilder(build_s=600), PlanCache(folder / "plans"))
    watch = BuildWatch(gave_up=gave_up)
    return source.open(PlanModel.read(folder / "tiny.onnx", TINY), watch)


def _swapped(folder: Path, patch: pytest.MonkeyPatch) -> Engine:
    """A lazy engine whose plan is there."""
    zeros = FakeEngine(TINY, lambda feeds: {n: 0 * a for n, a in tiny_function(feeds).items()})
    engine = LazyEngine(zeros, lambda _: _plan(folder, patch))
    assert engine.wait(60)
    return engine


BACKENDS: dict[str, Callable[[Path, pytest.MonkeyPatch], Engine]] = {
    "fake": _fake,
    "onnxruntime": _onnx_runtime,
    "onnxruntime, bound": _bound,
    "plan": _plan,
    "tensorrt, stand-ins": _tensorrt,
    "lazy, on its fallback": _on_fallback,
    "lazy, built": _swapped,
}

# What is changed in good inputs (None: left out), and what the message says of it.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": (
        {"x": None, "scale": None},
        "received inputs none, expected 'x', 'scale'; add 'x', 'scale'",
    ),
    "missing": ({"scale": None}, "received inputs 'x', expected 'x', 'scale'; add 'scale'$"),
    "wrong name": (
        {"scale": None, "scal": np.ones((1, 1), np.float32)},
        "add 'scale' and leave out 'scal'$",
    ),
    "extra": ({"more": np.ones((1, 1), np.float32)}, "leave out 'more'"),
    "dtype": (
        {"x": np.zeros((1, 4))},
        r"input 'x': received float64 \(1, 4\), expected float32 \(1, 4\); .*astype\(np.float32\)",
    ),
    "shape": (
        {"x": np.zeros((1, 5), np.float32)},
        r"input 'x': received float32 \(1, 5\), expected float32 \(1, 4\)",
    ),
    "rank": ({"x": np.zeros(4, np.float32)}, r"received float32 \(4,\)"),
    "batch": ({"x": np.zeros((2, 4), np.float32)}, r"received float32 \(2, 4\)"),
    "not an array": ({"x": [[1.0, 2.0, 3.0, 4.0]]}, "received list, .* np.asarray"),
}


@pytest.fixture(params=BACKENDS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    with BACKENDS[request.param](tmp_path, monkeypatch) as opened:
        yield opened


def test_infer_gives_the_declared_outputs(engine: Engine) -> None:
    results = engine.infer(tiny_feeds())
    assert list(results) == ["scaled", "total"]
    np.testing.assert_array_equal(results["scaled"], [[0.5, 1, 1.5, 2]])
    np.testing.assert_array_equal(results["total"], [[5]])
    assert {array.dtype for array in results.values()} == {np.dtype(np.float32)}


def test_engine_says_what_it_runs_and_on_what(engine: Engine) -> None:
    assert engine.network == TINY
    engine.infer(tiny_feeds())
    assert engine.provider in ("fake", "cpu", "fake-plan", "tensorrt")


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_wrong_inputs_say_received_expected_and_the_fix(
    engine: Engine, change: tuple[dict[str, Any], str]
) -> None:
    changed, message = change
    feeds: dict[str, Any] = {**tiny_feeds(), **changed}
    given = {name: value for name, value in feeds.items() if value is not None}
    with pytest.raises(EngineError, match=message) as error:
        engine.infer(given)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("tiny: ")


def test_inputs_are_not_written_to_and_may_be_read_only_or_strided(engine: Engine) -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 8)[:, ::2]
    x.flags.writeable = False
    scale = np.full((1, 1), 2, np.float32)
    scale.flags.writeable = False
    results = engine.infer({"x": x, "scale": scale})
    np.testing.assert_array_equal(results["scaled"], [[0, 4, 8, 12]])
    np.testing.assert_array_equal(x, [[0, 2, 4, 6]])


def test_results_of_one_call_survive_the_next(engine: Engine) -> None:
    first = engine.infer(tiny_feeds())["scaled"]
    engine.infer({**tiny_feeds(), "scale": np.zeros((1, 1), np.float32)})
    np.testing.assert_array_equal(first, [[0.5, 1, 1.5, 2]])


@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply")
def test_output_that_is_not_finite_is_an_error(engine: Engine) -> None:
    feeds = {"x": np.full((1, 4), np.inf, np.float32), "scale": np.zeros((1, 1), np.float32)}
    with pytest.raises(EngineError, match="output 'scaled' holds NaN or infinity"):
        engine.infer(feeds)


def test_closed_engine_refuses_to_run_and_closes_twice(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="after close"):
        engine.infer(tiny_feeds())


def test_leaving_the_context_closes(engine: Engine) -> None:
    with engine as entered:
        assert entered is engine
    with pytest.raises(EngineError, match="after close"):
        engine.infer(tiny_feeds())


def test_several_inputs_are_answered_each_as_alone(engine: Engine) -> None:
    feeds = [{**tiny_feeds(), "scale": np.full((1, 1), scale, np.float32)} for scale in (0.5, 1, 2)]
    found = engine.infer_each(feeds)
    assert len(found) == len(feeds)
    for feed, received in zip(feeds, found, strict=True):
        expected = tiny_function(feed)
        assert received.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(received[name], values, rtol=1e-6)
    assert engine.infer_each([]) == []
    with pytest.raises(EngineError, match=r"tiny: .*'scale'"):
        engine.infer_each([tiny_feeds(), {"x": tiny_feeds()["x"]}])
