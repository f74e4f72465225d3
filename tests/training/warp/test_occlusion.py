"""The recipe of the occlusion network: drawn glasses, and who wears some already."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.engines import Catalog  # noqa: E402
from mien.engines.networks import OCCLUSION  # noqa: E402
from mien.export.models.warp import OcclusionNetwork  # noqa: E402
from mien.training.warp import occlusion_samples as samples  # noqa: E402
from mien.training.warp.occlusion import (  # noqa: E402
    covered_share,
    find_wearers,
    losses,
    seen_by,
)
from tests.runtime.faces.shapes import mean_face  # noqa: E402

SIDE = samples.SIZE


def sampler(count: int = 6) -> samples.Sampler:
    rng = np.random.default_rng(2)
    pixels = rng.integers(90, 140, (count, SIDE, SIDE)).astype(np.uint8)
    landmarks = np.stack([mean_face().astype(np.float32)] * count)
    return samples.Sampler(pixels, landmarks, np.ones(count), seed=3)


@pytest.mark.parametrize("clear", [0.0, 1.0])
def test_drawn_rims_are_seen_where_the_mask_says(
    clear: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "CLEAR_SHARE", clear)
    skin, inside, outside = np.full((SIDE, SIDE), 130, np.float32), [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        layer = samples.draw_glasses(rng, mean_face(), SIDE * samples.FINE)
        shown, (glasses, cover) = samples.laid_over(skin, layer, rng)
        assert glasses.max() > 0.6  # the network is not taught to be unsure of the thinnest
        assert not cover.any()
        change = np.abs(shown - skin)
        inside.append(change[glasses > 0.5].mean())
        outside.append(change[glasses == 0].mean())
    assert np.mean(inside) > 5 * np.mean(outside)
    assert np.mean(inside) > 10  # of 255


def test_a_batch_says_what_is_drawn_and_how_far_that_is_known() -> None:
    batch = sampler().batch(8)
    assert batch.faces.shape == (8, 1, SIDE, SIDE)
    assert batch.masks.shape == batch.weights.shape == (8, 2, SIDE, SIDE)
    assert 0 <= batch.faces.min() < batch.faces.max() <= 1
    assert batch.masks[:, 0].any()
    assert batch.masks[:, 1].any()
    found = losses(OcclusionNetwork().eval(), batch)
    assert all(torch.isfinite(value) for value in found.values())


def test_plain_wearers_teach_doubtful_ones_are_left_out_and_others_have_none() -> None:
    faces = sampler(4)

    def sees(pixels: np.ndarray) -> np.ndarray:
        found = np.zeros((len(pixels), 2, SIDE, SIDE), np.float32)
        found[0, 0, 50:54, 30:98] = 0.95  # plainly glasses
        found[1, 0, 50:54, 30:98] = 0.5  # perhaps
        found[2, 1, 60:110, 30:98] = 0.9  # a hand
        return found

    find_wearers(faces, sees)
    assert set(faces.worn) == {0}
    assert faces.worn[0].max() == round(0.95 * 255)
    assert faces.unsure == {1, 2}


def test_the_former_network_sees_as_the_runtime_does() -> None:
    faces = sampler(2)
    with Catalog.bundled().open(OCCLUSION) as engine:
        seen = seen_by(engine, faces.pixels)
    assert seen.shape == covered_share(OcclusionNetwork().eval(), faces.pixels).shape
    assert OCCLUSION.outputs[0].name == "covered"
    assert 0 <= seen.min() <= seen.max() <= 1
