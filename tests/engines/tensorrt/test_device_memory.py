"""The memory that ONNX Runtime's TensorRT builds may take."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from mien.engines.ort.backend import open_session
from mien.engines.tensorrt.builder import GIBIBYTE, SHARED_MOST, DeviceMemory
from mien.engines.tensorrt.driver import DRIVER, MEMORY_CALLS, device_memory
from tests.engines.tiny import write_tiny


class Driver:
    """The driver's library with devices that are not there. shared: whether they are boards'."""

    def __init__(self, *, free: int = 6 * GIBIBYTE, shared: bool = False, devices: int = 1) -> None:
        self.free, self.shared, self.devices = free, shared, devices
        self.failing = ""
        self.calls: list[str] = []

    def __call__(self, name: str, *rest: Any, **options: Any) -> Any:
        if name != DRIVER:
            return ctypes.PyDLL(name, *rest, **options)
        return SimpleNamespace(**{call: self._made(call) for call in MEMORY_CALLS})

    def _made(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self.failing:
                return 2
            if name == "cuDeviceGet":
                return 0 if arguments[1].value < self.devices else 101
            if name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = int(self.shared)
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value = self.free
            return 0

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(ctypes, "CDLL", driver)
    return driver


def test_free_memory_is_asked_of_the_driver_and_its_context_given_back(driver: Driver) -> None:
    assert device_memory(0) == DeviceMemory(6 * GIBIBYTE, is_shared=False)
    assert driver.calls == list(MEMORY_CALLS)
    driver.shared = True
    assert device_memory(0) == DeviceMemory(6 * GIBIBYTE, is_shared=True)


@pytest.mark.parametrize("call", MEMORY_CALLS[:4] + MEMORY_CALLS[4:6])
def test_driver_that_fails_tells_nothing_and_keeps_no_context(driver: Driver, call: str) -> None:
    driver.failing = call
    assert device_memory(0) is None
    retained = MEMORY_CALLS.index(call) > MEMORY_CALLS.index("cuDevicePrimaryCtxRetain")
    assert ("cuDevicePrimaryCtxRelease_v2" in driver.calls) is retained


def test_device_or_driver_that_is_not_there_has_no_memory(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device_memory(1) is None

    def missing(_: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert device_memory(0) is None


@pytest.mark.parametrize(
    ("provider", "workspace"),
    [("tensorrt", 3 * GIBIBYTE), ("tensorrt:1", SHARED_MOST)],
    ids=["half of what is free", "a device that tells nothing"],
)
def test_onnx_runtimes_tensorrt_is_capped(
    driver: Driver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    workspace: int,
) -> None:
    asked: list[Any] = []
    built_in = ["TensorrtExecutionProvider", "CPUExecutionProvider"]

    def session(model: bytes, options: Any, *, providers: list[Any], **_: Any) -> Any:
        asked.extend(providers)
        return SimpleNamespace(get_providers=lambda: built_in, get_inputs=lambda: [_free])

    _free = SimpleNamespace(type="tensor(float)", shape=["n"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built_in)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    write_tiny(tmp_path / "tiny.onnx")
    model = (tmp_path / "tiny.onnx").read_bytes()
    open_session(model, tmp_path / "tiny.onnx", provider=provider)
    assert asked[0][1]["trt_max_workspace_size"] == str(workspace)
