"""The two networks that find faces, as torch modules and as ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from mien.engines.errors import ModelError
from mien.engines.network import Network, TensorSpec
from mien.engines.networks import DETECTOR, LANDMARKS
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.export.models.landmarks import DetectorNetwork, LandmarkNetwork, cell_centres
from mien.export.onnx_file import OPSET, PARITY_KEY, example_of, sha256_of, to_onnx


@pytest.mark.parametrize(
    ("module", "network"),
    [(LandmarkNetwork, LANDMARKS), (DetectorNetwork, DETECTOR)],
    ids=["landmarks", "detector"],
)
def test_a_network_gives_the_same_in_torch_and_onnx_runtime(
    module: type[nn.Module], network: Network, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "made.onnx"
    error = to_onnx(module(), network, path, facts={"paper": "none"})
    assert error < 1e-4
    graph = onnx.load(str(path))
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert facts["mien.paper"] == "none"
    assert float(facts[PARITY_KEY]) == pytest.approx(error, rel=0.01)
    assert network.matches_metadata(facts)
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [OPSET]
    assert len(sha256_of(path)) == 64
    assert sorted(tmp_path.iterdir()) == [path]
    with OnnxRuntimeEngine(path, network) as engine:
        assert engine.infer(example_of(network, 9)).keys() == {s.name for s in network.outputs}


class Random(nn.Module):
    """Gives something else in every call, so that no file can agree with it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return x * 2.0
        return x * torch.rand(())


def test_a_file_that_differs_from_its_module_is_refused(tmp_path: Path) -> None:
    network = Network("odd", (TensorSpec("x", (1, 4)),), (TensorSpec("y", (1, 4)),))
    with pytest.raises(ModelError, match="odd: torch and ONNX Runtime differ"):
        to_onnx(Random(), network, tmp_path / "odd.onnx")
    assert not list(tmp_path.iterdir())


def test_cells_are_in_row_order_and_finest_first() -> None:
    centres, strides = cell_centres()
    assert centres.shape == (2100, 2)
    np.testing.assert_array_equal(centres[0], (3.5, 3.5))
    np.testing.assert_array_equal(centres[1], (11.5, 3.5))
    np.testing.assert_array_equal(centres[1600], (7.5, 7.5))
    np.testing.assert_array_equal(centres[2099], (303.5, 303.5))
    assert [int(strides[i]) for i in (1599, 1600, 2000)] == [8, 16, 32]


def test_the_detector_gives_boxes_around_their_cells() -> None:
    scores, boxes, points = DetectorNetwork().eval()(torch.rand(1, 1, 320, 320))
    centres, _ = cell_centres()
    assert (boxes[0, :, :2] < centres).all()
    assert (boxes[0, :, 2:] > centres).all()
    assert scores.max() < 0.2, "at the start nearly every cell must be thought empty"
    assert points.shape == (1, 2100, 3, 2)


def test_landmarks_start_near_the_middle_of_the_crop() -> None:
    landmarks, score = LandmarkNetwork().eval()(torch.rand(2, 1, 112, 112))
    assert landmarks.shape == (2, 106, 2)
    assert score.shape == (2, 1)
    assert float((landmarks - 0.5).detach().abs().max()) < 0.3
