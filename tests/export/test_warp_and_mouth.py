"""The editors' modules and the files made of them, untrained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.engines import MOUTH, WARP, ModelError, OnnxRuntimeEngine
from mien.export.mouth import MouthNetwork
from mien.export.onnx_file import example_of, to_onnx
from mien.export.warp import MAX_DISPLACEMENT, MAX_GAIN, WarpNetwork


def warp_network() -> WarpNetwork:
    torch.manual_seed(3)
    network = WarpNetwork(torch.randn(8, 212) * 0.1, torch.rand(106, 2), width=8)
    for head in (network.move, network.gain):
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def mouth_network() -> MouthNetwork:
    torch.manual_seed(4)
    return MouthNetwork(width=6).eval()


@pytest.mark.parametrize(
    ("network", "module"), [(WARP, warp_network), (MOUTH, mouth_network)], ids=["warp", "mouth"]
)
def test_the_file_says_what_the_module_says(network, module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert to_onnx(module(), network, path, tolerance=1e-4) <= 1e-4
    feeds = example_of(network, 9)
    with OnnxRuntimeEngine(path, network) as engine, torch.inference_mode():
        found = engine.infer(feeds)
        wanted = module()(*(torch.from_numpy(feeds[spec.name]) for spec in network.inputs))
    for spec, tensor in zip(
        network.outputs, wanted if isinstance(wanted, tuple) else (wanted,), strict=True
    ):
        np.testing.assert_allclose(found[spec.name], tensor.numpy(), atol=1e-4)


def test_a_file_that_differs_from_its_module_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "warp.onnx"
    with pytest.raises(ModelError, match="differ"):
        to_onnx(warp_network(), WARP, path, tolerance=-1.0)
    assert not list(tmp_path.iterdir())


def test_an_untrained_editor_leaves_the_face_alone() -> None:
    network = WarpNetwork(torch.randn(8, 212), torch.rand(106, 2)).eval()
    displacement, gain = network(torch.rand(2, 1, 64, 64), torch.rand(2, 106, 2), torch.rand(2, 8))
    assert not displacement.any()
    assert not gain.any()


def test_edits_are_bounded_and_light_ends_before_the_border() -> None:
    network = warp_network()
    faces, marks = torch.rand(4, 1, 64, 64), torch.rand(4, 106, 2) * 5
    displacement, gain = network(faces, marks, torch.ones(4, 8) * 9)
    assert displacement.abs().max() <= MAX_DISPLACEMENT
    assert 0 < gain.abs().max() <= MAX_GAIN
    assert not gain[..., 0].any()
    assert not gain[:, :, -1].any()


def test_exposure_does_not_change_the_edit() -> None:
    network = warp_network()
    face, marks, target = torch.rand(1, 1, 64, 64), torch.rand(1, 106, 2), torch.eye(8)[:1]
    bright, _ = network(face, marks, target)
    dim, _ = network(face * 0.5 + 0.2, marks, target)
    assert (bright - dim).abs().max() < 0.2 * bright.abs().max()


def test_what_lies_in_the_hole_does_not_matter_to_the_mouth() -> None:
    network = mouth_network()
    mouth, target = torch.rand(1, 1, 48, 96), torch.eye(8)[:1]
    hole = torch.zeros(1, 1, 48, 96)
    hole[..., 16:32, 30:60] = 1
    other = mouth * (1 - hole) + hole * torch.rand_like(mouth)
    torch.testing.assert_close(network(mouth, hole, target), network(other, hole, target))
