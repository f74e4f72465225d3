"""Networks run by ONNX Runtime, on the provider that was asked for and no other.

`onnxruntime` is imported when the first engine opens, so that importing this package stays quick.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from mien.engines.engine import Engine
from mien.engines.errors import DeviceError, EngineError, ModelError
from mien.engines.network import Network, TensorSpec
from mien.engines.providers import AUTO, AUTO_ORDER, Provider, provider_named, short_name

if TYPE_CHECKING:
    import onnxruntime

# These networks gain nothing from a second thread (landmarks: 1.4 ms with one, 1.4 to 1.8 with
# two), and the other core has a video to decode and encode.
DEFAULT_THREADS = 1
FATAL_ONLY = 4  # ONNX Runtime's log severity; what fails is raised, so nothing needs printing.
ORT_DEFAULT_SEVERITY = 2
SOURCE_PLACE = re.compile(r"/\S+\.(?:cc|cpp|h):\d+ .*?\) ")

ORT_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class OnnxRuntimeEngine(Engine):
    """A network in an ONNX file, run by ONNX Runtime.

    path: the file, read once; the bytes that are hashed are the bytes that run.
    network: its declaration, or only its name where the graph itself states the rest: networks of
        the user's own come in sizes that nobody can declare beforehand.
    provider: a short name of `Provider`, or `auto` for the best that truly works. Single nodes a
        provider does not know run on the processor beside it, as ONNX Runtime does; a provider
        that does not start is an error and never becomes another one.
    threads: of one call; by default one, which leaves the other cores to the codecs.
    sha256: of the file, lower-case hex, where it is known.

    Raises ModelError for a file that is missing, damaged or not `network`, DeviceError for a
    provider that is not installed or does not start.
    """

    def __init__(
        self,
        path: str | Path,
        network: Network | str,
        *,
        provider: str = "cpu",
        threads: int | None = None,
        sha256: str | None = None,
    ) -> None:
        path = Path(path)
        model = read_model(path, sha256)
        session = open_session(model, path, provider=provider, threads=threads)
        metadata = session.get_modelmeta().custom_metadata_map
        network = _stated(network, path, metadata) if isinstance(network, str) else network
        _check_session(session, path, network)
        super().__init__(network, short_name(session.get_providers()[0]), metadata)
        self._session: onnxruntime.InferenceSession | None = session
        self._output_names = [spec.name for spec in network.outputs]
        self._failures = _failures()

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError(f"{self.network.name}: the session is closed; open it again")
        try:
            results = self._session.run(self._output_names, dict(feeds))
        except self._failures as error:
            raise EngineError(
                f"{self.network.name}: the run failed on {self.provider}: {_one_line(error)}"
            ) from error
        return dict(zip(self._output_names, results, strict=True))

    def _release(self) -> None:
        self._session = None


def read_model(path: Path, sha256: str | None = None) -> bytes:
    """The bytes of a model file, checked against `sha256` where given. Raises ModelError."""
    try:
        model = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read the model {path}: {error.strerror}; install mien again, or check --models"
        ) from error
    if sha256 is None:
        return model
    found = hashlib.sha256(model).hexdigest()
    if found != sha256:
        raise ModelError(
            f"the model {path} is damaged: its sha256 is {found[:12]}..., expected "
            f"{sha256[:12]}...; install mien again, or correct the catalog beside it"
        )
    return model


def available_providers() -> tuple[Provider, ...]:
    """The providers that the installed ONNX Runtime is built with; they may still not start."""
    built_in = _runtime().get_available_providers()
    return tuple(provider for provider in Provider if provider.ort_name in built_in)


def open_session(
    model: bytes, path: Path, *, provider: str, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """A bare session, for a graph that is no declared network; the rest as `OnnxRuntimeEngine`.

    path: for messages. Raises ModelError, DeviceError.
    """
    if provider == AUTO:
        return _open_best(model, path, threads)
    return _open(model, path, provider_named(provider), threads)


def _open_best(model: bytes, path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    installed = available_providers()
    reasons = []
    for provider in AUTO_ORDER:
        if provider not in installed:
            continue
        try:
            return _open(model, path, provider, threads)
        except DeviceError as error:
            reasons.append(str(error))
    raise DeviceError(f"no provider of ONNX Runtime works here: {'; '.join(reasons) or 'none'}")


def _open(
    model: bytes, path: Path, provider: Provider, threads: int | None
) -> onnxruntime.InferenceSession:
    """A session whose first provider is `provider`."""
    runtime = _runtime()
    installed = available_providers()
    if provider not in installed:
        names = ", ".join(p.short for p in installed) or "none"
        raise DeviceError(
            f"the provider {provider.short!r} is not installed (installed: {names}); "
            f"pip install {provider.package}"
        )
    try:
        session = _create(runtime, model, _session_options(runtime, threads), provider)
    except _failures() as error:
        reason = _one_line(error)
        if provider is Provider.CPU or type(error).__name__ in ("InvalidProtobuf", "InvalidGraph"):
            raise ModelError(f"ONNX Runtime cannot load the model {path}: {reason}") from error
        raise DeviceError(f"the provider {provider.short!r} does not start: {reason}") from error
    started = session.get_providers()
    if started[0] != provider.ort_name:
        raise DeviceError(
            f"the provider {provider.short!r} does not start: "
            f"{_missing_library(runtime, provider) or 'ONNX Runtime cannot say why'}; "
            f"install its driver and libraries, or use --provider {short_name(started[0])}"
        )
    return session


def _create(
    runtime: ModuleType, model: bytes, options: onnxruntime.SessionOptions, provider: Provider
) -> onnxruntime.InferenceSession:
    if provider is Provider.CPU:
        return runtime.InferenceSession(model, options, providers=[provider.ort_name])
    # Loading a provider's library prints through the process-wide logger, whatever `options` say.
    runtime.set_default_logger_severity(FATAL_ONLY)
    try:
        return runtime.InferenceSession(
            model,
            options,
            providers=[provider.ort_name, Provider.CPU.ort_name],
            enable_fallback=0,
        )
    finally:
        runtime.set_default_logger_severity(ORT_DEFAULT_SEVERITY)


def _missing_library(runtime: ModuleType, provider: Provider) -> str:
    """What the linker lacks for a provider, as it says it; empty where that is not the reason."""
    name = f"libonnxruntime_providers_{provider.short}.so"
    library = Path(runtime.__file__ or "").parent / "capi" / name
    if not library.exists():
        return ""
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        reason = str(error)
        return reason if "cannot open shared object" in reason else ""
    return ""


def _session_options(runtime: ModuleType, threads: int | None) -> onnxruntime.SessionOptions:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or DEFAULT_THREADS
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = FATAL_ONLY
    # Spinning threads would take the cores that decoding and encoding need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _stated(name: str, path: Path, metadata: Mapping[str, str]) -> Network:
    """The declaration in a graph's metadata, where it is that of `name`. Raises ModelError."""
    try:
        network = Network.from_metadata(metadata)
    except ModelError as error:
        raise ModelError(f"the model {path}: {error}") from error
    if network.name != name:
        raise ModelError(
            f"the model {path} states that it is the network {network.name!r}, not {name!r}; "
            "correct the catalog beside it"
        )
    return network


def _check_session(session: onnxruntime.InferenceSession, path: Path, network: Network) -> None:
    """Nothing, where the graph is what `network` declares. Raises ModelError."""
    _check_graph(f"input of {path}", session.get_inputs(), network, network.inputs)
    _check_graph(f"output of {path}", session.get_outputs(), network, network.outputs)
    metadata = session.get_modelmeta().custom_metadata_map
    if not network.matches_metadata(metadata):
        raise ModelError(
            f"the model {path} does not state that it is the network {network.name!r}; "
            "export it again, so that its metadata is Network.metadata() of the declaration"
        )


def _check_graph(
    where: str,
    nodes: list[onnxruntime.NodeArg],
    network: Network,
    specs: tuple[TensorSpec, ...],
) -> None:
    found = [f"{n.name} {ORT_TYPES.get(n.type, n.type)} {tuple(n.shape)}" for n in nodes]
    declared = [f"{spec.name} {np.dtype(spec.dtype).name} {spec.shape}" for spec in specs]
    if found != declared:
        raise ModelError(
            f"the {where} is {', '.join(found) or 'none'}, but the network {network.name!r} has "
            f"{', '.join(declared)}; use a model made for this version of mien"
        )


def _runtime() -> ModuleType:
    return importlib.import_module("onnxruntime")


def _failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: one class for each of its status codes, without a common base."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    statuses = [
        value
        for value in vars(state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*statuses, RuntimeError, ValueError)


def _one_line(error: Exception) -> str:
    """What ONNX Runtime says, without the place in its own source."""
    return SOURCE_PLACE.sub("", " ".join(str(error).split()))[:300]
