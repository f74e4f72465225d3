"""The second encoder: what it corrects, how it trains and goes on, and its graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mien.engines.errors import UsageError
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.export.models.face_encoder import FaceEncoder, RefinedEncoder
from mien.export.models.stylegan2 import Synthesis
from mien.training.__main__ import main
from mien.training.latent.data import load_space
from mien.training.latent.refine import unexplained
from tests.training.latent.fixtures import Made, make


class Drawing(nn.Module):
    """A generator that knows one face."""

    def __init__(self, face: torch.Tensor) -> None:
        super().__init__()
        self.face = face

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.face.expand(len(codes), -1, -1, -1), scale_factor=2)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path)


def refine(made: Made, minutes: float, *further: str) -> dict[str, object]:
    """What `refined.pt` holds after a training to `minutes`."""
    assert main(["latent-refine", *made.words(minutes), "--batch", "16", *further]) == 0
    state: dict[str, object] = torch.load(made.work / "refined.pt", weights_only=True)
    return state


def test_a_face_that_is_drawn_as_it_is_needs_no_correction() -> None:
    torch.manual_seed(0)
    first, second = FaceEncoder(128).eval(), FaceEncoder(128).eval()
    face = torch.rand(1, 1, 64, 64) * 2 - 1
    with torch.inference_mode():
        same = RefinedEncoder(first, second, Drawing(face), 3)(face)  # type: ignore[arg-type]
        other = RefinedEncoder(first, second, Drawing(-face), 3)(face)  # type: ignore[arg-type]
        torch.testing.assert_close(same, first(face))
    assert (other - same).abs().max() > 1e-3


def test_only_the_last_correction_gives_the_second_encoder_a_gradient_and_nothing_else_one() -> (
    None
):
    torch.manual_seed(0)
    encoder = FaceEncoder(64).eval().requires_grad_(requires_grad=False)
    second, generator = FaceEncoder(64).eval(), Synthesis(64).requires_grad_(requires_grad=False)
    face = torch.rand(2, 1, 64, 64) * 2 - 1
    RefinedEncoder(encoder, second, generator, 2)(face).square().sum().backward()
    assert all(p.grad is not None for p in second.parameters())
    assert all(p.grad is None for p in (*encoder.parameters(), *generator.parameters()))


def test_what_is_unexplained_is_a_share_of_the_variance() -> None:
    real = torch.randn(3, 1, 8, 8)
    mean = real.mean((1, 2, 3), keepdim=True).expand_as(real)
    torch.testing.assert_close(unexplained(real, mean), torch.full((3,), 63 / 64))
    assert unexplained(real, real).sum() == 0


@pytest.mark.slow
def test_the_second_encoder_trains_goes_on_and_leaves_the_rest_alone(made: Made) -> None:
    first = refine(made, 0.01)
    given = torch.load(made.work / "latent.pt", weights_only=True)
    before, average, critic = given["average"], first["average"], first["critic"]
    torch.testing.assert_close(critic, given["critic"], rtol=0, atol=0)  # the mappers' own begins
    assert isinstance(average, dict)
    for name, value in before.items():
        torch.testing.assert_close(average[name], value, rtol=0, atol=0)
    conv = "second.base.codes.weight"
    assert not torch.equal(average[conv], before[conv.replace("second", "encoder")])
    assert list(made.work.glob("refine-*min.png"))
    told = [json.loads(line) for line in (made.work / "refine.log").read_text().splitlines()]
    assert len(told[-1]["unexplained"]) == 3  # without a correction, with one, with two
    second = refine(made, float(first["refined_s"]) / 60 + 0.01)  # type: ignore[arg-type]
    assert second["refined_step"] > first["refined_step"]  # type: ignore[operator]


@pytest.mark.slow
def test_the_encoders_graph_corrects_and_later_recipes_take_its_codes(made: Made) -> None:
    refine(made, 0.004, "--passes", "1")
    space = made.work / "refined.pt"
    assert main(["latent-export", *made.words()[:-2], "--space", str(space)]) == 0
    refined = load_space(space)
    pixels = np.load(made.work / "crops128.npz")["pixels"][:1, None] / 127.5 - 1
    face = nn.functional.avg_pool2d(torch.from_numpy(pixels).float(), 2)
    with torch.inference_mode():
        expected, plain = refined.inverter()(face).numpy(), refined.encoder(face).numpy()
    with OnnxRuntimeEngine(made.work / "models" / "latent_encoder.onnx", "latent_encoder") as graph:
        found = graph.infer({"image": face.numpy()})["codes"]
    corrected = np.abs(expected - plain).mean()
    assert np.abs(found - expected).mean() < corrected / 4  # weights in half precision
    card = (made.work / "models" / "latent_encoder.md").read_text()
    assert "training latent-refine`" in card
    codes = np.load(made.work / "codes.npy")
    assert np.abs(codes[0] - expected[0]).mean() < corrected / 2


@pytest.mark.slow
def test_a_space_that_is_refined_or_another_is_refused(made: Made) -> None:
    refine(made, 0.004)
    again = [*made.words(1.0), "--batch", "16"]
    with pytest.raises(UsageError, match="refined already; give the checkpoint of latent"):
        main(["latent-refine", *again, "--space", str(made.work / "refined.pt")])
    state = torch.load(made.work / "latent.pt", weights_only=True)
    torch.save({**state, "step": 2}, made.work / "latent.pt")
    with pytest.raises(UsageError, match=r"codes of step 1, .* at step 2; give --fresh"):
        main(["latent-refine", *again])
