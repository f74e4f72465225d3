"""Which backend runs a model for a provider that was asked for."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

from mien.engines.engine import Engine
from mien.engines.errors import DeviceError, MienError
from mien.engines.install import packages_line
from mien.engines.lazy_engine import GaveUp, LazyEngine
from mien.engines.network import Network
from mien.engines.onnx_runtime import OnnxRuntimeEngine, available_providers
from mien.engines.plan_cache import BuildWatch, PlanCache
from mien.engines.plan_engine import PlanModel, PlanSource
from mien.engines.providers import AUTO, Provider, install_line, split_device
from mien.engines.tensorrt_backend import TensorRTBuilder
from mien.engines.tensorrt_device import missing_packages

log = logging.getLogger(__name__)
PACKAGES = {
    "tensorrt": f"tensorrt ({packages_line('tensorrt')}; on Jetson: sudo apt install "
    "python3-libnvinfer)",
    "pycuda": f"pycuda ({packages_line('pycuda')})",
}


def open_engine(
    path: Path,
    network: Network | str,
    *,
    provider: str,
    threads: int | None = None,
    sha256: str | None = None,
) -> Engine:
    """An engine for a model file on a provider, which may name a device: `cuda:1`.

    `tensorrt` is mien's own backend where the packages it takes are installed, else ONNX Runtime's
    provider of that name. Where its plan is not built yet, the best provider of ONNX Runtime
    carries the frames meanwhile, and a line says so. `auto` takes TensorRT where the plan is
    built, else the best provider that works.

    Raises ModelError, DeviceError, EngineError.
    """
    name, index = split_device(provider)
    if name not in (AUTO, Provider.TENSORRT.short):
        return _on_onnx_runtime(path, network, provider, threads, sha256)
    missing = missing_packages()
    if name == AUTO:
        built = None if missing else _built_plan(path, network, sha256)
        return built or _on_onnx_runtime(path, network, AUTO, threads, sha256)
    if missing and has_onnx_runtime() and Provider.TENSORRT in available_providers():
        return _on_onnx_runtime(path, network, provider, threads, sha256)
    try:
        source = tensorrt_source(index)
    except DeviceError as error:
        if not missing:
            raise
        other = install_line(Provider.TENSORRT)
        raise DeviceError(f"{error}, or an ONNX Runtime built with it ({other})") from error
    return open_plan(source, PlanModel.read(path, network, sha256), threads=threads)


def tensorrt_source(device_index: int = 0) -> PlanSource:
    """The plans of mien's own TensorRT backend on a device, in this user's cache.

    Raises DeviceError, which says what is missing where it does not start.
    """
    missing = missing_packages()
    if missing:
        wanted = " and ".join(PACKAGES[package] for package in missing)
        raise DeviceError(f"the provider 'tensorrt' is not installed: it takes {wanted}")
    return PlanSource(TensorRTBuilder(device_index), PlanCache())


def open_plan(source: PlanSource, model: PlanModel, *, threads: int | None = None) -> Engine:
    """An engine for a model from its plan, carried by ONNX Runtime while that is built.

    Without ONNX Runtime it waits for the build. Raises ModelError, DeviceError, EngineError.
    """
    name = model.network.name
    watch = BuildWatch(on_wait=lambda: log.warning("%s: another program builds plans", name))
    if source.is_built(model):
        return source.open(model, watch)
    carrier = _carrier(model, threads)
    if carrier is None:
        log.warning(
            "%s: there is no %s plan yet; building it, which takes minutes (mien build does it "
            "ahead)",
            name,
            source.builder.name,
        )
        return source.open(model, watch)
    log.warning(
        "%s: there is no %s plan yet; %s carries the frames while it is built (mien build does it "
        "ahead)",
        name,
        source.builder.name,
        carrier.provider,
    )

    def build(gave_up: GaveUp) -> Engine:
        return source.open(model, replace(watch, gave_up=gave_up))

    return LazyEngine(carrier, build)


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def _carrier(model: PlanModel, threads: int | None) -> Engine | None:
    """The network on the best provider of ONNX Runtime that works, None without ONNX Runtime."""
    if not has_onnx_runtime():
        return None
    try:
        return OnnxRuntimeEngine(model.path, model.network, provider=AUTO, threads=threads)
    except DeviceError:
        return None


def _built_plan(path: Path, network: Network | str, sha256: str | None) -> Engine | None:
    """The network on TensorRT, None where it does not work here or its plan is not built.

    Without ONNX Runtime there is nothing else, so the plan is built then.
    """
    model = PlanModel.read(path, network, sha256)
    try:
        source = tensorrt_source()
        if source.is_built(model) or not has_onnx_runtime():
            return open_plan(source, model)
    except MienError as error:
        if not has_onnx_runtime():
            raise
        log.warning("%s: TensorRT does not work: %s", model.network.name, error)
        return None
    log.warning("%s: run mien build, and auto takes TensorRT", model.network.name)
    return None


def _on_onnx_runtime(
    path: Path,
    network: Network | str,
    provider: str,
    threads: int | None,
    sha256: str | None,
) -> Engine:
    return OnnxRuntimeEngine(path, network, provider=provider, threads=threads, sha256=sha256)
