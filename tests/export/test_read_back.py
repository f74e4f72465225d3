"""Weights go into a graph and come back, whatever the exporter calls them and however they lie."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mien.engines import ModelError, Network, TensorSpec
from mien.engines.diffusion import unet_network
from mien.export.models.small_unet import SmallSpec, SmallUNet
from mien.export.onnx_file import rounded_to_half, rounded_to_int8, store_small, to_onnx
from mien.export.read_back import read_back, weights_of

SPEC = SmallSpec(semantic=32, widths=(16, 16, 32), blocks=1, embedding=64, steps=2)
DECLARED = unet_network("diffusion_vae_2", "sigma", labels=7, semantic=32, batch=1)
IMAGE = Network("tiny", (TensorSpec("image", (1, 3, 8, 8)),), (TensorSpec("logits", (1, 8, 8, 8)),))


def shaken(seed: int) -> SmallUNet:
    """A UNet none of whose weights is at a constant that the exporter could fold."""
    torch.manual_seed(seed)
    made = SmallUNet(SPEC)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.2)
    made.sigmas.copy_(torch.tensor([2.5, 0.6, 0.0]))
    return made.eval()


@pytest.mark.parametrize("rounded", [rounded_to_half, rounded_to_int8])
def test_a_network_comes_back_as_it_was_exported(rounded, tmp_path: Path) -> None:
    source = rounded(shaken(0))
    path = tmp_path / "unet.onnx"
    to_onnx(source, DECLARED, path)
    assert store_small(path) > 10
    other = shaken(1)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    found = read_back(other, DECLARED, path)
    for key, weight in source.named_parameters():
        assert torch.equal(found.get_parameter(key), weight), key
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())


def test_what_the_graph_does_not_hold_is_named(tmp_path: Path) -> None:
    path = tmp_path / "unet.onnx"
    to_onnx(shaken(0), DECLARED, path)
    deeper = SmallUNet(SmallSpec(semantic=32, widths=(16, 16, 32), blocks=2, embedding=64, steps=2))
    with pytest.raises(ModelError, match=r"unet.onnx does not hold down\.0\.1.* and \d+ more of"):
        read_back(deeper, DECLARED, path)


def test_merged_normalisation_is_not_taken_out_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)).eval()
    nn.init.uniform_(module[1].running_var, 0.5, 2)
    path = tmp_path / "tiny.onnx"
    to_onnx(module, IMAGE, path)
    assert weights_of(path)
    with pytest.raises(ModelError, match="train from the beginning"):
        read_back(module, IMAGE, path)
