"""The memory of a CUDA device, asked of the driver's own library: ONNX Runtime does not tell it."""

from __future__ import annotations

import ctypes
from typing import Any

from mien.engines.builder import DeviceMemory
from mien.engines.cuda_graph import DRIVER

SUCCESS = 0
INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED: the device has the processor's own memory
CALLS = (
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
    if not all(hasattr(driver, call) for call in CALLS):
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
