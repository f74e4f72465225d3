"""What ONNX Runtime can run a network on, under short names, and the options it gets."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType

from mien.engines.errors import DeviceError
from mien.engines.system.install import packages_line
from mien.engines.tensorrt.builder import SHARED_MOST
from mien.engines.tensorrt.driver import device_memory

PC = ("linux", "win32")
PC_PROCESSORS = ("x86_64", "amd64")
PLAIN = "onnxruntime"
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
PROCESSORS = Path("/proc/cpuinfo")  # of Linux
# Instructions that multiply and add bytes, with 512 bits and with 256. Without them ONNX Runtime
# adds pairs of products in 16 bits, where the INT8 variants overflow.
BYTE_PRODUCTS = frozenset(("avx512_vnni", "avx_vnni"))


class Provider(Enum):
    """An execution provider: its short name, ONNX Runtime's name, and the wheel that brings it.

    systems: what `sys.platform` says where there is such a wheel.
    """

    CPU = ("cpu", "CPUExecutionProvider", "onnxruntime")
    CUDA = ("cuda", "CUDAExecutionProvider", "onnxruntime-gpu", PC)
    TENSORRT = ("tensorrt", "TensorrtExecutionProvider", "onnxruntime-gpu", PC)
    OPENVINO = ("openvino", "OpenVINOExecutionProvider", "onnxruntime-openvino", PC)
    COREML = ("coreml", "CoreMLExecutionProvider", "onnxruntime", ("darwin",))
    DIRECTML = ("directml", "DmlExecutionProvider", "onnxruntime-directml", ("win32",))

    def __init__(
        self,
        short: str,
        ort_name: str,
        package: str,
        systems: tuple[str, ...] = ("linux", "win32", "darwin"),
    ) -> None:
        self.short = short
        self.ort_name = ort_name
        self.package = package
        self.systems = systems


# What `auto` tries with ONNX Runtime, the fastest first. Its TensorRT provider, which compiles for
# minutes on first use, has to be asked for; mien's own TensorRT backend is tried before all of
# them where its plan is built already (`mien.engines.opening`).
AUTO_ORDER = (Provider.CUDA, Provider.OPENVINO, Provider.COREML, Provider.DIRECTML, Provider.CPU)
AUTO = "auto"
WITH_DEVICES = frozenset({"cuda", "tensorrt", "directml"})


def import_onnxruntime(module: str = PLAIN) -> ModuleType:
    """ONNX Runtime, or a module of it, imported with its telemetry off; nothing imports it else.

    From 1.29 on, importing it writes a device id and a database to the user's cache and a file to
    the temporary folder, and a thread of it then looks for a host of its vendor. Switched off after
    the import, it has done all that already. A value that the user gave the variable stays; where
    the program that uses mien imported ONNX Runtime before, the choice was that program's.

    Raises DeviceError where it is missing or does not start.
    """
    if not os.environ.get(NO_TELEMETRY):
        os.environ[NO_TELEMETRY] = "1"
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime does not start: {' '.join(str(error).split())[:300]}; "
            f"{packages_line(PLAIN)}, or use --provider tensorrt where TensorRT is installed"
        ) from error


def split_device(name: str) -> tuple[str, int]:
    """A provider's name and the device to use: `cuda:1` is the second one, `cuda` the first.

    Raises DeviceError.
    """
    provider, colon, index = name.partition(":")
    if not colon:
        return provider.lower(), 0
    if not (index.isascii() and index.isdigit()) or len(index) > 3:
        raise DeviceError(f"the device in {name!r} must be a number, as in {provider}:0")
    if provider.lower() not in WITH_DEVICES:
        known = ", ".join(sorted(WITH_DEVICES))
        raise DeviceError(f"{provider} has no numbered devices (those that have: {known})")
    return provider.lower(), int(index)


def provider_named(name: str) -> Provider:
    """The provider of a short name such as `cpu`. Raises DeviceError, naming the known ones."""
    for provider in Provider:
        if provider.short == name.lower():
            return provider
    known = ", ".join([provider.short for provider in Provider] + [AUTO])
    raise DeviceError(f"unknown provider {name!r} (known: {known})")


def install_line(
    provider: Provider, system: str = sys.platform, machine: str = platform.machine()
) -> str:
    """The command that brings a provider here, or what to do where there is none.

    All of ONNX Runtime's wheels have the same files, so the one that is there goes first: with two
    of them the last one installed runs, and either one's removal breaks the other. No extra of
    mien does it, for mien itself asks for the plain one.
    """
    is_pc = machine.lower() in PC_PROCESSORS
    if system not in provider.systems or (provider.systems == PC and not is_pc):
        return "this machine has no ONNX Runtime with it: use --provider cpu"
    gone = " ".join(dict.fromkeys((PLAIN, provider.package)))
    return f"pip uninstall -y {gone} && {packages_line(provider.package)}"


def short_name(ort_name: str) -> str:
    """The short name of a provider that ONNX Runtime names; its own name where mien has none."""
    for provider in Provider:
        if provider.ort_name == ort_name:
            return provider.short
    return ort_name


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


def multiplies_bytes(processors: Path = PROCESSORS) -> bool:
    """Whether this processor has instructions for INT8 networks (VNNI), as far as Linux tells.

    processors: what Linux says of them. Elsewhere nothing tells, and the answer is no.
    """
    try:
        text = processors.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = [line.partition(":")[2].split() for line in text.splitlines() if line[:5] == "flags"]
    return bool(flags) and all(not BYTE_PRODUCTS.isdisjoint(words) for words in flags)
