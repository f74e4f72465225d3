"""Weights go into a graph and come back, whatever the exporter calls them and however they lie."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mien.engines import ModelError, Network, TensorSpec
from mien.engines.diffusion import unet_network
from mien.engines.text_faces import encoder_network
from mien.export.models.small_unet import SmallSpec, SmallUNet
from mien.export.models.text_faces import TextEncoder
from mien.export.onnx_file import rounded_to_half, rounded_to_int8, store_small, to_onnx
from mien.export.read_back import read_back, renormalise

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


def normalised(seed: int) -> nn.Sequential:
    """Convolutions with normalisations that do something."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Conv2d(8, 8, 1, bias=False),
        nn.BatchNorm2d(8),
    )
    for part in (made[1], made[4]):
        nn.init.uniform_(part.weight, 0.5, 2)
        nn.init.normal_(part.bias)
        nn.init.normal_(part.running_mean)
        nn.init.uniform_(part.running_var, 0.5, 2)
    return made.eval()


def test_merged_normalisation_comes_back_fit_to_be_trained(tmp_path: Path) -> None:
    source, path = normalised(0), tmp_path / "tiny.onnx"
    to_onnx(source, IMAGE, path)
    found = read_back(normalised(1), IMAGE, path)
    batch = torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        wanted = source(batch)
        torch.testing.assert_close(found(batch), wanted, atol=1e-4, rtol=1e-4)
        assert (found.train()(batch) - wanted).abs().max() > 0.5, "its own normalisation differs"
        found = read_back(normalised(1), IMAGE, path)
        renormalise(found, batch)
        torch.testing.assert_close(found(batch), wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.train()(batch), wanted, atol=1e-3, rtol=1e-3)


def test_a_text_encoder_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, path = TextEncoder(20, embedding=12, hidden=128).eval(), tmp_path / "text.onnx"
    network = encoder_network(20, width=256)
    to_onnx(source, network, path)
    found = read_back(TextEncoder(20, embedding=12, hidden=128), network, path)
    tokens = torch.randint(0, 20, network.inputs[0].shape)
    with torch.no_grad():
        for mine, theirs in zip(found(tokens), source(tokens), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
