"""The modules of the latent papers, at their own sizes and at the paper's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mien.engines.errors import ModelError
from mien.engines.face_space import (
    CONDITION_KEY,
    condition,
    condition_text,
    directions_network,
    emm_network,
    image_network,
    prior_network,
    regressor_network,
    stated_condition,
    text_network,
)
from mien.engines.network import Network
from mien.export.models.directions import AttributeRegressor, DirectionMatrix
from mien.export.models.emm import (
    SMALL_TRUNK,
    EmotionMapper,
    ImageClassifier,
    LatentClassifier,
    MapperSpec,
    TrunkSpec,
)
from mien.export.models.prior import Prior, PriorSpec
from mien.export.models.text_image import ImageTower, TextSpec, TextTower
from mien.export.onnx_file import to_onnx

SMALL = MapperSpec(10, 32, levels=(4, 7), norm="statistics", targets=8)


def inputs(layers: int, width: int, count: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    target = torch.eye(8)[torch.arange(count) + 1]
    return torch.randn(count, layers, width), torch.rand(count, 8), target


def test_the_paper_s_mapper_has_its_size() -> None:
    mapper = EmotionMapper(MapperSpec())
    weights = sum(p.numel() for n, p in mapper.named_parameters() if "linears" in n)
    assert weights == 520 * 512 + 512 + 3 * (512 * 512 + 512)
    codes, given, _ = inputs(18, 512)
    assert mapper(codes, given).shape == (2, 18, 512)


def test_the_condition_moves_every_layer_globally_and_not_the_fine_ones_locally() -> None:
    codes, given, target = inputs(10, 32)
    for kind, moves in (("global", True), ("local", False)):
        torch.manual_seed(0)
        spec = MapperSpec(10, 32, 4, kind, "statistics", (4, 7), 8)  # type: ignore[arg-type]
        mapper = EmotionMapper(spec)
        apart = (mapper(codes, given, target) - mapper(codes, 1 - given, target)).abs()
        assert apart[:, :7].max() > 1e-4
        assert (apart[:, 7:].max() > 1e-6) == moves


def test_a_mapper_without_condition_answers_alike_for_every_condition() -> None:
    codes, given, target = inputs(10, 32)
    mapper = EmotionMapper(MapperSpec(10, 32, 4, "none", "statistics", (4, 7), 8))
    assert torch.equal(mapper(codes, given, target), mapper(codes, 1 - given, target))


def test_pixel_norm_goes_over_the_layers_as_in_the_public_mapper() -> None:
    mapper = EmotionMapper(MapperSpec(4, 8, 1, "none", "layers"))
    codes, given, _ = inputs(4, 8)
    normed = codes / (codes.square().mean(1, keepdim=True) + 1e-8).sqrt()
    linear = mapper.editors[0].linears[0]  # type: ignore[union-attr,index]
    wanted = codes + 0.1 * nn.functional.leaky_relu(linear(normed), 0.2) * 2**0.5
    torch.testing.assert_close(mapper(codes, given), wanted)


def test_directions_add_up_and_the_mask_holds_layers() -> None:
    matrix = DirectionMatrix(3, 6, 8)
    nn.init.normal_(matrix.w)
    codes, steps = torch.randn(2, 6, 8), torch.randn(2, 3)
    mask = torch.tensor([1.0, 1, 1, 0, 0, 0.5])
    moved = matrix(codes, steps, mask) - codes
    wanted = torch.einsum("na,als->nls", steps, matrix.w) * mask[:, None]
    torch.testing.assert_close(moved, wanted)


def test_words_after_the_padding_change_nothing() -> None:
    torch.manual_seed(0)
    tower = TextTower(TextSpec(20, 6, 16, 2, 2, 8)).eval()
    short = TextTower(TextSpec(20, 4, 16, 2, 2, 8)).eval()
    state = tower.state_dict() | {"places": tower.places[:4]}
    short.load_state_dict(state)
    tokens = torch.tensor([[3, 4, 5, 0, 0, 0]])
    torch.testing.assert_close(tower(tokens), short(tokens[:, :4]), atol=1e-5, rtol=0)


def test_the_truncation_draws_towards_the_mean_face() -> None:
    prior = Prior(PriorSpec(4, 8, 16, 16, 2, 5))
    nn.init.normal_(prior.basis)
    nn.init.normal_(prior.mean)
    z = torch.randn(3, 16)
    torch.testing.assert_close(prior(z, torch.zeros(1)), prior.mean.view(1, 4, 8).expand(3, -1, -1))
    assert prior(z, torch.ones(1)).std() > 0
    length = z.square().mean(1, keepdim=True).sqrt()  # untrained, it is a Gaussian over the basis
    torch.testing.assert_close(prior.amounts(z), (z / length)[:, :5])


CASES: dict[str, tuple[nn.Module, Network]] = {
    "emm": (EmotionMapper(SMALL), emm_network(10, style_dim=32)),
    "emm of one emotion": (
        EmotionMapper(MapperSpec(18, 64)),
        emm_network(18, style_dim=64, targets=0),
    ),
    "mapper without condition": (
        EmotionMapper(MapperSpec(10, 32, 4, "none", "channels", (4, 7), 8)),
        emm_network(10, style_dim=32),
    ),
    "directions": (DirectionMatrix(40, 14, 32), directions_network(40, 14, style_dim=32)),
    "prior": (Prior(PriorSpec(10, 32, components=12)), prior_network(64, style_dim=32)),
    "regressor": (AttributeRegressor(8, SMALL_TRUNK), regressor_network(8)),
    "text": (TextTower(TextSpec(30, 12)), text_network(30, 12)),
    "image": (ImageTower(), image_network()),
}


# The others cost up to 9 s of processor time each.
QUICK = ("directions", "prior")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_a_graph_says_what_its_module_says(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, network = CASES[name]
    for parameter in module.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    assert to_onnx(module, network, tmp_path / "a.onnx", tolerance=1e-4) < 1e-4


@pytest.mark.parametrize("trunk", [SMALL_TRUNK, TrunkSpec((8, 8, 16, 16), colours=1)])
def test_the_classifiers_answer_for_each_emotion(trunk: TrunkSpec) -> None:
    assert ImageClassifier(trunk, 16).eval()(torch.rand(2, 1, 64, 64)).shape == (2, 8)
    assert LatentClassifier(10, 32, 16).eval()(torch.randn(2, 10, 32)).shape == (2, 8)


def test_a_condition_survives_the_metadata() -> None:
    table = np.sort(np.random.default_rng(0).random((8, 8, 5)), axis=2).astype(np.float32)
    read = stated_condition({CONDITION_KEY: condition_text(table)})
    np.testing.assert_allclose(read, table, atol=1e-4)
    np.testing.assert_allclose(condition(read, 2)[0], table[2, :, 2], atol=1e-4)
    lowest = condition(read, 2, np.full(8, -9.0))[0]
    np.testing.assert_allclose(lowest, table[2, :, 0], atol=1e-4)


@pytest.mark.parametrize("stated", ["", "[]", "[[1,2],[3]]", "nonsense", "[[[0.5]]]", "null"])
def test_a_mapper_without_a_fitting_condition_is_refused(stated: str) -> None:
    with pytest.raises(ModelError, match="for its condition"):
        stated_condition({CONDITION_KEY: stated})
