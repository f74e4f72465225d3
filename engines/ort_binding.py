"""Runs of ONNX Runtime with inputs and outputs at fixed places on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mien.engines.network import Network
from mien.engines.providers import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime


class DeviceBinding:
    """A session bound to tensors of its own on a device, made once and used for every run.

    device: as ONNX Runtime names it, `cuda` or `cpu`. Without it every run allocates on the device
    and, for outputs, on the host.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        network: Network,
        *,
        device: str = "cuda",
        index: int = 0,
    ) -> None:
        make = import_onnxruntime().OrtValue
        self._session = session
        self._binding = session.io_binding()
        self._inputs = {
            spec.name: make.ortvalue_from_numpy(np.zeros(spec.shape, spec.dtype), device, index)
            for spec in network.inputs
        }
        self._outputs = {
            spec.name: make.ortvalue_from_shape_and_type(spec.shape, spec.dtype, device, index)
            for spec in network.outputs
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """New arrays, in the order of the network's outputs."""
        for name, array in feeds.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        # The copies run on another stream than the network does.
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        # On the processor the array would be the bound memory itself.
        return [np.array(value.numpy()) for value in self._outputs.values()]
