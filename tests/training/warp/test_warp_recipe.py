"""What the warp editor is taught: prototypes, displacements, and one step of its objective."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.engines import WARP, Catalog
from mien.runtime.faces.action_units import foreshortened
from mien.runtime.faces.topology import INNER_LIPS_LOWER, INNER_LIPS_UPPER, MIRROR
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import Crops
from mien.training.warp.displacements import (
    LIPS,
    TargetDisplacements,
    foreshorten,
    hold_pairs,
    prototypes,
)
from mien.training.warp.guide import make_guides
from mien.training.warp.lessons import TAUGHT, Lessons
from mien.training.warp.warp import (
    Discriminator,
    Objective,
    Sampler,
    Taught,
    explained_share,
    lips_opening,
    movement_modes,
    new_network,
    taught_faces,
)
from tests.runtime.faces.shapes import mean_face

CORNERS, INNER_BROWS = [84, 90], [37, 38, 67, 68]


def faces(count: int) -> torch.Tensor:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.004, (count, 106, 2))
    return torch.from_numpy((mean_face() + noise).astype(np.float32))


def one_hot(emotion: str, count: int = 1) -> torch.Tensor:
    return torch.eye(len(EMOTIONS))[[EMOTIONS.index(emotion)] * count]


def small_crops(count: int = 60) -> Crops:
    rng = np.random.default_rng(2)
    return Crops(
        rng.integers(0, 256, (count, 64, 64), dtype=np.uint8),
        faces(count).numpy(),
        np.arange(count) % len(EMOTIONS),
        np.zeros(count, bool),
        np.arange(count) % 2,
    )


@pytest.mark.parametrize(
    ("emotion", "points", "upwards"),
    [
        ("happy", CORNERS, 1),
        ("sad", CORNERS, -1),
        ("sad", INNER_BROWS, 1),
        ("surprised", INNER_BROWS, 1),
        ("angry", INNER_BROWS, -1),
        ("disgusted", [82, 83], 1),
        ("fearful", [72, 75], 1),
    ],
)
def test_a_prototype_moves_what_its_action_units_move(
    emotion: str, points: list[int], upwards: int
) -> None:
    moved = prototypes()[EMOTIONS.index(emotion)][points, 1]
    assert (-upwards * moved > 0.002).all()


@pytest.mark.parametrize("emotion", [e for e in EMOTIONS if e not in ("contemptuous", "disgusted")])
def test_all_prototypes_but_contempt_and_disgust_are_symmetric(emotion: str) -> None:
    moves = prototypes()[EMOTIONS.index(emotion)]
    np.testing.assert_allclose(moves[MIRROR] * [-1, 1], moves, atol=1e-7)


def test_contempt_pulls_one_corner() -> None:
    moves = prototypes()[EMOTIONS.index("contemptuous")]
    assert moves[90, 1] < -0.02
    assert abs(moves[84, 1]) < 0.005


def test_the_mirror_is_its_own_inverse_and_mirrors_the_mean_face() -> None:
    assert np.array_equal(MIRROR[MIRROR], np.arange(106))
    face = mean_face()
    np.testing.assert_allclose(face[MIRROR] * [-1, 1] + [1, 0], face, atol=0.002)


def test_a_displacement_of_a_resting_face_is_the_prototype() -> None:
    landmarks = torch.from_numpy(mean_face())[None]
    wanted = TargetDisplacements(torch.device("cpu")).displacement(
        landmarks, one_hot("neutral"), one_hot("sad")
    )
    np.testing.assert_allclose(wanted[0, CORNERS], prototypes()[2][CORNERS], atol=0.003)


def test_a_smiling_face_is_asked_to_smile_less_far_than_a_resting_one() -> None:
    landmarks = torch.from_numpy(mean_face())[None]
    displacements = TargetDisplacements(torch.device("cpu"))
    resting = displacements.displacement(landmarks, one_hot("neutral"), one_hot("happy"))
    smiling = displacements.displacement(landmarks, one_hot("happy"), one_hot("happy"))
    assert 0.5 < float(smiling[0, 84, 1] / resting[0, 84, 1]) < 0.9


def test_half_a_target_asks_for_half_the_way() -> None:
    landmarks = torch.from_numpy(mean_face())[None]
    displacements = TargetDisplacements(torch.device("cpu"))
    whole = displacements.displacement(landmarks, one_hot("neutral"), one_hot("happy"))
    half = displacements.displacement(landmarks, one_hot("neutral"), 0.5 * one_hot("happy"))
    torch.testing.assert_close(half[0, CORNERS], whole[0, CORNERS] / 2, atol=0.002, rtol=0)


def test_the_far_half_of_a_turned_face_moves_less() -> None:
    landmarks = torch.from_numpy(mean_face())[None].clone()
    landmarks[..., 0] = 0.5 + (landmarks[..., 0] - 0.5) * torch.where(
        landmarks[..., 0] > 0.5, 0.5, 1.0
    )
    moved = torch.zeros(1, 106, 2)
    moved[:, 84, 0], moved[:, 90, 0] = -0.03, 0.03
    turned = foreshorten(landmarks, moved)
    assert turned[0, 90, 0] < -0.75 * turned[0, 84, 0]
    shown = foreshortened(landmarks[0].numpy(), moved[0].numpy())
    np.testing.assert_allclose(shown, turned[0].numpy(), atol=1e-4)


def test_lips_meet_but_do_not_cross() -> None:
    landmarks = torch.from_numpy(mean_face())[None]
    moved = torch.zeros(1, 106, 2)
    for upper, lower in LIPS:
        moved[:, upper, 1], moved[:, lower, 1] = 0.05, -0.05
    held = hold_pairs(landmarks, moved)
    after = landmarks + held
    for upper, lower in LIPS:
        assert after[0, lower, 1] - after[0, upper, 1] > -1e-5


def small_taught(crops: Crops, count: int = 40) -> Taught:
    rng = np.random.default_rng(5)
    moves = rng.normal(0, 0.01, (count, len(TAUGHT), 106, 2)).astype(np.float16)
    light = rng.integers(-30, 30, (count, len(TAUGHT), 64, 64), dtype=np.int8)
    return taught_faces(crops, Lessons(np.arange(count) + 3, moves, light))


def test_faces_are_taught_their_lessons_and_contempt_its_prototype() -> None:
    crops = small_crops()
    taught = small_taught(crops)
    assert taught.displacement.shape == (40, 8, 106, 2)
    assert taught.light.shape == (40, 8, 64, 64)
    np.testing.assert_array_equal(taught.crops.pixels, crops.pixels[3:43])
    corners = taught.displacement[:, EMOTIONS.index("contemptuous"), CORNERS, 1]
    assert (corners[:, 1] < corners[:, 0] - 0.01).all()
    assert not taught.light[:, EMOTIONS.index("contemptuous")].any()
    for emotion in ("sad", "angry"):  # mouths that turn down, whatever the lessons say
        mouth = taught.displacement[:, EMOTIONS.index(emotion)].astype(np.float32)
        assert (mouth[:, CORNERS, 1].mean(1) > mouth[:, [87, 93], 1].mean(1) + 0.005).all()


def test_modes_are_those_of_the_lessons_and_of_their_mirror_images() -> None:
    crops = small_crops()
    lift = np.zeros((40, len(TAUGHT), 106, 2), np.float16)
    lift[:, 1, 84, 1] = -0.05  # one corner only
    lessons = Lessons(np.arange(40), lift, np.zeros((40, len(TAUGHT), 64, 64), np.int8))
    taught = taught_faces(crops, lessons)
    modes = movement_modes(taught, 8)
    assert explained_share(modes, taught) > 0.9
    assert explained_share(modes[-1:], taught) < 0.5
    moves = modes.numpy().reshape(-1, 106, 2)
    for corner in CORNERS:
        wanted = np.zeros((106, 2))
        wanted[corner, 1] = -0.05
        share, *_ = np.linalg.lstsq(moves.reshape(8, 212).T, wanted.ravel(), rcond=None)
        np.testing.assert_allclose(share @ moves.reshape(8, 212), wanted.ravel(), atol=0.01)


def test_a_mirrored_face_is_asked_for_the_mirrored_lesson() -> None:
    crops = small_crops()
    taught = small_taught(crops, 1)
    batches = [Sampler(crops, taught, seed)() for seed in range(3)]
    for batch in batches:
        plain = np.isclose(batch.landmarks.numpy(), taught.crops.landmarks[0]).all((1, 2))
        assert plain.any()
        assert not plain.all()
        moved = batch.displacement.numpy()
        wanted = taught.displacement[0].astype(np.float32)
        np.testing.assert_array_equal(moved[plain][0], wanted)
        np.testing.assert_array_equal(moved[~plain][0], wanted[:, MIRROR] * [-1, 1])
        light = batch.light.numpy() * 127
        np.testing.assert_allclose(light[~plain][0], taught.light[0][..., ::-1], atol=1e-3)


def test_open_lips_are_masked_and_closed_ones_are_not() -> None:
    landmarks = torch.from_numpy(mean_face())[None].repeat(2, 1, 1)
    landmarks[0, list(INNER_LIPS_LOWER)] = landmarks[0, list(INNER_LIPS_UPPER)]
    landmarks[1, [101, 102, 103], 1] = landmarks[1, [97, 98, 99], 1] + 0.08
    mask, height = lips_opening(landmarks, 64)
    assert mask[0].sum() == 0
    assert height[0] < 0.002
    assert mask[1].max() > 0.9
    assert 0.05 < height[1] < 0.1


def test_a_step_trains_the_editor_and_its_discriminator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({"guides": make_guides().state_dict()}, tmp_path / "guides.pt")
    crops = small_crops()
    taught = small_taught(crops)
    network = new_network(taught, 0)
    objective = Objective(tmp_path / "guides.pt", torch.device("cpu"))
    before = {name: value.clone() for name, value in objective.discriminator.state_dict().items()}
    terms = objective(network, Sampler(crops, taught, 0)())
    assert terms.keys() == {"follow", "light", "guide", "fold", "lips", "alike", "adversarial"}
    torch.stack(list(terms.values())).sum().backward()
    for layer in (network.move, network.light):
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0
    after = objective.discriminator.state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_a_shipped_editor_is_what_a_run_begins_with() -> None:
    crops = small_crops()
    entry = Catalog.bundled().entry(WARP)
    network = new_network(small_taught(crops), 0, entry.folder)
    faces = torch.from_numpy(crops.pixels[:1]).float()[:, None] / 255
    given = faces, torch.from_numpy(crops.landmarks[:1]), one_hot("fearful")
    with torch.no_grad():
        moved, light = network(*given)
    with Catalog.bundled().open(WARP) as engine:
        names = [spec.name for spec in engine.network.inputs]
        wanted = engine.infer({k: v.numpy() for k, v in zip(names, given, strict=True)})
    assert moved.abs().max() > 0.005
    for mine, theirs in zip((moved, light), wanted.values(), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-4)


def test_the_discriminator_listens_to_the_emotion() -> None:
    torch.manual_seed(0)
    discriminator, crop = Discriminator(), torch.rand(1, 1, 64, 64)
    assert not torch.equal(
        discriminator(crop, one_hot("happy")), discriminator(crop, one_hot("sad"))
    )
