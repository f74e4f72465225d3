"""Networks compiled and run by TensorRT's own Python API, 10.3 to 11, without ONNX Runtime.

Networks are strongly typed: the graph says which precision every tensor has, and TensorRT only
compiles what it says. Nothing here was run where it was written, which has no GPU; every name of
the API that is used is there in 10.3, 10.13, 10.16 and 11.4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mien.engines.errors import DeviceError, EngineError
from mien.engines.system.process import run_in_worker
from mien.engines.tensorrt.builder import BuildRequest, BuiltPlan, PhaseProgress, Report
from mien.engines.tensorrt.device import CudaDevice, load_tensorrt
from mien.engines.tensorrt.plan_files import DeviceFacts
from mien.engines.tensorrt.runner import TensorRTLog, TensorRTRunner


class TensorRTBuilder:
    """Builds and runs plans with TensorRT on one CUDA device.

    Raises DeviceError where TensorRT or CUDA does not start, or there is no such device.
    """

    name = "tensorrt"

    def __init__(self, device_index: int = 0) -> None:
        self._trt = load_tensorrt()
        self._cuda = CudaDevice(device_index)
        self._log = TensorRTLog(self._trt)

    def device(self) -> DeviceFacts:
        """What its plans are bound to."""
        return self._cuda.facts(str(self._trt.__version__))

    def load(self, plan: bytes) -> TensorRTRunner:
        """What runs a plan. Raises PlanRefusedError, DeviceError."""
        try:
            return TensorRTRunner(self._trt, self._cuda, plan, self._log)
        except (self._cuda.driver.Error, RuntimeError, TypeError, MemoryError) as error:
            raise DeviceError(
                f"tensorrt does not start: {_told(error)}; free the device's memory, or use "
                "--provider cpu"
            ) from error

    def build(
        self, request: BuildRequest, report: Report, gave_up: Callable[[], bool]
    ) -> BuiltPlan:
        """A plan. Raises EngineError where the graph cannot be built, or `gave_up` said so.

        TensorRT calls back while it builds, and no exception may pass through it. So it builds in
        a thread, where no signal is delivered, and this one waits.
        """
        stop = threading.Event()
        monitor = _Watch(PhaseProgress(request.network, report), lambda: stop.is_set() or gave_up())
        found = run_in_worker(
            lambda: self._build(request, monitor),
            stop=lambda _: stop.set(),
            name="tensorrt build",
        )
        if monitor.error is not None:
            raise monitor.error
        if isinstance(found, EngineError):
            raise found
        return found

    def _build(self, request: BuildRequest, watch: _Watch) -> BuiltPlan | EngineError:
        try:
            workspace = self._cuda.memory().workspace
            with self._cuda.active():
                return self._compile(request, watch, workspace)
        except EngineError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- of the bindings: RuntimeError, TypeError, ...
            return EngineError(
                f"{request.network}: the build broke off: {_told(error)}; use --provider cpu"
            )

    def _compile(self, request: BuildRequest, watch: _Watch, workspace: int) -> BuiltPlan:
        trt = self._trt
        builder = trt.Builder(self._log.logger)
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = trt.OnnxParser(network, self._log.logger)
        if not parser.parse(request.model):
            raise EngineError(f"{request.network}: {self._parse_error(parser)}")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
        config.builder_optimization_level = request.options.level
        if not request.options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        config.progress_monitor = monitor = _monitor(trt, watch)
        timing = self._use_timing_cache(config, request.timing_cache)
        plan = builder.build_serialized_network(network, config)
        del monitor, timing  # both had to live until here
        if watch.was_called_off:
            raise EngineError(f"{request.network}: the build was called off")
        if plan is None:
            raise EngineError(
                f"{request.network}: TensorRT cannot build the graph: {self._log.last()}; "
                "see what mien audit says of it, or use --provider cpu"
            )
        return BuiltPlan(bytes(plan), bytes(config.get_timing_cache().serialize()))

    def _use_timing_cache(self, config: Any, content: bytes) -> object:
        """The cache in use: that of earlier builds, or a new one where TensorRT refuses it."""
        for attempt in (content, b""):
            cache = config.create_timing_cache(attempt)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return cache
        return None

    def _parse_error(self, parser: Any) -> str:
        for number in range(parser.num_errors):
            error = parser.get_error(number)
            where = f"{error.node_operator()} {error.node_name()!r}"
            return f"TensorRT cannot read the graph at {where}: {error.desc()}; see mien audit"
        return f"TensorRT cannot read the graph: {self._log.last()}; see mien audit"


def _told(error: Exception) -> str:
    """What an exception says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class _Watch:
    """What a build's callbacks do, with no exception let out.

    error: what a report raised. was_called_off: whether the build was told to stop.
    """

    def __init__(self, progress: PhaseProgress, gave_up: Callable[[], bool]) -> None:
        self._progress = progress
        self._gave_up = gave_up
        self.error: Exception | None = None
        self.was_called_off = False

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        self._guard(lambda: self._progress.start(phase, parent, steps))

    def step(self, phase: str, step: int) -> bool:
        """Whether to go on."""
        self._guard(lambda: self._progress.step(phase, step))
        if self.error is not None or self._gave_up():
            self.was_called_off = True
        return not self.was_called_off

    def finish(self, phase: str) -> None:
        self._guard(lambda: self._progress.finish(phase))

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 -- an exception in a callback ends the process
            self.error = error


def _monitor(trt: ModuleType, watch: _Watch) -> object:
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]
        """Passes on what TensorRT tells."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()
