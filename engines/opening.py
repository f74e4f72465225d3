"""Which backend runs a model, for the provider that was asked for.

`LazyEngine` runs on another engine until its TensorRT plan is built.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.engines.engine import Engine
from mien.engines.errors import DeviceError, MienError
from mien.engines.network import Network
from mien.engines.ort.backend import OnnxRuntimeEngine, available_providers
from mien.engines.ort.providers import AUTO, Provider, install_line, split_device
from mien.engines.system.install import packages_line
from mien.engines.tensorrt.backend import TensorRTBuilder
from mien.engines.tensorrt.device import missing_packages
from mien.engines.tensorrt.engine import PlanModel, PlanSource
from mien.engines.tensorrt.plans import BuildWatch, PlanCache

log = logging.getLogger(__name__)
GIVE_UP_S = 10.0  # how long closing waits for a build that was called off

GaveUp = Callable[[], bool]


class LazyEngine(Engine):
    """Runs on `fallback` while `build` makes what was asked for, then on that.

    build: called once in a thread of its own, with a function that says whether to stop.
    `provider` says what runs it now. Where the build fails, a line says so and the fallback goes
    on: a call or a film that runs is not broken off for it.
    """

    def __init__(self, fallback: Engine, build: Callable[[GaveUp], Engine]) -> None:
        super().__init__(fallback.network, fallback.provider, fallback.metadata)
        self._now = fallback
        self._next: Engine | None = None
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._ended = threading.Event()  # not Thread.join: see `mien.engines.system.process`
        self._build = build
        name = f"build {fallback.network.name}"
        threading.Thread(target=self._make, name=name, daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether the build ended, well or not, within a time."""
        return self._ended.wait(timeout_s)

    def _make(self) -> None:
        try:
            self._make_next()
        finally:
            self._ended.set()

    def _make_next(self) -> None:
        try:
            built = self._build(self._given_up.is_set)
        except Exception as error:  # noqa: BLE001 -- of a thread's, nobody else would hear
            if not self._given_up.is_set():
                log.warning(
                    "%s: its plan cannot be built: %s; %s goes on running the frames",
                    self.network.name,
                    " ".join(str(error).split()) or type(error).__name__,
                    self._now.provider,
                )
            return
        with self._lock:
            if not self._given_up.is_set():
                self._next = built
                return
        built.close()

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            built, self._next = self._next, None
        if built is not None:
            self._now.close()
            self._now = built
            self.provider = built.provider
            log.warning(
                "%s: the plan is built; it runs on %s now", self.network.name, built.provider
            )
        return self._now.infer(feeds)

    def _release(self) -> None:
        self._given_up.set()
        try:
            self._ended.wait(GIVE_UP_S)
        finally:
            with self._lock:
                built, self._next = self._next, None
            if built is not None:
                built.close()
            self._now.close()


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
    runs the frames meanwhile, and a line says so. `auto` takes TensorRT where the plan is
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
    """An engine for a model from its plan, run by ONNX Runtime while that is built.

    Without ONNX Runtime it waits for the build. Raises ModelError, DeviceError, EngineError.
    """
    name = model.network.name
    watch = BuildWatch(on_wait=lambda: log.warning("%s: another program builds plans", name))
    if source.is_built(model):
        return source.open(model, watch)
    fallback = _fallback(model, threads)
    if fallback is None:
        log.warning(
            "%s: there is no %s plan yet; building it, which takes minutes (mien build does it "
            "ahead)",
            name,
            source.builder.name,
        )
        return source.open(model, watch)
    log.warning(
        "%s: there is no %s plan yet; %s runs the frames while it is built (mien build does it "
        "ahead)",
        name,
        source.builder.name,
        fallback.provider,
    )

    def build(gave_up: GaveUp) -> Engine:
        return source.open(model, replace(watch, gave_up=gave_up))

    return LazyEngine(fallback, build)


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def _fallback(model: PlanModel, threads: int | None) -> Engine | None:
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
