"""The crop of the landmark network."""

from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.faces.alignment import (
    ROI_POINTS_TEMPLATE,
    ROI_TEMPLATE,
    roi_matrix,
    roi_matrix_from_points,
    transform_points,
)
from mien.runtime.faces.topology import LEFT_EYE_CENTRE, RIGHT_EYE_CENTRE, RIGID


def turned(points: np.ndarray, degrees: float, scale: float, shift: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (scale * points @ turn.T + shift).astype(np.float32)


@pytest.mark.parametrize("degrees", [0.0, 35.0, -120.0])
def test_landmarks_of_a_mean_face_put_its_eyes_on_the_template(degrees: float) -> None:
    landmarks = np.zeros((106, 2), np.float32)
    landmarks[list(RIGID)] = ROI_TEMPLATE
    landmarks = turned(landmarks, degrees, 250.0, 40.0)
    seen = (transform_points(roi_matrix(landmarks), landmarks) + 0.5) / 112
    np.testing.assert_allclose(seen[LEFT_EYE_CENTRE], (0.36, 0.40), atol=1e-4)
    np.testing.assert_allclose(seen[RIGHT_EYE_CENTRE], (0.64, 0.40), atol=1e-4)


def test_points_and_landmarks_of_one_face_give_the_same_crop() -> None:
    landmarks = np.zeros((106, 2), np.float32)
    landmarks[list(RIGID)] = ROI_TEMPLATE
    landmarks = turned(landmarks, 20.0, 90.0, 7.0)
    points = turned(ROI_POINTS_TEMPLATE, 20.0, 90.0, 7.0)
    np.testing.assert_allclose(roi_matrix_from_points(points), roi_matrix(landmarks), atol=2e-2)


def test_a_larger_crop_shows_the_same_part_of_the_picture() -> None:
    points = np.array([(30, 40), (60, 41), (45, 73)], np.float32)
    small = (transform_points(roi_matrix_from_points(points, 112), points) + 0.5) / 112
    large = (transform_points(roi_matrix_from_points(points, 224), points) + 0.5) / 224
    np.testing.assert_allclose(small, large, atol=1e-5)
