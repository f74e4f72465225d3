"""Stand-ins for `tensorrt`, `pycuda.driver` and the CUDA driver, by the calls mien makes of them.

Device memory is host memory, a plan is the model's bytes, and a run is ONNX Runtime's on the
processor, at the addresses it was given. So the backend's own lines run; TensorRT's do not.
"""

from __future__ import annotations

import ctypes
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

PLAN = b"plan:"
TYPES = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64"}


class Stub:
    """The machine that is played.

    shared: one memory, as on Jetson. records: whether a stream's work can be recorded.
    devices: how many there are. calls: what was called. alive: device memory not given back.
    """

    def __init__(self, *, shared: bool = False, records: bool = True, devices: int = 1) -> None:
        self.shared = shared
        self.records = records
        self.devices = devices
        self.calls: list[str] = []
        self.depth = 0
        self.recording: list[Any] | None = None
        self.graphs: dict[int, list[Any]] = {}
        self.alive = 0
        self.version = "10.3.0"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the packages importable for one test."""
        driver = _driver(self)
        package = _module("pycuda")
        package.driver = driver  # type: ignore[attr-defined]
        for name, module in {
            "tensorrt": _tensorrt(self),
            "pycuda": package,
            "pycuda.driver": driver,
        }.items():
            monkeypatch.setitem(__import__("sys").modules, name, module)
        library = _library(self)
        monkeypatch.setattr("mien.engines.tensorrt.runner.open_driver", lambda: library)

    def do(self, work: Any) -> None:
        """Run a stream's work, or record it."""
        assert self.depth, "no context is active in this thread"
        if self.recording is None:
            work()
        else:
            self.recording.append(work)


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


def _driver(stub: Stub) -> Any:  # noqa: C901 -- a whole package stands in it
    driver: Any = _module("pycuda.driver")

    class Error(Exception):
        pass

    class Context:
        def push(self) -> None:
            stub.depth += 1

        @staticmethod
        def pop() -> None:
            stub.depth -= 1

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        @staticmethod
        def count() -> int:
            return stub.devices

        def retain_primary_context(self) -> Context:
            return Context()

        def compute_capability(self) -> tuple[int, int]:
            return 8, 7

        def name(self) -> str:
            return "Orin"

        def get_attribute(self, attribute: str) -> int:
            assert attribute == "integrated"
            return int(stub.shared)

    class Memory:
        def __init__(self, size: int) -> None:
            assert stub.depth
            self.bytes = (ctypes.c_uint8 * size)()
            stub.alive += 1

        def __int__(self) -> int:
            return ctypes.addressof(self.bytes)

        def free(self) -> None:
            stub.alive -= 1

    class Pinned:
        def __init__(self, shape: Any, dtype: Any) -> None:
            self.memory = np.zeros(shape, dtype)
            self.__array_interface__ = self.memory.__array_interface__

        def get_device_pointer(self) -> int:
            return self.memory.ctypes.data

    def pagelocked_empty(shape: Any, dtype: Any, mem_flags: int = 0) -> np.ndarray:
        assert stub.depth
        assert mem_flags == (2 if stub.shared else 0)
        return np.asarray(Pinned(shape, dtype))

    class Stream:
        handle = 77

        def synchronize(self) -> None:
            stub.calls.append("synchronize")

    def upload(device: Any, host: np.ndarray, stream: Stream) -> None:
        del stream
        stub.do(lambda: ctypes.memmove(int(device), host.ctypes.data, host.nbytes))

    def download(host: np.ndarray, device: Any, stream: Stream) -> None:
        del stream
        stub.do(lambda: ctypes.memmove(host.ctypes.data, int(device), host.nbytes))

    driver.Error = Error
    driver.Context = Context
    driver.Device = Device
    driver.Stream = Stream
    driver.init = lambda: None
    driver.get_driver_version = lambda: 12060
    driver.mem_get_info = lambda: (4 << 30, 8 << 30)
    driver.mem_alloc = Memory
    driver.pagelocked_empty = pagelocked_empty
    driver.memcpy_htod_async = upload
    driver.memcpy_dtoh_async = download
    driver.device_attribute = SimpleNamespace(INTEGRATED="integrated")
    driver.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
    return driver


def _library(stub: Stub) -> Any:
    def begin(stream: Any, mode: Any) -> int:
        assert (stream.value, mode.value) == (77, 1)
        if not stub.records:
            return 1
        stub.recording = []
        return 0

    def end(stream: Any, graph: Any) -> int:
        assert stub.recording is not None
        graph._obj.value = len(stub.graphs) + 1
        stub.graphs[graph._obj.value] = stub.recording
        stub.recording = None
        stub.calls.append("record")
        return 0

    def instantiate(run: Any, graph: Any, flags: Any) -> int:
        assert flags.value == 0
        run._obj.value = graph.value
        return 0

    def launch(run: Any, stream: Any) -> int:
        stub.calls.append("launch")
        for work in stub.graphs[run.value]:
            work()
        return 0

    def forget(graph: Any) -> int:
        stub.graphs.pop(graph.value, None)
        return 0

    return SimpleNamespace(
        cuStreamBeginCapture_v2=begin,
        cuStreamEndCapture=end,
        cuGraphInstantiateWithFlags=instantiate,
        cuGraphLaunch=launch,
        cuGraphExecDestroy=forget,
        cuGraphDestroy=forget,
    )


def _tensorrt(stub: Stub) -> Any:  # noqa: C901 -- as above
    trt: Any = _module("tensorrt")
    trt.__version__ = stub.version

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = "internal", "error", "warning"

    class IProgressMonitor:
        pass

    class Parser:
        def __init__(self, network: Any, logger: Any) -> None:
            self.network, self.logger = network, logger
            self.num_errors = 0

        def parse(self, model: bytes) -> bool:
            try:
                onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            except Exception as error:  # noqa: BLE001 -- whatever it raises
                self.logger.log(ILogger.ERROR, str(error))
                return False
            self.network.model = model
            return True

    class Config:
        def __init__(self) -> None:
            self.flags = {"TF32"}
            self.cache: Any = None

        def set_memory_pool_limit(self, pool: str, size: int) -> None:
            stub.calls.append(f"{pool} {size >> 20}")

        def clear_flag(self, flag: str) -> None:
            self.flags.remove(flag)

        def create_timing_cache(self, content: bytes) -> Any:
            return SimpleNamespace(content=content, serialize=lambda: content + b"t")

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            self.cache = cache
            return not cache.content.startswith(b"mismatch")

        def get_timing_cache(self) -> Any:
            return self.cache

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int) -> Any:
            assert flags == 1 << 3
            return SimpleNamespace(model=b"")

        def create_builder_config(self) -> Config:
            return Config()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            assert config.builder_optimization_level == 3
            assert not config.flags, "a graph of 32-bit floats stays one"
            watch = config.progress_monitor
            watch.phase_start("build", None, 2)
            for step in range(2):
                watch.phase_start("tactics", "build", 4)
                for inner in range(4):
                    if not watch.step_complete("tactics", inner):
                        return None
                watch.phase_finish("tactics")
                watch.step_complete("build", step)
            watch.phase_finish("build")
            return PLAN + network.model

    class Context:
        def __init__(self, session: Any) -> None:
            self.session = session
            self.addresses: dict[str, int] = {}
            self.shapes = {node.name: tuple(node.shape) for node in session.get_inputs()}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.shapes[name] = shape
            return shape[0] < 9

        def infer_shapes(self) -> list[str]:
            return []

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name in self.shapes:
                return self.shapes[name]
            (node,) = [node for node in self.session.get_outputs() if node.name == name]
            batch = next(iter(self.shapes.values()))[0]
            return tuple(side if isinstance(side, int) else batch for side in node.shape)

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == 77
            stub.calls.append("enqueue")
            stub.do(self._run)
            return True

        def _at(self, name: str) -> np.ndarray:
            shape = self.get_tensor_shape(name)
            count = int(np.prod(shape))
            memory = (ctypes.c_float * count).from_address(self.addresses[name])
            return np.frombuffer(memory, np.float32).reshape(shape)

        def _run(self) -> None:
            feeds = {node.name: self._at(node.name) for node in self.session.get_inputs()}
            names = [node.name for node in self.session.get_outputs()]
            for name, value in zip(names, self.session.run(names, feeds), strict=True):
                self._at(name)[...] = value

    class Engine:
        def __init__(self, model: bytes) -> None:
            self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            self.given = {node.name: node for node in self.session.get_inputs()}
            self.nodes = {**self.given, **{n.name: n for n in self.session.get_outputs()}}
            self.num_io_tensors = len(self.nodes)

        def get_tensor_name(self, number: int) -> str:
            return list(self.nodes)[number]

        def get_tensor_mode(self, name: str) -> str:
            return "input" if name in self.given else "output"

        def get_tensor_dtype(self, name: str) -> Any:
            return SimpleNamespace(name=TYPES[self.nodes[name].type])

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(s if isinstance(s, int) else -1 for s in self.nodes[name].shape)

        def create_execution_context(self) -> Context:
            return Context(self.session)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if not plan.startswith(PLAN):
                self.logger.log(ILogger.ERROR, "the version tag\ndoes not match")
                return None
            return Engine(plan[len(PLAN) :])

    trt.ILogger = ILogger
    trt.IProgressMonitor = IProgressMonitor
    trt.OnnxParser = Parser
    trt.Builder = Builder
    trt.Runtime = Runtime
    trt.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    trt.BuilderFlag = SimpleNamespace(TF32="TF32")
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=3)
    return trt
