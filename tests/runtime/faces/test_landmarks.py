from __future__ import annotations

import numpy as np
import pytest

from mien.engines import LANDMARKS, FakeEngine
from mien.runtime.faces.alignment import ROI_POINTS_TEMPLATE, roi_matrix
from mien.runtime.faces.landmarks import LandmarkDetector
from tests.runtime.faces.fake_faces import (
    DIM,
    DISC_CENTRE,
    DISC_RADIUS,
    Counted,
    draw,
    face_shape,
    find_landmarks,
)


def placed(template: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    away = (template - np.array(DISC_CENTRE)) / DISC_RADIUS * radius
    return (away + np.array([x, y])).astype(np.float32)


@pytest.mark.parametrize("radius", [12, 30, 80])
def test_landmarks_come_in_pixels_of_the_frame(radius: float) -> None:
    luma = draw((150, 90, radius))
    expected = placed(face_shape(), 150, 90, radius)
    found = LandmarkDetector(FakeEngine(LANDMARKS, find_landmarks))(luma, roi_matrix(expected))
    assert found.points.dtype == np.float32
    np.testing.assert_allclose(found.points, expected, atol=0.04 * radius + 0.3)
    assert found.score == pytest.approx(0.95)


def test_a_detection_is_looked_at_twice_the_second_time_centred() -> None:
    luma, radius = draw((150, 90, 40)), 40
    engine = Counted(find_landmarks)
    rough = placed(ROI_POINTS_TEMPLATE, 150, 90, radius) + np.array([9, -7], np.float32)
    found = LandmarkDetector(FakeEngine(LANDMARKS, engine)).from_points(luma, rough)
    assert engine.calls == 2
    np.testing.assert_allclose(found.points, placed(face_shape(), 150, 90, radius), atol=1.5)


def test_score_and_light_are_told() -> None:
    detector = LandmarkDetector(FakeEngine(LANDMARKS, find_landmarks))
    roi = roi_matrix(placed(face_shape(), 150, 90, 40))
    plain, dim = (detector(draw((150, 90, 40, level)), roi) for level in (200, DIM))
    assert dim.score < 0.5 < plain.score
    assert 0 < dim.brightness < plain.brightness < 1
    assert 0 < dim.contrast < plain.contrast < 1
    flat = detector(np.full((180, 320), 51, np.uint8), roi)
    assert flat.brightness == pytest.approx(0.2, abs=1e-5)
    assert flat.contrast == pytest.approx(0.0, abs=1e-5)
