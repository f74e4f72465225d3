"""The CUDA device that TensorRT runs on, and whether the packages it takes are there.

`tensorrt` and `pycuda` are imported when they are first used, by the modules of this folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from mien.engines.errors import DeviceError
from mien.engines.system.install import packages_line
from mien.engines.tensorrt.builder import DeviceMemory
from mien.engines.tensorrt.plan_files import DeviceFacts

OLDEST = (10, 3)  # JetPack 6; strongly typed networks and every call used here are there from then


def missing_packages() -> tuple[str, ...]:
    """Which of the packages TensorRT takes are not installed."""
    found = {
        "tensorrt": importlib.util.find_spec("tensorrt"),
        "pycuda": importlib.util.find_spec("pycuda"),
    }
    return tuple(name for name, spec in found.items() if spec is None)


def load_tensorrt() -> ModuleType:
    """The `tensorrt` package. Raises DeviceError where it does not start, or is too old."""
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"the TensorRT package does not start: {' '.join(str(error).split())}; install "
            "TensorRT's libraries (on Jetson: sudo apt install python3-libnvinfer)"
        ) from error
    version = str(trt.__version__)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise DeviceError(
            f"TensorRT {version} is too old; install 10.3 or newer (JetPack 6.1 or newer)"
        )
    return trt


class CudaDevice:
    """One CUDA device through pycuda, by its primary context, which others share.

    Raises DeviceError where CUDA does not start, or there is no such device.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            self.driver: Any = importlib.import_module("pycuda.driver")
        except (ImportError, OSError) as error:
            raise DeviceError(
                f"pycuda does not start: {' '.join(str(error).split())}; install it again with "
                "this machine's CUDA: "
                + packages_line("pycuda", options="--force-reinstall --no-deps --no-binary :all:")
            ) from error
        try:
            self.driver.init()
            count = int(self.driver.Device.count())
            if not 0 <= index < count:
                last = f"0 to {count - 1}" if count > 1 else ("0" if count else "none")
                raise DeviceError(f"there is no CUDA device {index}; this machine has {last}")
            self._device = self.driver.Device(index)
            self._context = self._device.retain_primary_context()
        except self.driver.Error as error:
            raise DeviceError(
                f"CUDA does not start: {' '.join(str(error).split())}; check nvidia-smi, or the "
                "driver"
            ) from error

    @contextmanager
    def active(self) -> Iterator[None]:
        """This device's context is the calling thread's while entered."""
        self._context.push()
        try:
            yield
        finally:
            self.driver.Context.pop()

    @property
    def is_shared(self) -> bool:
        """Whether the processor and the device have one memory, as on Jetson."""
        return bool(self._device.get_attribute(self.driver.device_attribute.INTEGRATED))

    def facts(self, tensorrt: str) -> DeviceFacts:
        """What plans of a TensorRT version are bound to on this device."""
        major, minor = self._device.compute_capability()
        return DeviceFacts(
            tensorrt=tensorrt,
            cuda_major=int(self.driver.get_driver_version()) // 1000,
            sm=f"{major}.{minor}",
            gpu=str(self._device.name()),
            system=platform.system(),
            architecture=platform.machine(),
        )

    def memory(self) -> DeviceMemory:
        """What is free now."""
        with self.active():
            free, _ = self.driver.mem_get_info()
        return DeviceMemory(int(free), self.is_shared)
