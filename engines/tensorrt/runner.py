"""A TensorRT plan on one stream: pinned buffers, and a CUDA graph where it can be recorded.

Pinned buffers are memory that both the processor and the device reach; on Jetson the two are one.
What TensorRT logs is kept for error messages instead of printed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from mien.engines.errors import EngineError
from mien.engines.network import TensorSpec
from mien.engines.tensorrt.builder import PlanRefusedError
from mien.engines.tensorrt.device import CudaDevice
from mien.engines.tensorrt.driver import CudaGraph, capture, open_driver

KEPT = 8
LONGEST = 300


class TensorRTLog:
    """Takes TensorRT's errors. logger: what its calls want."""

    def __init__(self, trt: ModuleType) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self.logger: Any = _logger(trt, self)

    def last(self) -> str:
        """The last error in one line, and forgotten then."""
        with self._lock:
            line = self._lines[-1] if self._lines else "it does not say why"
            self._lines.clear()
        return line

    def add(self, message: str) -> None:
        """Keep an error, on one line and shortened."""
        with self._lock:
            self._lines.append(" ".join(message.split())[:LONGEST])


def _logger(trt: ModuleType, kept: TensorRTLog) -> object:
    base: Any = trt.ILogger
    errors = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Logger(base):  # type: ignore[misc]
        """Passes errors on."""

        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: object, message: str) -> None:
            if severity in errors:
                kept.add(message)

    return Logger()


class Buffer:
    """One tensor's memory; its device has to be active where it is made.

    host: the processor's side. pointer: the address on the device.
    """

    def __init__(self, cuda: CudaDevice, spec: TensorSpec) -> None:
        driver = cuda.driver
        dtype = np.dtype(spec.dtype)
        flags = int(driver.host_alloc_flags.DEVICEMAP) if cuda.is_shared else 0
        self.host: np.ndarray = driver.pagelocked_empty(spec.shape, dtype, mem_flags=flags)
        self._driver = driver
        self._device: Any = None if cuda.is_shared else driver.mem_alloc(max(1, self.host.nbytes))
        base: Any = self.host.base
        self.pointer = int(base.get_device_pointer() if self._device is None else self._device)

    def upload(self, stream: object) -> None:
        """Put the copy to the device on the stream, where there is one to make."""
        if self._device is not None:
            self._driver.memcpy_htod_async(self._device, self.host, stream)

    def download(self, stream: object) -> None:
        """Put the copy from the device on the stream, where there is one to make."""
        if self._device is not None:
            self._driver.memcpy_dtoh_async(self.host, self._device, stream)

    def close(self) -> None:
        """Free the device's side of the buffer."""
        if self._device is not None:
            self._device.free()
        self._device = None


DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
Shapes = dict[str, tuple[int, ...]]


class TensorRTRunner:
    """A plan ready to run, from any thread, one call at a time.

    inputs, outputs: its tensors; a side of -1 is free. Raises PlanRefusedError.
    """

    def __init__(self, trt: ModuleType, cuda: CudaDevice, plan: bytes, log: TensorRTLog) -> None:
        self._trt = trt
        self._cuda = cuda
        self._log = log
        self._lock = threading.Lock()
        self._driver = open_driver()
        self._buffers: dict[str, Buffer] = {}
        self._shapes: Shapes = {}
        self._graph: CudaGraph | None = None
        self._may_record = self._driver is not None
        with cuda.active():
            self._runtime = trt.Runtime(log.logger)  # has to outlive the engine
            self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise PlanRefusedError(f"TensorRT does not take the plan: {log.last()}")
            self._context: Any = self._engine.create_execution_context()
            if self._context is None:
                raise PlanRefusedError(f"TensorRT cannot run the plan: {log.last()}")
            # On the default stream TensorRT waits for the whole device.
            self._stream: Any = cuda.driver.Stream()
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        mode = trt.TensorIOMode.INPUT
        given = [name for name in names if self._engine.get_tensor_mode(name) == mode]
        self.inputs = tuple(self._spec(name) for name in given)
        self.outputs = tuple(self._spec(name) for name in names if name not in given)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """New arrays for checked inputs. Raises EngineError."""
        with self._lock, self._cuda.active():
            try:
                self._prepare({name: feeds[name].shape for name in feeds})
                for name, array in feeds.items():
                    np.copyto(self._buffers[name].host, array)
                self._start()
                self._stream.synchronize()
            except self._cuda.driver.Error as error:
                raise EngineError(
                    f"the run failed on tensorrt: {' '.join(str(error).split())}"
                ) from error
            return {spec.name: self._buffers[spec.name].host.copy() for spec in self.outputs}

    def close(self) -> None:
        """Free the device's memory."""
        with self._lock, self._cuda.active():
            self._drop_buffers()
            self._context = None
            self._engine = None
            self._runtime = None
            self._stream = None

    def _start(self) -> None:
        """Put one run on the stream, by the recorded graph where there is one."""
        if self._graph is not None:
            if self._graph.launch(self._stream.handle):
                return
            self._may_record = False
            self._drop_graph()
        if not self._enqueue():
            raise EngineError(f"the run failed on tensorrt: {self._log.last()}")
        if self._may_record:
            # What ran just now was the run that has to come before a recording.
            self._graph = capture(self._driver, int(self._stream.handle), self._enqueue)
            self._may_record = self._graph is not None

    def _enqueue(self) -> bool:
        for spec in self.inputs:
            self._buffers[spec.name].upload(self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            return False
        for spec in self.outputs:
            self._buffers[spec.name].download(self._stream)
        return True

    def _prepare(self, shapes: Shapes) -> None:
        """Allocate buffers for these shapes. A recording belongs to one set of buffers."""
        if shapes == self._shapes:
            return
        self._drop_buffers()
        self._may_record = self._driver is not None
        for spec in self.inputs:
            if -1 in spec.shape and not self._context.set_input_shape(spec.name, shapes[spec.name]):
                raise EngineError(
                    f"the plan does not take {spec.name} of shape {shapes[spec.name]}: "
                    f"{self._log.last()}"
                )
        missing = self._context.infer_shapes()
        if missing:
            raise EngineError(f"the plan lacks the shapes of {', '.join(missing)}")
        for spec in (*self.inputs, *self.outputs):
            shape = tuple(self._context.get_tensor_shape(spec.name))
            buffer = Buffer(self._cuda, TensorSpec(spec.name, shape, spec.dtype))
            self._buffers[spec.name] = buffer
            if not self._context.set_tensor_address(spec.name, buffer.pointer):
                raise EngineError(f"the plan does not take the memory of {spec.name}")
        self._shapes = shapes

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
        self._graph = None

    def _drop_buffers(self) -> None:
        self._drop_graph()
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers = {}
        self._shapes = {}

    def _spec(self, name: str) -> TensorSpec:
        kind = self._engine.get_tensor_dtype(name).name
        shape = tuple(int(side) for side in self._engine.get_tensor_shape(name))
        return TensorSpec(name, shape, DTYPES.get(kind, kind))
