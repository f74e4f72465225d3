"""Networks run by ONNX Runtime, on the provider that was asked for and no other.

On a device, inputs and outputs may stay at fixed places (`DeviceBinding`). `onnxruntime` is
imported when the first engine opens, so that importing this package stays quick.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from mien.engines.engine import Engine
from mien.engines.errors import DeviceError, EngineError, ModelError
from mien.engines.graph.cost import check_cost
from mien.engines.graph.file import ModelFile, declared_network, read_metadata, read_model_file
from mien.engines.network import Network, TensorSpec
from mien.engines.ort.providers import (
    AUTO,
    AUTO_ORDER,
    Provider,
    ProviderOptions,
    import_onnxruntime,
    install_line,
    provider_named,
    short_name,
    split_device,
)
from mien.engines.system.limits import MAX_MEMORY

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


# These networks gain nothing from a second thread (landmarks: 1.4 ms with one, 1.4 to 1.8 with
# two), and the other core has a video to decode and encode.
DEFAULT_THREADS = 1
FATAL_ONLY = 4  # ONNX Runtime's log severity; what fails is raised, so nothing needs printing.
ORT_DEFAULT_SEVERITY = 2
BUNDLED_FOLDER = Path(__file__).parent.parent / "models"
BUNDLED_FOLDERS = (BUNDLED_FOLDER, BUNDLED_FOLDER / "int8")
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
# What a graph calls the first side of its inputs and outputs where it takes any number at once.
FREE_BATCH = "batch"
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
    provider: a short name of `Provider`, or `auto` for the best that truly works; `cuda:1` is the
        second of several devices. Single nodes a
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
        file = read_model_file(path, sha256)
        metadata = read_metadata(file.graph, path)
        check_runnable(file.graph, path)
        session = open_session(
            _graph_of(file), path, provider=provider, threads=threads, parts=_parts_of(file)
        )
        del file
        if isinstance(network, str):
            network = declared_network(network, path, metadata)
        _check_session(session, path, network)
        declared_network(network, path, metadata)
        super().__init__(network, _what_runs(session), metadata)
        self._session: onnxruntime.InferenceSession | None = session
        self._output_names = [spec.name for spec in network.outputs]
        self._takes_many = all(_has_free_batch(node.shape) for node in session.get_inputs())
        self._failures = _failures()
        self._binding = _bind(session, network)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._session is None:
            raise EngineError(f"{self.network.name}: the session is closed; open it again")
        try:
            if self._binding is not None:
                results = self._binding.run(feeds)
            else:
                results = self._session.run(self._output_names, dict(feeds))
        except self._failures as error:
            raise EngineError(
                f"{self.network.name}: the run failed on {self.provider}: {_one_line(error)}"
            ) from error
        return dict(zip(self._output_names, results, strict=True))

    def _run_each(self, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        if not self._takes_many or self._binding is not None or len(feeds) < 2:
            return super()._run_each(feeds)
        names = [spec.name for spec in self.network.inputs]
        results = self._run(
            {name: np.concatenate([feed[name] for feed in feeds]) for name in names}
        )
        return [
            {name: values[index : index + 1] for name, values in results.items()}
            for index in range(len(feeds))
        ]

    def _release(self) -> None:
        self._binding = None
        self._session = None


def _takes_parts() -> bool:
    """Whether this ONNX Runtime takes the weights of a graph from memory."""
    runtime = import_onnxruntime()
    return hasattr(runtime.SessionOptions, "add_external_initializers_from_files_in_memory")


def _graph_of(file: ModelFile) -> bytes:
    return file.graph if _takes_parts() else file.whole()


def _parts_of(file: ModelFile) -> Mapping[str, bytes]:
    return file.parts if _takes_parts() else {}


def check_runnable(model: bytes, path: Path, *, limit: int = MAX_MEMORY) -> None:
    """Check that a model from elsewhere takes no more memory and time than a network may.

    model: as `read_model` gave it. Those that come with mien are known, and where there is no ONNX
    Runtime nothing is. Raises ModelError.
    """
    if path.parent in BUNDLED_FOLDERS or find_spec("onnxruntime") is None:
        return

    def infer_sizes(bare: bytes) -> Sequence[onnxruntime.NodeArg]:
        runtime = import_onnxruntime()
        options = _session_options(runtime, threads=1)
        # Nothing that is constant is computed then.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        cpu = ProviderOptions(Provider.CPU)
        try:
            outputs: Sequence[onnxruntime.NodeArg] = _create(
                runtime, bare, options, cpu
            ).get_outputs()
        except _failures() as error:
            raise _unloadable(path, error) from error
        return outputs

    check_cost(model, path, infer_sizes, limit=limit)


def available_providers() -> tuple[Provider, ...]:
    """The providers that the installed ONNX Runtime is built with; they may still not start."""
    built_in = import_onnxruntime().get_available_providers()
    return tuple(provider for provider in Provider if provider.ort_name in built_in)


def open_session(
    model: bytes,
    path: Path,
    *,
    provider: str,
    threads: int | None = None,
    parts: Mapping[str, bytes] | None = None,
) -> onnxruntime.InferenceSession:
    """A bare session, for a graph that is no declared network; the rest as `OnnxRuntimeEngine`.

    path: for messages. parts: the files that hold weights of it, by name, where they are not in it.

    Raises ModelError, DeviceError.
    """
    name, index = split_device(provider)
    weights = _Weighed(model, parts or {})
    if name == AUTO:
        return _open_best(weights, path, threads)
    return _open(weights, path, ProviderOptions.of(provider_named(name), index), threads)


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A model's bytes, and those of the files beside it that hold its weights."""

    model: bytes
    parts: Mapping[str, bytes]

    def add_to(self, options: onnxruntime.SessionOptions) -> onnxruntime.SessionOptions:
        """Options from which a session takes the weights; it copies them."""
        if self.parts:
            options.add_external_initializers_from_files_in_memory(
                list(self.parts), list(self.parts.values()), list(map(len, self.parts.values()))
            )
        return options


def _open_best(model: _Weighed, path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    installed = available_providers()
    reasons = []
    for provider in AUTO_ORDER:
        if provider not in installed:
            continue
        try:
            return _open(model, path, ProviderOptions(provider), threads)
        except DeviceError as error:
            reasons.append(str(error))
    raise DeviceError(f"no provider of ONNX Runtime works here: {'; '.join(reasons) or 'none'}")


def _open(
    model: _Weighed, path: Path, asked: ProviderOptions, threads: int | None
) -> onnxruntime.InferenceSession:
    """A session whose first provider is the one asked for, and which has run once there."""
    runtime = import_onnxruntime()
    provider = asked.provider
    installed = available_providers()
    if provider not in installed:
        names = ", ".join(p.short for p in installed) or "none"
        raise DeviceError(
            f"the provider {provider.short!r} is not installed (installed: {names}); "
            f"{install_line(provider)}"
        )
    try:
        options = model.add_to(_session_options(runtime, threads))
        session = _create(runtime, model.model, options, asked)
    except _failures() as error:
        if provider is Provider.CPU or type(error).__name__ in ("InvalidProtobuf", "InvalidGraph"):
            raise _unloadable(path, error) from error
        reason = _one_line(error)
        raise DeviceError(f"the provider {provider.short!r} does not start: {reason}") from error
    started = session.get_providers()
    if started[0] != provider.ort_name:
        raise DeviceError(
            f"the provider {provider.short!r} does not start: "
            f"{_missing_library(runtime, provider) or 'ONNX Runtime cannot say why'}; "
            f"install its driver and libraries, or use --provider {short_name(started[0])}"
        )
    if provider is not Provider.CPU:
        _try(session, provider)
    return session


def _try(session: onnxruntime.InferenceSession, provider: Provider) -> None:
    """Run the session once, for a provider may be built without code for this device.

    Raises DeviceError.
    """
    inputs = session.get_inputs()
    if any(node.type not in ORT_TYPES or _is_free(node.shape) for node in inputs):
        return
    feeds = {node.name: np.zeros(node.shape, ORT_TYPES[node.type]) for node in inputs}
    try:
        session.run(None, feeds)
    except _failures() as error:
        raise DeviceError(
            f"the provider {provider.short!r} does not run here: {_one_line(error)}; "
            "use --provider cpu"
        ) from error
    nodes = _nodes_by_provider(session)
    if nodes and not nodes.get(provider.ort_name):
        raise DeviceError(
            f"the provider {provider.short!r} runs no part of the network; use --provider cpu"
        )


def _is_free(shape: Sequence[object]) -> bool:
    return any(not isinstance(side, int) for side in shape)


def _what_runs(session: onnxruntime.InferenceSession) -> str:
    """The provider of a session; where ONNX Runtime tells, all that have nodes: `cuda+cpu`."""
    asked = session.get_providers()[0]
    nodes = _nodes_by_provider(session)
    others = [name for name in nodes if name != asked]
    label = "+".join(short_name(name) for name in (asked, *others))
    # mien's own backend is called `tensorrt`.
    return f"onnxruntime {label}" if asked == Provider.TENSORRT.ort_name else label


def _nodes_by_provider(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """How many nodes each provider has; empty where this ONNX Runtime does not tell."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None or session.get_providers() == [Provider.CPU.ort_name]:
        return {}
    counts: Counter[str] = Counter()
    for subgraph in tell():
        counts[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(counts)


def _bind(session: onnxruntime.InferenceSession, network: Network) -> DeviceBinding | None:
    """Fixed tensors on the device, where the session runs on one with memory of its own."""
    provider = session.get_providers()[0]
    if provider not in (Provider.CUDA.ort_name, Provider.TENSORRT.ort_name):
        return None
    index = int(session.get_provider_options()[provider].get("device_id", "0"))
    return DeviceBinding(session, network, device="cuda", index=index)


def _create(
    runtime: ModuleType,
    model: bytes,
    options: onnxruntime.SessionOptions,
    asked: ProviderOptions,
) -> onnxruntime.InferenceSession:
    name = asked.provider.ort_name
    if asked.provider is Provider.CPU:
        return runtime.InferenceSession(model, options, providers=[name], enable_fallback=0)
    if hasattr(runtime.InferenceSession, "get_provider_graph_assignment_info"):
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Loading a provider's library prints through the process-wide logger, whatever `options` say.
    runtime.set_default_logger_severity(FATAL_ONLY)
    try:
        return runtime.InferenceSession(
            model,
            options,
            providers=[(name, asked.options()), Provider.CPU.ort_name],
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
    # A graph may name files for its weights. Whoever hashed the graph did not hash those, and they
    # would be looked for in the working folder: there are none in this place.
    options.add_session_config_entry(EXTERNAL_FOLDER, os.devnull)
    return options


def _check_session(session: onnxruntime.InferenceSession, path: Path, network: Network) -> None:
    """Raise ModelError where the graph is not what `network` declares."""
    _check_graph(f"input of {path}", session.get_inputs(), network, network.inputs)
    _check_graph(f"output of {path}", session.get_outputs(), network, network.outputs)


def _check_graph(
    where: str,
    nodes: list[onnxruntime.NodeArg],
    network: Network,
    specs: tuple[TensorSpec, ...],
) -> None:
    found = [f"{n.name} {ORT_TYPES.get(n.type, n.type)} {_single(n.shape)}" for n in nodes]
    declared = [f"{spec.name} {np.dtype(spec.dtype).name} {spec.shape}" for spec in specs]
    if found != declared:
        raise ModelError(
            f"the {where} is {', '.join(found) or 'none'}, but the network {network.name!r} has "
            f"{', '.join(declared)}; use a model made for this version of mien"
        )


def _has_free_batch(shape: Sequence[object]) -> bool:
    return bool(shape) and shape[0] == FREE_BATCH


def _single(shape: Sequence[object]) -> tuple[object, ...]:
    """A shape with a batch of one where the batch is free."""
    return (1, *shape[1:]) if _has_free_batch(shape) else tuple(shape)


def _failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: one class for each of its status codes, without a common base."""
    state = import_onnxruntime("onnxruntime.capi.onnxruntime_pybind11_state")
    statuses = [
        value
        for value in vars(state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*statuses, RuntimeError, ValueError)


def _unloadable(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"ONNX Runtime cannot load the model {path}: {_one_line(error)}; mien audit says more, or "
        "export it again"
    )


def _one_line(error: Exception) -> str:
    """What ONNX Runtime says, without the place in its own source."""
    return SOURCE_PLACE.sub("", " ".join(str(error).split()))[:300]
