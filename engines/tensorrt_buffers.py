"""Memory that both the processor and the device reach: pinned, and on Jetson one and the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from mien.engines.network import TensorSpec
from mien.engines.tensorrt_device import CudaDevice


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
        """Nothing; puts the copy to the device on the stream, where there is one to make."""
        if self._device is not None:
            self._driver.memcpy_htod_async(self._device, self.host, stream)

    def download(self, stream: object) -> None:
        """Nothing; puts the copy from the device on the stream, where there is one to make."""
        if self._device is not None:
            self._driver.memcpy_dtoh_async(self.host, self._device, stream)

    def close(self) -> None:
        """Nothing; gives the device's side back."""
        if self._device is not None:
            self._device.free()
        self._device = None
