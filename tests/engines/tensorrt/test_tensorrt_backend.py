"""The lines of the TensorRT backend, run against stand-ins for the packages it drives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mien.engines import DeviceError, EngineError
from mien.engines.tensorrt.backend import TensorRTBuilder
from mien.engines.tensorrt.builder import (
    BuildOptions,
    BuildProgress,
    BuildRequest,
    PlanRefusedError,
)
from mien.engines.tensorrt.builder import ignore_progress as silent
from tests.engines.tensorrt.stub_tensorrt import Stub
from tests.engines.tiny import tiny_feeds, tiny_function, write_tiny


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    stub.install(monkeypatch)
    return stub


def request(model: bytes, timing: bytes = b"") -> BuildRequest:
    return BuildRequest("tiny", model, BuildOptions(), timing)


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    write_tiny(tmp_path / "tiny.onnx")
    return (tmp_path / "tiny.onnx").read_bytes()


def plan_of(model: bytes) -> bytes:
    return TensorRTBuilder().build(request(model), silent, lambda: False).plan


def test_device_says_what_plans_are_bound_to(stub: Stub) -> None:
    facts = TensorRTBuilder().device()
    assert (facts.tensorrt, facts.cuda_major, facts.sm, facts.gpu) == ("10.3.0", 12, "8.7", "Orin")


def test_a_plan_outlives_a_driver_that_serves_the_same_cuda(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for version in (12020, 12090, 13000):
        driver = sys.modules["pycuda.driver"]
        monkeypatch.setattr(driver, "get_driver_version", lambda version=version: version)
        found[version] = TensorRTBuilder().device().tag
    assert found[12020] == found[12090] != found[13000]


@pytest.mark.parametrize("index", [1, 7])
def test_device_that_does_not_exist_is_one_line(stub: Stub, index: int) -> None:
    with pytest.raises(DeviceError, match=f"there is no CUDA device {index}; this machine has 0"):
        TensorRTBuilder(index)


def test_older_tensorrt_is_refused(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.6.2")
    with pytest.raises(DeviceError, match=r"TensorRT 8\.6\.2 is too old; install 10\.3"):
        TensorRTBuilder()


def test_package_without_its_library_is_one_line(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError, match=r"TensorRT package does not start: .*libnvinfer"):
        TensorRTBuilder()


def test_build_caps_the_workspace_and_tells_how_far_it_is(stub: Stub, model: bytes) -> None:
    told: list[BuildProgress] = []
    built = TensorRTBuilder().build(request(model), told.append, lambda: False)
    assert built.plan.endswith(model)
    assert built.timing_cache == b"t"
    assert "workspace 2048" in stub.calls  # half of the 4 GiB that are free
    shares = [progress.done for progress in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert 0 < shares[0] < 0.5


def test_workspace_is_smaller_where_memory_is_shared(stub: Stub, model: bytes) -> None:
    stub.shared = True
    plan_of(model)
    assert "workspace 1024" in stub.calls


def test_timing_cache_that_tensorrt_refuses_is_begun_again(stub: Stub, model: bytes) -> None:
    kept = TensorRTBuilder().build(request(model, b"kept"), silent, lambda: False)
    assert kept.timing_cache == b"keptt"
    new = TensorRTBuilder().build(request(model, b"mismatch"), silent, lambda: False)
    assert new.timing_cache == b"t"


def test_build_can_be_called_off(stub: Stub, model: bytes) -> None:
    with pytest.raises(EngineError, match="tiny: the build was called off"):
        TensorRTBuilder().build(request(model), silent, lambda: True)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_signal_is_raised_only_when_the_build_has_ended(
    stub: Stub, model: bytes, interrupting: type[BaseException]
) -> None:
    ended = []

    def gave_up() -> bool:
        time.sleep(0.3)  # it is waited for by now
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.3)
        ended.append(True)
        return True

    with pytest.raises(interrupting):
        TensorRTBuilder().build(request(model), silent, gave_up)
    assert ended == [True]


def test_error_of_who_watches_reaches_the_caller_and_not_tensorrt(stub: Stub, model: bytes) -> None:
    def report(_: BuildProgress) -> None:
        raise KeyError("display")

    with pytest.raises(KeyError, match="display"):
        TensorRTBuilder().build(request(model), report, lambda: False)


def test_graph_that_cannot_be_read_is_one_line(stub: Stub) -> None:
    with pytest.raises(EngineError, match="tiny: TensorRT cannot read the graph: ") as error:
        plan_of(b"no graph")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["Builder", "OnnxParser"])
def test_whatever_the_bindings_raise_is_one_line(
    stub: Stub, model: bytes, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("factory function\nreturned nullptr")

    builder = TensorRTBuilder()
    monkeypatch.setattr(sys.modules["tensorrt"], place, broken)
    with pytest.raises(EngineError) as error:
        builder.build(request(model), silent, lambda: False)
    said = "tiny: the build broke off: factory function returned nullptr; use --provider cpu"
    assert str(error.value) == said


def test_bindings_that_cannot_load_a_plan_say_so_in_one_line(
    stub: Stub, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no\nruntime")

    plan, builder = plan_of(model), TensorRTBuilder()
    monkeypatch.setattr(sys.modules["tensorrt"], "Runtime", broken)
    with pytest.raises(DeviceError, match="tensorrt does not start: no runtime; free the device"):
        builder.load(plan)


def test_plan_that_tensorrt_refuses_says_why_in_one_line(stub: Stub) -> None:
    with pytest.raises(PlanRefusedError, match="the version tag does not match"):
        TensorRTBuilder().load(b"other")


@pytest.mark.parametrize("shared", [False, True], ids=["card", "one memory"])
@pytest.mark.parametrize("records", [False, True], ids=["plain", "recorded"])
def test_runs_give_the_networks_results_every_time(
    monkeypatch: pytest.MonkeyPatch, model: bytes, shared: bool, records: bool
) -> None:
    stub = Stub(shared=shared, records=records)
    stub.install(monkeypatch)
    runner = TensorRTBuilder().load(plan_of(model))
    for number in range(4):
        feeds = {**tiny_feeds(), "x": np.full((1, 4), number, np.float32)}
        results = runner.run(feeds)
        for name, expected in tiny_function(feeds).items():
            np.testing.assert_array_equal(results[name], expected)
    runner.close()
    assert stub.depth == 0
    assert stub.alive == 0
    assert stub.graphs == {}
    if records:  # run once, recorded once, then started by one call each
        assert stub.calls.count("enqueue") == 2
        assert stub.calls.count("launch") == 3
    else:
        assert stub.calls.count("enqueue") == 4


def free_model() -> bytes:
    """Twice its input, of any batch."""
    sides = ("n", 4)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def test_change_of_shape_is_recorded_again(stub: Stub) -> None:
    runner = TensorRTBuilder().load(plan_of(free_model()))
    assert runner.inputs[0].shape == (-1, 4)
    for batch in (1, 1, 3, 3, 3, 1):
        x = np.random.default_rng(batch).random((batch, 4), np.float32)
        np.testing.assert_array_equal(runner.run({"x": x})["y"], 2 * x)
    assert stub.calls.count("record") == 3
    assert stub.calls.count("launch") == 3
    with pytest.raises(EngineError, match="does not take x of shape"):
        runner.run({"x": np.zeros((9, 4), np.float32)})
    runner.close()
    assert stub.alive == 0


def test_runs_from_several_threads_do_not_mix(stub: Stub, model: bytes) -> None:
    runner = TensorRTBuilder().load(plan_of(model))
    totals: dict[int, set[float]] = {}

    def work(number: int) -> None:
        feeds = {**tiny_feeds(), "x": np.full((1, 4), number, np.float32)}
        totals[number] = {float(runner.run(feeds)["total"][0, 0]) for _ in range(20)}

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == {number: {2 * number} for number in range(4)}


def test_importing_the_package_imports_neither_tensorrt_nor_pycuda() -> None:
    program = (
        "import sys, mien.engines, mien.engines.tensorrt.backend\n"
        "sys.exit(bool({'tensorrt', 'pycuda', 'onnxruntime'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
