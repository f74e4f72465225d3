"""What the face parser is taught and how it is scored: masks, samples, losses, boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.runtime.faces.alignment import roi_matrix, transform_points
from mien.runtime.methods.gan.segmentation import boxes_of, part_extents
from mien.training.data.facemesh import VERTICES, landmarks_106
from mien.training.gan import parser_samples
from mien.training.gan.parser import (
    CLASS_WEIGHTS,
    build_student,
    card_sections,
    losses,
    student_spec,
)
from mien.training.gan.parser_samples import (
    CLASSES,
    MIRRORED_CLASS,
    OVAL,
    POLYGONS,
    SIZE,
    UNSURE,
    Batch,
    Pool,
    Sampler,
    class_mask,
    normalised,
)
from mien.training.gan.parser_scores import Scores, score
from tests.runtime.faces.shapes import mean_face


def ring(x: float, y: float, across: float, down: float, count: int, start: float) -> np.ndarray:
    """Points around an ellipse, clockwise from an angle in turns, 0 at the right."""
    angle = 2 * np.pi * (start + np.arange(count) / count)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], 1)


def some_mesh(side: int = SIZE) -> np.ndarray:
    """A face of ellipses in the wide crop: float32 (478, 2), pixels."""
    mesh = np.full((478, 2), 0.5)
    for point, vertices in VERTICES.items():
        mesh[list(vertices)] = to_wide(mean_face())[point]
    mesh[list(OVAL)] = ring(0.5, 0.55, 0.27, 0.36, len(OVAL), -0.25)
    for name, x, y, across, down in (
        ("nose", 0.5, 0.54, 0.06, 0.08),
        ("l_brow", 0.36, 0.33, 0.07, 0.015),
        ("r_brow", 0.64, 0.33, 0.07, 0.015),
        ("l_eye", 0.36, 0.40, 0.05, 0.02),
        ("r_eye", 0.64, 0.40, 0.05, 0.02),
    ):
        mesh[list(POLYGONS[name])] = ring(x, y, across, down, len(POLYGONS[name]), 0.5)
    for name, sign in (("u_lip", -1), ("l_lip", 1)):
        outer, inner = POLYGONS[name][:11], POLYGONS[name][11:]
        for points, across, down in ((outer, 0.1, 0.05), (inner[::-1], 0.08, 0.025)):
            along = np.linspace(np.pi, 0, len(points))
            x, y = 0.5 + across * np.cos(along), 0.70 + sign * down * np.sin(along)
            mesh[list(points)] = np.stack([x, y], 1)
    return (mesh * side - 0.5).astype(np.float32)


def to_wide(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks of the canonical crop in units of the wide one."""
    return (transform_points(roi_matrix(landmarks, 1), landmarks) + 0.5).astype(np.float32)


def at(mask: np.ndarray, x: float, y: float) -> str:
    value = int(mask[int(y * len(mask)), int(x * len(mask))])
    return "unsure" if value == UNSURE else CLASSES[value]


def test_a_mask_says_what_a_mesh_knows_and_leaves_open_what_it_does_not() -> None:
    mask = class_mask(some_mesh(), SIZE)
    places = {
        (0.36, 0.40): "l_eye",
        (0.64, 0.40): "r_eye",
        (0.36, 0.33): "l_brow",
        (0.64, 0.33): "r_brow",
        (0.5, 0.54): "nose",
        (0.5, 0.70): "mouth",
        (0.5, 0.663): "u_lip",
        (0.5, 0.737): "l_lip",
        (0.35, 0.6): "skin",
        (0.5, 0.25): "skin",
        (0.5, 0.12): "unsure",  # above the mesh's forehead: skin or hair
        (0.5, 0.91): "unsure",  # the seam along the chin
        (0.5, 0.96): "background",
        (0.05, 0.5): "background",
    }
    assert {place: at(mask, *place) for place in places} == places
    assert set(np.unique(mask)) == {*range(len(CLASSES)), UNSURE}


def test_a_mirrored_mask_has_left_and_right_changed() -> None:
    mask = class_mask(some_mesh(), SIZE)
    mirrored = MIRRORED_CLASS[mask[:, ::-1]]
    assert (mirrored != mask).mean() < 0.03  # the mesh is symmetric but for roundings
    assert at(mirrored, 0.36, 0.40) == "l_eye"
    assert at(mirrored, 0.5, 0.12) == "unsure"


def painted_pool(side: int = 200) -> Pool:
    """A picture whose luma is twenty times each pixel's class, and nothing else."""
    mesh = some_mesh(side)
    mask = class_mask(mesh, side)
    picture = np.where(mask == UNSURE, 1, mask + 1).astype(np.uint8) * 20
    return Pool([picture], mesh[None], 1.0, 0.5)


def test_a_mask_follows_its_picture_through_shakes_and_mirrors(monkeypatch) -> None:
    monkeypatch.setattr(parser_samples.augment, "relight", lambda picture, rng: picture)
    monkeypatch.setattr(parser_samples.augment, "degrade", lambda p, rng: p.astype(np.uint8))
    monkeypatch.setattr(parser_samples, "COVERED", 0.0)
    monkeypatch.setattr(parser_samples, "TINTED", 0.0)
    pool = painted_pool()
    sampler = Sampler([pool], 3)
    for _ in range(8):
        image, mask = sampler.sample(pool.pictures[0], pool.meshes[0])
        assert (image[:, :, 0] == image[:, :, 2]).all()
        seen = np.round(image[:, :, 0] / 20) - 1
        for name in ("nose", "mouth", "l_lip", "skin"):
            here = mask == CLASSES.index(name)
            assert (np.abs(seen[here] - CLASSES.index(name)) < 0.5).mean() > 0.75  # not at edges
        left, right = (CLASSES.index(name) for name in ("l_eye", "r_eye"))
        painted = [float(np.median(seen[mask == eye])) for eye in (left, right)]
        assert painted in ([left, right], [right, left])  # as it was, or mirrored
        assert np.argwhere(mask == left)[:, 1].mean() < np.argwhere(mask == right)[:, 1].mean()


def test_what_covers_a_face_is_background_and_what_lies_beyond_the_picture_too(monkeypatch) -> None:
    monkeypatch.setattr(parser_samples, "COVERED", 1.0)
    pool = painted_pool()
    sampler = Sampler([pool], 0)
    bare = (class_mask(some_mesh(), SIZE) == 0).mean()
    covered = [(sampler.sample(pool.pictures[0], pool.meshes[0])[1] == 0).mean() for _ in range(12)]
    assert np.mean(covered) > bare + 0.03


def test_batches_hold_whole_crops_or_windows_in_the_network_s_range() -> None:
    sampler = Sampler([painted_pool()], 1)
    for window in (SIZE, 96):
        batch = sampler.batch(3, window)
        assert batch.images.shape == (3, 3, window, window)
        assert batch.images.dtype == np.float32
        assert batch.images.min() > -2.2
        assert batch.images.max() < 2.7
        assert batch.masks.shape == (3, window, window)
        assert (batch.weights == 0.5).all()


def test_black_and_white_are_normalised_by_imagenet_s_numbers() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 255
    np.testing.assert_allclose(
        normalised(image)[:, 0], [[-2.1179, 2.2489], [-2.0357, 2.4286], [-1.8044, 2.64]], atol=1e-3
    )


def test_the_student_is_small_and_gives_a_logit_for_each_class_and_pixel() -> None:
    student = build_student().eval()
    assert sum(p.numel() for p in student.parameters()) < 1.1e6
    assert student.spec == student_spec()
    with torch.inference_mode():
        assert student(torch.zeros(1, 3, 64, 64)).shape == (1, len(CLASSES), 64, 64)


def some_batch(mask: np.ndarray, side: int = 64) -> Batch:
    images = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    return Batch(images, mask, np.ones(2, np.float32))


def test_unsure_pixels_teach_nothing() -> None:
    torch.manual_seed(0)
    student = build_student()
    mask = np.full((2, 64, 64), UNSURE, np.uint8)
    terms = losses(student, some_batch(mask), torch.tensor(CLASS_WEIGHTS))
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    moved = [p.grad.abs().max() for p in student.parameters() if p.grad is not None]
    assert float(torch.stack(moved).max()) == 0


def test_a_few_steps_on_one_batch_lower_the_loss() -> None:
    torch.manual_seed(0)
    student = build_student()
    mask = np.repeat(class_mask(some_mesh(64), 64)[None], 2, 0)
    batch, weights = some_batch(mask), torch.tensor(CLASS_WEIGHTS)
    optimizer = torch.optim.AdamW(student.parameters(), 3e-3)
    told = []
    for _ in range(10):
        total = torch.stack(list(losses(student, batch, weights).values())).sum()
        told.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert told[-1] < 0.7 * told[0]


def test_a_parser_that_repeats_the_masks_scores_full_marks() -> None:
    mesh = some_mesh()
    scores = Scores()
    said = class_mask(mesh, SIZE)
    scores.add(np.where(said == UNSURE, 0, said).astype(np.uint8), mesh)
    assert set(scores.overlap().values()) == {1.0}
    told = scores.table()
    assert told["all_parts_found"] == told["pixels_same_class"] == told["mean_iou"] == 1
    for part, box in boxes_of(part_extents(said % UNSURE, CLASSES)).items():
        wanted = scores.moved[part][0]
        assert 0 <= wanted < 0.05
        assert box.side > 0


def test_a_parser_that_sees_nothing_finds_no_part() -> None:
    picture = np.zeros((SIZE, SIZE), np.uint8)
    scores = score(lambda image: image[:, :, 0] * 0, [(picture, some_mesh())])
    assert scores.table()["all_parts_found"] == 0
    assert scores.box_errors() == {}
    assert scores.overlap()["nose"] == 0
    assert scores.overlap()["background"] > 0.3


def test_scores_count_pixels_of_either_kind() -> None:
    mesh = some_mesh()
    truth = class_mask(mesh, SIZE)
    nose = CLASSES.index("nose")
    said = np.where(truth == UNSURE, 0, truth).astype(np.uint8)
    rows = np.argwhere(truth == nose)
    half = rows[: len(rows) // 2]
    said[half[:, 0], half[:, 1]] = CLASSES.index("skin")
    scores = Scores()
    scores.add(said, mesh)
    assert scores.overlap()["nose"] == pytest.approx(0.5, abs=0.01)
    assert scores.overlap()["skin"] < 1
    assert scores.overlap()["l_eye"] == 1


def test_the_card_has_the_numbers_it_was_given() -> None:
    mesh = some_mesh()
    said = class_mask(mesh, SIZE)
    scores = Scores()
    scores.add(np.where(said == UNSURE, 0, said).astype(np.uint8), mesh)
    metrics: dict[str, object] = {
        "minutes": 11.0,
        "steps": 600,
        "parameters": 1015634,
        "same_class": 0.99995,
        "sha256": "0a1b",
    }
    card = card_sections(metrics, {"people_not_trained_on": scores})
    assert "1,015,634 parameters" in card["What it is"]
    assert "600 steps" in card["Training"]
    assert "99.9950%" in card["Quality"]
    assert f"| {scores.overlap()['nose']:g} |" in card["Quality"]
    assert "0a1b" in card["Licence"]


def test_a_mesh_s_landmarks_lie_in_the_masks_they_outline() -> None:
    mesh = some_mesh()
    points = landmarks_106(mesh)
    mask = class_mask(mesh, SIZE)
    for index, name in ((74, "l_eye"), (77, "r_eye"), (46, "nose")):
        x, y = np.round(points[index]).astype(int)
        assert CLASSES[mask[y, x]] == name
