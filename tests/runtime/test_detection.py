from __future__ import annotations

import numpy as np
import pytest

from mien.engines import DETECTOR, FakeEngine
from mien.runtime.detection import FaceDetector, letterbox, suppress_overlaps
from tests.runtime.fake_faces import draw, find_faces, grey_frame


def answers(*faces: tuple[int, float, tuple[float, float, float, float]]) -> FakeEngine:
    """An engine that sees the same cells (place, score, box) in any picture."""

    def see(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        scores = np.zeros((1, 2100), np.float32)
        boxes = np.zeros((1, 2100, 4), np.float32)
        points = np.zeros((1, 2100, 3, 2), np.float32)
        for cell, score, box in faces:
            scores[0, cell] = score
            boxes[0, cell] = box
            points[0, cell] = ((box[0], box[1]), (box[2], box[1]), (box[0], box[3]))
        return {"scores": scores, "boxes": boxes, "points": points}

    return FakeEngine(DETECTOR, see)


def test_cells_become_faces_in_pixels_of_the_picture() -> None:
    detector = FaceDetector(answers((1700, 0.8, (10, 20, 50, 60))))
    (face,) = detector(np.zeros((720, 1280), np.uint8))  # four pixels of it to one of the input
    np.testing.assert_allclose(face.box, (41.5, 81.5, 201.5, 241.5))
    np.testing.assert_allclose(face.points, ((41.5, 81.5), (201.5, 81.5), (41.5, 241.5)))
    assert face.points.dtype == np.float32
    assert face.score == pytest.approx(0.8)


def test_of_overlapping_boxes_the_best_stays_and_weak_ones_go() -> None:
    detector = FaceDetector(
        answers(
            (3, 0.7, (12, 20, 52, 60)),
            (900, 0.9, (10, 20, 50, 60)),
            (2099, 0.6, (200, 20, 240, 60)),
            (50, 0.4, (100, 100, 140, 140)),
        )
    )
    found = detector(np.zeros((320, 320), np.uint8))
    assert [round(face.score, 3) for face in found] == [0.9, 0.6]


def test_boxes_without_area_are_no_faces() -> None:
    boxes = np.array([(10, 10, 10, 50), (20, 20, 10, 50), (0, 0, 9, 9)], np.float32)
    scores = np.ones(3, np.float32)
    assert suppress_overlaps(boxes, scores, threshold=0.5, overlap=0.4) == [2]


def test_the_letterbox_holds_the_picture_at_its_left_top() -> None:
    image = letterbox(np.full((180, 320), 255, np.uint8))
    assert image.shape == (1, 1, 320, 320)
    assert image.dtype == np.float32
    assert (image[0, 0, :180] == 1).all()
    assert (image[0, 0, 180:] == 0).all()


@pytest.mark.parametrize("size_wh", [(640, 360), (357, 641), (200, 100), (1999, 301)])
def test_a_face_is_found_where_it_was_drawn(size_wh: tuple[int, int]) -> None:
    scale = max(size_wh) / 320
    x, y, radius = 0.4 * size_wh[0], 0.5 * size_wh[1], 15 * scale
    (face,) = FaceDetector(FakeEngine(DETECTOR, find_faces))(draw((x, y, radius), size_wh=size_wh))
    expected = (x - radius, y - radius, x + radius, y + radius)
    np.testing.assert_allclose(face.box, expected, atol=0.6 * scale + 0.5)


@pytest.mark.parametrize("rotation", [0, 1, 2, 3])
def test_faces_are_looked_for_upright_and_told_in_stored_pixels(rotation: int) -> None:
    detector = FaceDetector(FakeEngine(DETECTOR, find_faces))
    displayed = draw((220, 70, 24))
    (upright,) = detector(displayed)
    stored = np.ascontiguousarray(np.rot90(displayed, rotation))
    (face,) = detector(grey_frame(stored, rotation))
    marks = np.zeros(displayed.shape, np.uint8)
    for i, (x, y) in enumerate(upright.points.round().astype(int)):
        marks[y, x] = i + 1
    marks = np.rot90(marks, rotation)
    for i, point in enumerate(face.points):
        ((y, x),) = np.argwhere(marks == i + 1)
        np.testing.assert_allclose(point, (x, y), atol=0.8)
    assert face.box[0] < face.points[:, 0].min() < face.points[:, 0].max() < face.box[2]


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 900), (900, 1), (3, 2)])
def test_pictures_of_hardly_a_pixel_have_no_face(size_wh: tuple[int, int]) -> None:
    detector = FaceDetector(FakeEngine(DETECTOR, find_faces))
    assert detector(np.zeros(size_wh[::-1], np.uint8)) == []
