"""Samples for the landmark network and scenes for the detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.runtime.faces.alignment import ROI_TEMPLATE, transform_points
from mien.runtime.faces.topology import MIRROR, RIGID
from mien.training.data.augment import face_free_crops, plain, texture
from mien.training.data.clips import Labelled, sure_faces
from mien.training.data.labels import merged, overlap, tiles
from mien.training.faces.detector import assign, generous_overlap, make_batch
from mien.training.faces.detector_scenes import Composer, Scene, Subject, targets_of
from mien.training.faces.landmark_samples import Pool, Sampler, YawEstimate
from mien.training.faces.landmarks import errors, point_weights, wing


def made_face(size: float = 100.0, shift: float = 60.0) -> np.ndarray:
    """A mirror-symmetric shape whose rigid points are those of a face: (106, 2)."""
    rng = np.random.default_rng(3)
    shape = rng.uniform(0.2, 0.8, (106, 2))
    shape = (shape + (shape[MIRROR] * [-1, 1] + [1, 0])) / 2
    shape[list(RIGID)] = ROI_TEMPLATE
    shape[0], shape[32] = (0.2, 0.45), (0.8, 0.45)
    shape[16] = (0.5, 0.9)
    return (shape * size + shift).astype(np.float32)


@pytest.fixture
def sampler() -> Sampler:
    rng = np.random.default_rng(0)
    picture = texture(rng, 220)
    pool = Pool([picture], made_face()[None], np.zeros(1, np.float32), 1.0, 1.0)
    return Sampler([pool], [texture(rng, 160) for _ in range(3)], seed=1)


def test_a_batch_of_samples_has_the_declared_shapes(sampler: Sampler) -> None:
    batch = sampler.batch(16)
    assert batch.faces.shape == (16, 112, 112)
    assert batch.faces.dtype == np.uint8
    assert batch.landmarks.shape == (16, 106, 2)
    assert batch.pair.shape == (4, 2)
    assert set(np.unique(batch.score)) <= {0.0, 1.0}


def test_two_looks_at_a_picture_are_joined_by_their_matrix(sampler: Sampler) -> None:
    for _ in range(5):
        batch = sampler.batch(16)
        for (first, second), moved in zip(batch.pair, batch.moved, strict=True):
            seen = transform_points(moved, batch.landmarks[first])
            np.testing.assert_allclose(seen, batch.landmarks[second], atol=2e-3)


def test_what_is_no_face_has_score_zero_and_no_landmarks(sampler: Sampler) -> None:
    batches = [sampler.batch(32) for _ in range(4)]
    lost = [b.score[b.landmark_weight == 0].max(initial=0.0) for b in batches]
    assert max(lost) == 0.0
    assert any((b.landmark_weight == 0).any() for b in batches)


def test_yaw_is_read_from_flat_landmarks() -> None:
    rng = np.random.default_rng(0)
    flat = made_face(1.0, 0.0) - [0.5, 0.5]
    depth = 0.3 - (flat**2).sum(1) + np.linspace(0, 0.05, 106)
    solid = np.column_stack([flat, -depth])
    angles = rng.uniform(-40, 40, 300)
    faces = []
    for angle in np.radians(angles):
        turn = np.array(
            [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
        )
        faces.append(solid @ turn.T * 100)
    faces = np.array(faces, np.float32)
    estimate = YawEstimate(faces[:200])
    found = estimate(faces[200:, :, :2])
    assert np.abs(found - angles[200:]).mean() < 3


def test_errors_are_by_the_distance_of_the_outer_eye_corners() -> None:
    face = made_face()[None]
    eyes = np.linalg.norm(face[0, 61] - face[0, 52])
    np.testing.assert_allclose(errors(face + np.array([0.03 * eyes, 0]), face), [0.03], rtol=1e-4)


def test_the_wing_loss_has_no_step_at_its_rim() -> None:
    below, above = wing(torch.tensor(0.09999)), wing(torch.tensor(0.10001))
    assert float(above - below) == pytest.approx(0, abs=1e-4)
    assert float(point_weights().mean()) == pytest.approx(1.0)


def test_a_cell_at_the_middle_of_a_face_finds_it() -> None:
    face = made_face(30.0, 150.0)
    state, boxes, points = assign(Scene(np.zeros((320, 320), np.uint8), [face]))
    box, landmarks = targets_of(face)
    chosen = np.flatnonzero(state == 1)
    assert 0 < len(chosen) <= 4
    assert (chosen < 1600).all(), "a small face belongs to the finest grid"
    np.testing.assert_array_equal(boxes[chosen[0]], box)
    np.testing.assert_array_equal(points[chosen[0]], landmarks)


@pytest.mark.parametrize("size", [12.0, 40.0, 60.0, 95.0, 150.0, 400.0])
def test_every_size_of_face_is_some_grids_to_find(size: float) -> None:
    face = made_face(size, 160.0 - size / 2)
    state, _, _ = assign(Scene(np.zeros((320, 320), np.uint8), [face]))
    assert (state == 1).any()


def test_doubtful_places_are_left_out() -> None:
    unsure = np.array([100, 100, 180, 180], np.float32)
    state, _, _ = assign(Scene(np.zeros((320, 320), np.uint8), [], [unsure]))
    assert (state == -1).sum() >= 100
    assert (state == 1).sum() == 0


def test_scenes_hold_their_faces_where_they_say() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((220, 220), 40, np.uint8)
    face = made_face()
    x, y = face.mean(0).astype(int)
    picture[y - 8 : y + 8, x - 8 : x + 8] = 250
    subject = Subject(picture, face[None], np.zeros((0, 4), np.float32))
    grounds = [np.full((320, 320), 40, np.uint8)]
    composer = Composer([subject], [subject], [subject], grounds, seed=int(rng.integers(9)))
    seen = []
    for _ in range(60):
        scene = composer.scene()
        assert scene.picture.shape == (320, 320)
        assert scene.picture.dtype == np.uint8
        for found in scene.faces:
            cx, cy = np.clip(found.mean(0), 0, 319).astype(int)
            if np.ptp(found[:, 1]) > 40 and scene.picture.max() > 60:
                seen.append(int(scene.picture[cy, cx]) > int(np.median(scene.picture)))
    assert len(seen) > 10
    assert np.mean(seen) > 0.85


def test_a_batch_of_scenes_is_whole() -> None:
    rng = np.random.default_rng(0)
    subject = Subject(texture(rng, 220), made_face()[None], np.zeros((0, 4), np.float32), True)
    batch = make_batch(Composer([subject], [subject], [subject], [texture(rng, 320)], 0), 4)
    assert batch.images.shape == (4, 320, 320)
    assert batch.boxes.shape == (4, 2100, 4)
    assert batch.points.shape == (4, 2100, 3, 2)


def test_the_generous_overlap_of_equal_boxes_is_one_and_of_distant_ones_negative() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    others = torch.tensor([[0.0, 0, 10, 10], [90, 90, 100, 100]])
    found = generous_overlap(boxes, others)
    assert float(found[0]) == pytest.approx(1.0)
    assert float(found[1]) < -0.9


def test_face_free_crops_touch_no_face() -> None:
    picture = np.zeros((200, 200), np.uint8)
    picture[80:120, 80:120] = 255
    box = np.array([[80, 80, 120, 120, 0.9]], np.float32)
    labelled = Labelled([("a", 0)], [picture], [np.zeros((0, 106, 2), np.float32)], [box])
    crops = face_free_crops(labelled, np.random.default_rng(0), 20, 32)
    assert crops
    assert max(int(crop.max()) for crop in crops) == 0
    assert face_free_crops(plain(picture), np.random.default_rng(0), 5, 32)


def test_faces_are_sure_by_the_detection_they_lie_in() -> None:
    faces = np.stack([made_face(40.0, 0.0), made_face(40.0, 100.0)])
    box = np.array([[5, 5, 40, 40, 0.9]], np.float32)
    labelled = Labelled([("a", 0)], [np.zeros((200, 200), np.uint8)], [faces], [box])
    _, scores = sure_faces(labelled, 0)
    np.testing.assert_allclose(scores, [0.9, 0.0])


def test_tiles_cover_a_picture() -> None:
    seen = np.zeros((700, 1000), bool)
    for x0, y0, x1, y1 in tiles(1000, 700)[1:]:
        seen[y0:y1, x0:x1] = True
    assert seen.all()


def test_overlapping_finds_are_merged_to_the_best() -> None:
    boxes = np.array([[0, 0, 10, 10, 0.6], [1, 1, 11, 11, 0.9], [50, 50, 60, 60, 0.5]], np.float32)
    kept = merged(boxes)
    np.testing.assert_allclose(kept[:, 4], [0.9, 0.5])
    assert overlap(boxes[0], boxes)[1] == pytest.approx(0.81)
