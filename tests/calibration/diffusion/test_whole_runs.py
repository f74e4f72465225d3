"""A UNet as it is shipped: whole runs in torch, in ONNX Runtime and in FP16 lead to one face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from mien.calibration.audit.examine import audit
from mien.calibration.diffusion.precision import Faces, half_unet, psnr_db, run_faces
from mien.engines.engine import Engine
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.export.models.small_unet import SmallUNet
from mien.export.onnx_file import store_small
from mien.runtime.methods.diffusion.sampler import SamplerOptions
from tests.runtime.methods.diffusion.networks import unet_module, write_unet

NAME = "diffusion_label"


class TorchEngine(Engine):
    """A UNet in torch, in FP32, in the place of the engine of its file."""

    def __init__(self, module: SmallUNet, like: Engine) -> None:
        super().__init__(like.network, "PyTorch", like.metadata)
        self._module = module

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = [torch.from_numpy(feeds[spec.name]) for spec in self.network.inputs]
        with torch.no_grad():
            return {"denoised": self._module(*given).numpy()}

    def _release(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unet(tmp_path_factory.mktemp("unet"), "label") / f"{NAME}.onnx"


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Two smooth faces of chance, asked to be happy and sad."""
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.uniform(-0.8, 0.8, (2, 1, 6, 6)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, 48, mode="bicubic", align_corners=False)
    return Faces(smooth.clamp(-1, 1).numpy(), np.eye(7, dtype=np.float32)[[3, 4]])


@pytest.mark.parametrize("start", [2.5, 80.0], ids=["edit", "from the highest level"])
def test_fifty_steps_each_way_lead_to_one_face(path: Path, faces: Faces, start: float) -> None:
    options = SamplerOptions(steps=50, guidance=3.0, start=start)
    with OnnxRuntimeEngine(path, NAME) as engine:
        found = run_faces(engine, faces, options)
        expected = run_faces(TorchEngine(unet_module(), engine), faces, options)
    assert psnr_db(expected, found) >= 40
    assert psnr_db(expected, faces.faces) < 40, "something was edited"


def test_a_file_in_half_precision_has_an_fp16_variant_that_the_audit_passes(
    path: Path, faces: Faces, tmp_path: Path
) -> None:
    """Weights kept in half precision are cast in the graph: calibration has to see through it."""
    stored = tmp_path / "stored" / path.name
    stored.parent.mkdir()
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            halved = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(halved, tensor.name))
    onnx.save(model, stored)
    options = SamplerOptions(steps=6, guidance=2.0)
    with OnnxRuntimeEngine(stored, NAME) as engine:
        expected = run_faces(engine, faces, options)
    assert store_small(stored) > 0
    half = half_unet(stored, faces, options)
    assert half.run_db >= 40
    assert len(half.kept) < half.nodes
    written = tmp_path / path.name
    written.write_bytes(half.model.SerializeToString())
    for file in (stored, written):
        assert not [found for found in audit(file).findings if found.severity == "error"]
        with OnnxRuntimeEngine(file, NAME) as engine:
            assert psnr_db(expected, run_faces(engine, faces, options)) >= 40
