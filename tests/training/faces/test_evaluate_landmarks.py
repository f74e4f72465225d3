from types import SimpleNamespace

import numpy as np
import pytest

from mien.runtime.faces.alignment import RIGID_TEMPLATE, roi_matrix, transform_points
from mien.runtime.faces.topology import LEFT_EYE_OUTER, RIGHT_EYE_OUTER, RIGID
from mien.training.faces.evaluate_landmarks import disturbed, error, errors


def a_face() -> np.ndarray:
    points = np.random.default_rng(1).uniform(20, 80, (106, 2)).astype(np.float32)
    points[list(RIGID)] = RIGID_TEMPLATE * 100
    return points


def test_the_error_is_the_mean_distance_by_the_outer_eye_distance():
    truth = a_face()
    eyes = np.linalg.norm(truth[RIGHT_EYE_OUTER] - truth[LEFT_EYE_OUTER])
    assert error(truth + np.float32([3, 4]), truth) == pytest.approx(5 / eyes, rel=1e-5)
    assert error(truth, truth) == 0


def test_a_disturbed_face_lies_a_little_off():
    truth = a_face()
    chance = np.random.default_rng(2)
    off = [error(disturbed(truth, chance), truth) for _ in range(50)]
    assert 0.02 < np.mean(off) < 0.2


def test_the_second_look_is_led_by_the_first():
    looks = []

    def detector(picture, roi_from_frame):
        looks.append(roi_from_frame)
        return SimpleNamespace(points=picture + np.float32(len(looks) % 2))

    truth = a_face()
    found = errors([truth, truth], np.stack([truth, truth]), detector)
    np.testing.assert_allclose(found, 0)
    np.testing.assert_allclose(looks[1], roi_matrix(truth + np.float32(1)), atol=1e-6)
    assert transform_points(looks[0], truth).shape == (106, 2)
