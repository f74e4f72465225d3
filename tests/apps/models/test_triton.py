from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest

from mien.apps.main import run
from mien.apps.models.triton import MODEL
from mien.engines import Catalog, MienError
from mien.engines.networks import NETWORKS

SAMPLE = Path(__file__).parents[3] / "apps/sample/sample.mp4"
NAMES = [*(network.name for network in NETWORKS), "mien_filter"]
Captured = pytest.CaptureFixture[str]


def test_every_config_is_one_by_tritons_own_schema(tmp_path: Path) -> None:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    assert run(["export-triton", str(tmp_path / "served")]) == 0
    configs = {}
    for folder in (tmp_path / "served").iterdir():
        config = schema.ModelConfig()
        text_format.Parse((folder / "config.pbtxt").read_text(), config)
        assert config.name == folder.name
        configs[folder.name] = config
    assert sorted(configs) == sorted(NAMES)
    for network in NETWORKS:
        config = configs[network.name]
        for specs, tensors in ((network.inputs, config.input), (network.outputs, config.output)):
            stated = [(tensor.name, tuple(tensor.dims)) for tensor in tensors]
            assert stated == [(spec.name, spec.shape) for spec in specs]
            assert {tensor.data_type for tensor in tensors} == {schema.TYPE_FP32}
        assert config.max_batch_size == 0
        assert not config.HasField("dynamic_batching"), "its batch is not dynamic"
        assert config.backend == "onnxruntime"
    assert configs["mien_filter"].HasField("sequence_batching")


def test_the_repository_holds_the_shipped_files(tmp_path: Path, capsys: Captured) -> None:
    served = tmp_path / "served"
    assert run(["export-triton", str(served)]) == 0
    assert "tritonserver" in capsys.readouterr().out
    for network in NETWORKS:
        shipped = Catalog.bundled().entry(network).path.read_bytes()
        assert (served / network.name / "1/model.onnx").read_bytes() == shipped
    assert run(["export-triton", str(served)]) == 2
    assert "not empty" in capsys.readouterr().err


class Tensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> np.ndarray:
        return self.values


class Request:
    """Of another model: answered by the engine of that name."""

    def __init__(
        self, model_name: str, requested_output_names: list[str], inputs: list[Tensor]
    ) -> None:
        self._name, self._inputs = model_name, inputs
        assert requested_output_names

    def exec(self) -> SimpleNamespace:
        network = next(network for network in NETWORKS if network.name == self._name)
        with Catalog.bundled().open(network) as engine:
            found = engine.infer({tensor.name: tensor.values for tensor in self._inputs})
        return SimpleNamespace(outputs=found, has_error=lambda: False)


def backend() -> ModuleType:
    """What Triton's Python backend offers, as far as the program uses it."""
    module = ModuleType("triton_python_backend_utils")
    offered = {
        "Tensor": Tensor,
        "InferenceRequest": Request,
        "TritonError": lambda text: text,
        "InferenceResponse": lambda output_tensors=(), error=None: SimpleNamespace(
            outputs=output_tensors, error=error
        ),
        "get_input_tensor_by_name": lambda request, name: Tensor(name, request[name]),
        "get_output_tensor_by_name": lambda answer, name: Tensor(name, answer.outputs[name]),
    }
    vars(module).update(offered)
    return module


def test_the_served_filter_edits_as_the_filter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.runtime import Filter

    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend())
    program: dict[str, object] = {"__name__": "model"}
    exec(compile(MODEL, "model.py", "exec"), program)
    served = program["TritonPythonModel"]()  # type: ignore[operator]
    served.initialize({})
    with av.open(str(SAMPLE)) as container:
        frames = [
            frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)
        ][:6]

    def answer(index: int, target: bytes) -> SimpleNamespace:
        request = {
            "frame": frames[index],
            "time_s": np.array([index / 30], np.float32),
            "target": np.array([target], object),
            "START": np.array([index == 0], np.float32),
        }
        return served.execute([request])[0]  # type: ignore[no-any-return]

    with Filter("happy", precision="fp32") as own:
        for index, frame in enumerate(frames):
            (edited,) = answer(index, b"happy").outputs
            expected = own(frame, float(np.float32(index / 30)))
            assert np.array_equal(edited.as_numpy(), expected)
    assert not np.array_equal(expected, frames[-1])
    assert "cheese" in answer(0, b"cheese").error
    served.finalize()


def test_damaged_models_are_not_exported(tmp_path: Path) -> None:
    from mien.apps.models.triton import export_triton
    from tests.apps.stand_in import write_models

    models = write_models(tmp_path / "models")
    (models / "warp.onnx").write_bytes(b"no network")
    with pytest.raises(MienError, match=r"warp\.onnx"):
        export_triton(tmp_path / "served", models)
    assert not (tmp_path / "served").exists()
