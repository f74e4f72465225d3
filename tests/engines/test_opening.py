"""Which backend runs what, for the provider that was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mien.engines import DeviceError, EngineError, FakeEngine, ModelError
from mien.engines.opening import GaveUp, LazyEngine, open_engine, open_plan
from mien.engines.ort.providers import Provider, install_line, split_device
from mien.engines.tensorrt.builder import BuildRequest, BuiltPlan, Report
from mien.engines.tensorrt.engine import PlanEngine, PlanModel, PlanSource
from mien.engines.tensorrt.plans import BuildWatch, PlanCache
from tests.engines.tensorrt.fake_builder import FakePlanBuilder
from tests.engines.tensorrt.stub_tensorrt import Stub
from tests.engines.tiny import TINY, tiny_feeds, tiny_function, write_tiny


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


@pytest.fixture
def source() -> PlanSource:
    return PlanSource(FakePlanBuilder(function=tiny_function), PlanCache())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cpu", ("cpu", 0)), ("CUDA:1", ("cuda", 1)), ("tensorrt:0", ("tensorrt", 0))],
)
def test_provider_may_name_a_device(text: str, expected: tuple[str, int]) -> None:
    assert split_device(text) == expected


@pytest.mark.parametrize("text", ["cuda:", "cuda:x", "cuda:-1", "cuda:1234", "cpu:1", "auto:0"])
def test_device_that_makes_no_sense_is_one_line(text: str) -> None:
    with pytest.raises(DeviceError, match=r"must be a number|has no numbered devices"):
        split_device(text)


def test_tensorrt_without_its_packages_says_what_is_missing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(DeviceError, match=r"not installed: it takes tensorrt .* and pycuda .*\)$"):
        open_engine(file, TINY, provider="tensorrt")


@pytest.mark.parametrize(
    ("provider", "system", "machine", "line"),
    [
        (
            Provider.CUDA,
            "linux",
            "x86_64",
            (
                "pip uninstall -y onnxruntime onnxruntime-gpu && "
                "pip install 'onnxruntime-gpu>=1.20,<1.33'"
            ),
        ),
        (
            Provider.DIRECTML,
            "win32",
            "ARM64",
            (
                "pip uninstall -y onnxruntime onnxruntime-directml && "
                "pip install 'onnxruntime-directml>=1.18,<1.33'"
            ),
        ),
        (
            Provider.CPU,
            "linux",
            "riscv64",
            "pip uninstall -y onnxruntime && pip install 'onnxruntime>=1.18,<1.33'",
        ),
        (
            Provider.COREML,
            "darwin",
            "arm64",
            "pip uninstall -y onnxruntime && pip install 'onnxruntime>=1.18,<1.33'",
        ),
    ],
    ids=lambda value: str(value)[:12],
)
def test_line_that_brings_a_provider_removes_the_other_wheel_of_the_same_files(
    provider: Provider, system: str, machine: str, line: str
) -> None:
    assert install_line(provider, system, machine) == line


@pytest.mark.parametrize(
    ("provider", "system", "machine"),
    [
        (Provider.CUDA, "linux", "aarch64"),
        (Provider.CUDA, "darwin", "arm64"),
        (Provider.COREML, "linux", "x86_64"),
        (Provider.DIRECTML, "linux", "x86_64"),
    ],
)
def test_provider_that_no_wheel_brings_here_names_no_wheel(
    provider: Provider, system: str, machine: str
) -> None:
    assert "pip" not in install_line(provider, system, machine)


def test_tensorrt_is_onnx_runtimes_where_only_that_is_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    built_in = ["TensorrtExecutionProvider", "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built_in)
    # It is built in by what it says, and its library is not there.
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, **_: session(model, options, providers=built_in[1:]),
    )
    with pytest.raises(DeviceError, match="the provider 'tensorrt' does not start"):
        open_engine(file, TINY, provider="tensorrt")


def test_tensorrt_is_miens_own_where_its_packages_are_there(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Stub().install(monkeypatch)
    with open_engine(file, TINY, provider="tensorrt") as engine:
        assert isinstance(engine, LazyEngine)
        assert engine.wait(60)
        assert engine.infer(tiny_feeds())["total"] == 5
        assert engine.provider == "tensorrt"
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("tiny: there is no tensorrt plan yet; cpu runs the frames")
    with open_engine(file, TINY, provider="tensorrt") as engine:
        assert isinstance(engine, PlanEngine)
        assert engine.infer(tiny_feeds())["total"] == 5


def test_device_of_tensorrt_that_does_not_exist_is_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stub(devices=2).install(monkeypatch)
    with pytest.raises(DeviceError, match="there is no CUDA device 5; this machine has 0 to 1"):
        open_engine(file, TINY, provider="tensorrt:5")


def test_auto_takes_tensorrt_where_its_plan_is_built_and_else_says_how(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Stub().install(monkeypatch)
    with open_engine(file, TINY, provider="auto") as engine:
        assert engine.provider == "cpu"
    assert "tiny: run mien build, and auto takes TensorRT" in caplog.text
    with open_engine(file, TINY, provider="tensorrt") as engine:
        assert isinstance(engine, LazyEngine)
        assert engine.wait(60)
    with open_engine(file, TINY, provider="auto") as engine:
        assert engine.provider == "tensorrt"


def test_auto_goes_on_where_tensorrt_does_not_work(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Stub(devices=0).install(monkeypatch)
    with open_engine(file, TINY, provider="auto") as engine:
        assert engine.provider == "cpu"
    assert "TensorRT does not work: there is no CUDA device 0" in caplog.text


def test_missing_onnx_runtime_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=r"ONNX Runtime does not start: .*pip install"):
        open_engine(file, TINY, provider="cpu")


def test_plans_run_with_onnx_runtime_blocked(file: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
sys.modules["onnxruntime"] = None
sys.modules["onnx"] = None
from pathlib import Path
import numpy as np
import mien.engines.opening as opening
from mien.engines import Catalog, WARP
from tests.engines.tensorrt.fake_builder import FakePlanBuilder
from mien.engines.tensorrt.plans import PlanCache
from mien.engines.tensorrt.engine import PlanSource
opening.tensorrt_source = lambda index=0: PlanSource(FakePlanBuilder(), PlanCache())
opening.missing_packages = lambda: ()
for provider in ("tensorrt", "auto"):
    with Catalog.bundled().open(WARP, provider=provider) as engine:
        feeds = {{s.name: np.zeros(s.shape, s.dtype) for s in WARP.inputs}}
        print(engine.provider, *engine.infer(feeds))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["fake-plan displacement light"] * 2, done.stderr
    assert done.stderr.startswith("warp: there is no fake-plan plan yet; building it")
    assert done.stderr.count("\n") == 1


# What a lazy engine promises.


def test_fallback_runs_until_the_plan_is_there(file: Path, source: PlanSource) -> None:
    released = threading.Event()

    def build(_: GaveUp) -> PlanEngine:
        released.wait()
        return source.open(PlanModel.read(file, TINY))

    fallback = FakeEngine(TINY, lambda _: {n: np.full_like(a, 9) for n, a in zeros().items()})
    with LazyEngine(fallback, build) as engine:
        assert engine.infer(tiny_feeds())["total"] == 9
        assert engine.provider == "fake"
        released.set()
        assert engine.wait(60)
        assert engine.infer(tiny_feeds())["total"] == 5
        assert engine.provider == "fake-plan"
    with pytest.raises(EngineError, match="after close"):
        fallback.infer(tiny_feeds())


def zeros() -> dict[str, np.ndarray]:
    return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in TINY.outputs}


@pytest.mark.parametrize("error", [ModelError("no such operator"), RuntimeError("of\npybind")])
def test_failed_build_is_told_in_one_line_and_the_frames_go_on(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def build(_: GaveUp) -> PlanEngine:
        raise error

    with LazyEngine(FakeEngine(TINY, lambda _: zeros()), build) as engine:
        assert engine.wait(60)
        assert engine.infer(tiny_feeds())["total"] == 0
        assert engine.provider == "fake"
    (line,) = [record.getMessage() for record in caplog.records]
    said = " ".join(str(error).split())
    assert line == f"tiny: its plan cannot be built: {said}; fake goes on running the frames"


def test_closing_calls_the_build_off(file: Path) -> None:
    cache = PlanCache()
    engine = open_plan(PlanSource(_Endless(), cache), PlanModel.read(file, TINY))
    assert isinstance(engine, LazyEngine)
    engine.close()
    assert engine.wait(60)
    assert not list(cache.path.glob("*.plan"))


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_signal_while_the_build_is_waited_for_does_not_count_as_its_end(
    interrupting: type[BaseException],
) -> None:
    waiting, released = threading.Event(), threading.Event()

    def build(_: GaveUp) -> PlanEngine:
        waiting.wait()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGUSR1)
        released.wait()
        raise ModelError("never mind")

    with LazyEngine(FakeEngine(TINY, lambda _: zeros()), build) as engine:
        waiting.set()
        with pytest.raises(interrupting):
            engine.wait(60)
        assert not engine.wait(0)
        released.set()
        assert engine.wait(60)


class _Endless(FakePlanBuilder):
    """Builds until it is called off."""

    def build(self, request: BuildRequest, report: Report, gave_up: GaveUp) -> BuiltPlan:
        while not gave_up():
            threading.Event().wait(0.01)
        return super().build(request, report, gave_up)


# What a plan source promises.


def test_plan_that_the_device_refuses_is_built_again(file: Path, source: PlanSource) -> None:
    model = PlanModel.read(file, TINY)
    identity = model.identity(source.builder.device(), source.options)
    source.cache._write(identity, b"fake plan of another device\n{}", 0.0)
    reasons: list[str] = []
    with source.open(model, BuildWatch(on_build=reasons.append)) as engine:
        assert engine.infer(tiny_feeds())["total"] == 5
    assert reasons == ["there is no plan yet"]


def test_plan_that_is_refused_just_after_its_build_is_an_error(file: Path) -> None:
    class Broken(FakePlanBuilder):
        def build(self, request: BuildRequest, report: Report, gave_up: GaveUp) -> BuiltPlan:
            super().build(request, report, gave_up)
            return BuiltPlan(b"nothing\n", b"")

    source = PlanSource(Broken(), PlanCache())
    with pytest.raises(EngineError, match="tiny: the plan built just now does not load"):
        source.open(PlanModel.read(file, TINY))


def test_plan_with_other_tensors_is_not_the_declared_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stub().install(monkeypatch)
    write_tiny(tmp_path / "wide.onnx", side=5)
    from mien.engines.opening import tensorrt_source

    with pytest.raises(ModelError, match=r"inputs of the plan are x float32 \(1, 5\)"):
        tensorrt_source().open(PlanModel.read(tmp_path / "wide.onnx", TINY))
