"""The CUDA driver's own library: CUDA graphs, and the memory of a device.

A graph is a stream's work, recorded once and started with one call. pycuda has no call for it, ONNX
Runtime does not tell the memory, and NVIDIA's own Python bindings are not on every board; the
driver's library is there wherever CUDA works. Source: CUDA driver API, sections Stream, Graph and
Memory Management.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from mien.engines.tensorrt.builder import DeviceMemory

SUCCESS = 0
THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on as they like
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
CALLS = (
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
)


def open_driver() -> Any | None:
    """The CUDA driver's library, None where it is missing or too old for graphs."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    return driver if all(hasattr(driver, call) for call in CALLS) else None


class CudaGraph:
    """Recorded work of a stream. The buffers it works on have to stay where they are."""

    def __init__(self, driver: Any, graph: ctypes.c_void_p, run: ctypes.c_void_p) -> None:
        self._driver = driver
        self._graph = graph
        self._run = run

    def launch(self, stream: int) -> bool:
        """Whether the work was put on the stream again."""
        return bool(self._driver.cuGraphLaunch(self._run, ctypes.c_void_p(stream)) == SUCCESS)

    def close(self) -> None:
        """Free the recorded graph."""
        self._driver.cuGraphExecDestroy(self._run)
        self._driver.cuGraphDestroy(self._graph)


def capture(driver: Any, stream: int, enqueue: Callable[[], bool]) -> CudaGraph | None:
    """The work that `enqueue` puts on a stream, None where it cannot be recorded.

    enqueue: neither waits nor allocates, and says whether it went well; it must have run once
    before.
    """
    handle = ctypes.c_void_p(stream)
    if driver.cuStreamBeginCapture_v2(handle, ctypes.c_int(THREAD_LOCAL)) != SUCCESS:
        return None
    went_well = False
    graph = ctypes.c_void_p()
    try:
        went_well = enqueue()
    finally:  # a stream that is left recording takes no other work
        ended = driver.cuStreamEndCapture(handle, ctypes.byref(graph))
    if ended != SUCCESS or not graph.value:
        return None
    run = ctypes.c_void_p()
    made = (
        went_well
        and driver.cuGraphInstantiateWithFlags(ctypes.byref(run), graph, ctypes.c_ulonglong(0))
        == SUCCESS
    )
    if not made:
        driver.cuGraphDestroy(graph)
        return None
    return CudaGraph(driver, graph, run)


INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED: the device has the processor's own memory
MEMORY_CALLS = (
    "cuInit",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuCtxPushCurrent_v2",
    "cuMemGetInfo_v2",
    "cuCtxPopCurrent_v2",
    "cuDevicePrimaryCtxRelease_v2",
)


def device_memory(index: int) -> DeviceMemory | None:
    """What is free on a CUDA device now, None where there is no driver or no such device."""
    try:
        driver: Any = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    if not all(hasattr(driver, call) for call in MEMORY_CALLS):
        return None
    device, shared = ctypes.c_int(), ctypes.c_int()
    asked = (
        driver.cuInit(0) == SUCCESS
        and driver.cuDeviceGet(ctypes.byref(device), ctypes.c_int(index)) == SUCCESS
        and driver.cuDeviceGetAttribute(ctypes.byref(shared), INTEGRATED, device) == SUCCESS
    )
    free = _free_bytes(driver, device) if asked else None
    return None if free is None else DeviceMemory(free, bool(shared.value))


def _free_bytes(driver: Any, device: ctypes.c_int) -> int | None:
    """What is free; the driver tells only within a context, and others share this one."""
    context = ctypes.c_void_p()
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != SUCCESS:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    told = False
    if driver.cuCtxPushCurrent_v2(context) == SUCCESS:
        told = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == SUCCESS
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    driver.cuDevicePrimaryCtxRelease_v2(device)
    return free.value if told else None
