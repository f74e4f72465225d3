from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mien.engines import (
    WARP,
    Catalog,
    DeviceError,
    EngineError,
    ModelError,
    Network,
    OnnxRuntimeEngine,
    Provider,
    TensorSpec,
)
from mien.engines.ort import backend as onnx_runtime
from mien.engines.ort.backend import available_providers, open_session
from mien.engines.ort.providers import install_line
from tests.engines.tiny import TINY, tiny_feeds, write_tiny


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def test_provider_is_read_back_from_the_session(model: Path) -> None:
    with OnnxRuntimeEngine(model, TINY, provider="cpu") as engine:
        assert engine.provider == "cpu"


def test_auto_takes_something_that_works_and_says_what(model: Path) -> None:
    with OnnxRuntimeEngine(model, TINY, provider="auto") as engine:
        assert engine.provider in [provider.short for provider in available_providers()]
        assert engine.infer(tiny_feeds())["total"] == 5


def test_provider_that_is_not_installed_is_one_line_with_what_to_install(model: Path) -> None:
    missing = next(p for p in Provider if p not in available_providers())
    with pytest.raises(DeviceError) as error:
        OnnxRuntimeEngine(model, TINY, provider=missing.short)
    message = str(error.value)
    assert f"the provider {missing.short!r} is not installed (installed: " in message
    assert message.endswith(install_line(missing))
    assert "\n" not in message


def test_unknown_provider_names_the_known_ones(model: Path) -> None:
    with pytest.raises(DeviceError, match=r"unknown provider 'gpu' .known: cpu, cuda, .*, auto"):
        OnnxRuntimeEngine(model, TINY, provider="gpu")


def test_provider_that_does_not_start_is_never_replaced(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a machine without a driver shows: the provider is built in, and the session goes without.
    built_in = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built_in)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, **_: session(model, options, providers=built_in[1:]),
    )
    with pytest.raises(DeviceError, match=r"'cuda' does not start: .* use --provider cpu"):
        OnnxRuntimeEngine(model, TINY, provider="cuda")
    with OnnxRuntimeEngine(model, TINY, provider="auto") as engine:
        assert engine.provider == "cpu"


def test_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read the model .*none.onnx: No such file"):
        OnnxRuntimeEngine(tmp_path / "none.onnx", TINY)


def test_folder_in_place_of_a_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the model"):
        OnnxRuntimeEngine(tmp_path, TINY)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12"], ids=repr)
def test_file_that_is_no_graph_is_a_model_error_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx is no ONNX file") as error:
        OnnxRuntimeEngine(tmp_path / "bad.onnx", TINY)
    assert "\n" not in str(error.value)


def test_truncated_file_is_a_model_error(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-40])
    with pytest.raises(ModelError, match="is no ONNX file"):
        OnnxRuntimeEngine(model, TINY)


def test_session_reads_no_weights_from_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load(str(Catalog.bundled().entry(WARP).path))
    weight = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "w.data").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.data")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="cannot load the model"):
        open_session(graph.SerializeToString(), tmp_path / "warp.onnx", provider="cpu")


def test_hash_is_checked_before_the_file_is_loaded(model: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.onnx is damaged: its sha256 is "):
        OnnxRuntimeEngine(model, TINY, sha256="0" * 64)


def test_graph_with_other_shapes_is_not_the_declared_network(tmp_path: Path) -> None:
    write_tiny(tmp_path / "wide.onnx", side=5)
    with pytest.raises(ModelError, match=r"x float32 \(1, 5\), .* 'tiny' has x float32 \(1, 4\)"):
        OnnxRuntimeEngine(tmp_path / "wide.onnx", TINY)


@pytest.mark.parametrize(
    "network",
    [
        Network("tiny", TINY.inputs[:1], TINY.outputs),
        Network("tiny", TINY.inputs[::-1], TINY.outputs),
        Network("tiny", (TensorSpec("y", (1, 4)), TINY.inputs[1]), TINY.outputs),
        Network("tiny", TINY.inputs, (*TINY.outputs, TensorSpec("more", (1, 1)))),
        Network("tiny", TINY.inputs, (TINY.outputs[0], TensorSpec("total", (1, 1), "int64"))),
    ],
    ids=["input missing", "order", "name", "output missing", "dtype"],
)
def test_other_declarations_are_refused(model: Path, network: Network) -> None:
    with pytest.raises(ModelError, match="use a model made for this version of mien"):
        OnnxRuntimeEngine(model, network)


@pytest.mark.parametrize("metadata", [{}, {"mien.network": "{}"}], ids=["none", "other"])
def test_graph_that_does_not_state_its_network_is_refused(
    tmp_path: Path, metadata: dict[str, str]
) -> None:
    write_tiny(tmp_path / "tiny.onnx", metadata)
    with pytest.raises(ModelError, match="does not state that it is the network 'tiny'"):
        OnnxRuntimeEngine(tmp_path / "tiny.onnx", TINY)


def test_failure_of_a_run_is_an_engine_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OnnxRuntimeEngine(model, TINY)
    # Past the checks, ONNX Runtime meets an input of the wrong type itself.
    monkeypatch.setattr(Network, "check_inputs", lambda *_: None)
    with pytest.raises(EngineError, match="tiny: the run failed on cpu: ") as error:
        engine.infer({**tiny_feeds(), "x": np.zeros((1, 4))})
    assert "\n" not in str(error.value)


def test_one_thread_runs_a_network_unless_more_are_asked_for(model: Path) -> None:
    asked = {None: 1, 1: 1, 4: 4}
    for threads, given in asked.items():
        engine = OnnxRuntimeEngine(model, TINY, threads=threads)
        assert engine._session is not None
        assert engine._session.get_session_options().intra_op_num_threads == given


def test_opening_and_running_prints_nothing(model: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from mien.engines import OnnxRuntimeEngine\n"
        "from tests.engines.tiny import TINY, tiny_feeds\n"
        f"OnnxRuntimeEngine({str(model)!r}, TINY).infer(tiny_feeds())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_engines_package_does_not_load_onnx_runtime() -> None:
    program = "import sys, mien.engines; sys.exit('onnxruntime' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_session_leaves_the_cores_to_who_decodes_and_encodes(model: Path) -> None:
    session = open_session(model.read_bytes(), model, provider="cpu", threads=2)
    options = session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.inter_op_num_threads == 1
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL


@pytest.mark.parametrize(
    ("provider", "bound"),
    [
        ("CUDAExecutionProvider", [("cuda", 1)]),
        ("TensorrtExecutionProvider", [("cuda", 1)]),
        ("CPUExecutionProvider", []),
    ],
)
def test_inputs_and_outputs_are_bound_on_devices_with_memory_of_their_own(
    model: Path, monkeypatch: pytest.MonkeyPatch, provider: str, bound: list[tuple[str, int]]
) -> None:
    made: list[tuple[str, int]] = []
    session = onnxruntime.InferenceSession

    class Elsewhere:
        """A session of the processor that says it is another provider's."""

        def __init__(self, model: bytes, options: object, **_: object) -> None:
            self._session = session(model, options, providers=["CPUExecutionProvider"])

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

        def get_providers(self) -> list[str]:
            return [provider]

        def get_provider_options(self) -> dict[str, dict[str, str]]:
            return {provider: {"device_id": "1"}}

        def get_provider_graph_assignment_info(self) -> list[object]:
            return []

    def binding(_session: object, _network: Network, *, device: str, index: int) -> None:
        made.append((device, index))

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Elsewhere)
    monkeypatch.setattr(onnx_runtime, "DeviceBinding", binding)
    asked = {name.ort_name: name.short for name in Provider}[provider]
    suffix = ":1" if bound else ""
    OnnxRuntimeEngine(model, TINY, provider=asked + suffix).close()
    assert made == bound
