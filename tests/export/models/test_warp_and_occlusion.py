"""The editors' modules and the files made of them, untrained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.engines import OCCLUSION, WARP, ModelError, OnnxRuntimeEngine
from mien.export.models.warp import MOST_LIGHT, OcclusionNetwork, WarpNetwork
from mien.export.onnx_file import example_of, to_onnx
from tests.runtime.faces.shapes import mean_face

MEAN = torch.from_numpy(mean_face())


def warp_network() -> WarpNetwork:
    torch.manual_seed(3)
    network = WarpNetwork(torch.randn(8, 212) * 0.1, MEAN, width=8)
    for layer in (network.move, network.light):
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def occlusion_network() -> OcclusionNetwork:
    torch.manual_seed(4)
    return OcclusionNetwork().eval()


@pytest.mark.parametrize(
    ("network", "module"),
    [(WARP, warp_network), (OCCLUSION, occlusion_network)],
    ids=["warp", "occlusion"],
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
    network = WarpNetwork(torch.randn(8, 212), MEAN).eval()
    displacement, light = network(torch.rand(2, 1, 64, 64), torch.rand(2, 106, 2), torch.rand(2, 8))
    assert not displacement.any()
    assert not light.any()


def test_light_is_bounded_whatever_is_seen() -> None:
    network = warp_network()
    faces, landmarks = torch.rand(4, 1, 64, 64) * 50, torch.rand(4, 106, 2) * 5
    displacement, light = network(faces, landmarks, torch.eye(8)[:4])
    assert displacement.isfinite().all()
    assert 0 < light.abs().max() <= MOST_LIGHT


def test_a_mix_is_the_sum_of_its_emotions_by_their_weights() -> None:
    network = warp_network()
    face, points = torch.rand(1, 1, 64, 64), MEAN[None]
    happy, sad = (network(face, points, torch.eye(8)[[i]]) for i in (1, 2))
    mixed = network(face, points, 0.3 * torch.eye(8)[[1]] + 0.5 * torch.eye(8)[[2]])
    for one, other, both in zip(happy, sad, mixed, strict=True):
        torch.testing.assert_close(0.3 * one + 0.5 * other, both, atol=1e-5, rtol=1e-4)


def test_exposure_does_not_change_the_edit() -> None:
    network = warp_network()
    face, landmarks, target = torch.rand(1, 1, 64, 64), MEAN[None], torch.eye(8)[:1]
    for bright, dim in zip(
        network(face, landmarks, target),
        network(face * 0.5 + 0.2, landmarks, target),
        strict=True,
    ):
        assert (bright - dim).abs().max() < 0.2 * bright.abs().max()


def test_exposure_does_not_change_what_is_seen_to_cover() -> None:
    network = occlusion_network()
    face = torch.rand(1, 1, 128, 128)
    bright, dim = network(face), network(face * 0.5 + 0.2)
    assert bright.shape == (1, 2, 128, 128)
    assert (bright - dim).abs().max() < 0.2
