"""How ONNX Runtime's providers are started: one value that yields their options."""

from __future__ import annotations

from dataclasses import dataclass

from mien.engines.builder import SHARED_MOST
from mien.engines.device_memory import device_memory
from mien.engines.providers import Provider


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """Settings of a provider.

    device: which of several. tf32: whether 32-bit convolutions may round their inputs to 19 bits;
    not, because the graph says what precision it wants. workspace: bytes of scratch memory a
    TensorRT build may take; by itself it would take all there are. level: of its optimization.
    """

    provider: Provider
    device: int = 0
    tf32: bool = False
    workspace: int = SHARED_MOST
    level: int = 3

    @classmethod
    def of(cls, provider: Provider, device: int = 0) -> ProviderOptions:
        """The settings of a provider on a device; a build's memory is a share of what is free."""
        memory = device_memory(device) if provider is Provider.TENSORRT else None
        if memory is None:
            return cls(provider, device)
        return cls(provider, device, workspace=memory.workspace)

    def options(self) -> dict[str, str]:
        """What ONNX Runtime is told, by its own names."""
        if self.provider is Provider.CUDA:
            return {
                "device_id": str(self.device),
                # Grows by what is asked for; its default doubles, and the filter shares the card.
                "arena_extend_strategy": "kSameAsRequested",
                # The default tries every algorithm at the first run, for seconds.
                "cudnn_conv_algo_search": "HEURISTIC",
                "use_tf32": str(int(self.tf32)),
            }
        if self.provider is Provider.TENSORRT:
            # Its own cache of plans is off: it would run a damaged plan, or one from elsewhere.
            # No precision flag is set, so it builds what the graph says.
            return {
                "device_id": str(self.device),
                "trt_builder_optimization_level": str(self.level),
                "trt_max_workspace_size": str(self.workspace),
            }
        if self.provider is Provider.DIRECTML:
            return {"device_id": str(self.device)}
        return {}
