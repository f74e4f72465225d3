from __future__ import annotations

import cv2
import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.engines import DETECTOR, Catalog, FakeEngine
from mien.runtime.faces.detection import (
    MAX_VIEWS,
    Detection,
    FaceDetector,
    FaceSearch,
    View,
    distinct,
    letterbox,
    suppress_overlaps,
    tiles,
)
from mien.runtime.luma import luma_of
from mien.runtime.video import read_frames
from tests.runtime.faces.fake_faces import draw, find_faces, grey_frame


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


def search(luma: np.ndarray, further: int) -> list[tuple[float, float]]:
    """The centres of the faces that drawn discs are, found with so many looks."""
    found, views = FaceSearch(FaceDetector(FakeEngine(DETECTOR, find_faces)))(luma, further)
    assert len(views) == 1 + further
    return sorted(((d.box[0] + d.box[2]) / 2, (d.box[1] + d.box[3]) / 2) for d in found)


@pytest.mark.parametrize("size_wh", [(640, 480), (1280, 720), (720, 1280), (3840, 2160)])
def test_tiles_show_every_small_face_whole(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    views = tiles(size_wh)
    assert all(v.x0 >= 0 and v.y0 >= 0 for v in views)
    assert all(v.x0 + v.width <= width and v.y0 + v.height <= height for v in views)
    chance = np.random.default_rng(3)
    for _ in range(300):
        eyes = np.exp(chance.uniform(np.log(14), np.log(12 / 320 * max(size_wh))))
        half = 2.6 * eyes / 2
        centre = chance.uniform((half, half), (width - half, height - half))
        box = np.concatenate([centre - half, centre + half])
        assert any(view.shows(box, 0) for view in views), (eyes, centre)


def test_the_number_of_looks_is_bounded() -> None:
    assert len(tiles((320, 240))) == 0
    assert 0 < len(tiles((1920, 1080))) < 40
    assert MAX_VIEWS / 2 < len(tiles((12000, 9000))) <= MAX_VIEWS


def test_a_face_on_the_border_of_tiles_is_found_once() -> None:
    luma = draw((1000, 500, 9), (1310, 700, 9), size_wh=(1920, 1080))
    assert search(luma, 0) == []
    found = search(luma, 7 + len(tiles((1920, 1080))))
    np.testing.assert_allclose(found, [(1000, 500), (1310, 700)], atol=2)


def test_looks_in_turn_come_to_everything_in_the_end() -> None:
    luma = draw((1700, 900, 9), size_wh=(1920, 1080))
    finder = FaceSearch(FaceDetector(FakeEngine(DETECTOR, find_faces)))
    seen = [bool(finder(luma, 2)[0]) for _ in range(30)]
    assert 0 < sum(seen) < 15
    finder.reset()
    assert [bool(finder(luma, 2)[0]) for _ in range(30)] == seen


def test_a_nose_is_no_face_in_a_face() -> None:
    def found(x0: float, side: float, score: float):  # type: ignore[no-untyped-def]
        box = (x0, x0, x0 + side, x0 + side)
        return Detection(box, np.zeros((3, 2), np.float32), score)

    kept = distinct([found(40, 20, 0.7), found(10, 90, 0.9), found(200, 20, 0.6)])
    assert [d.score for d in kept] == [0.9, 0.6]


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, np.ndarray]:
    """The face of the sample, uint8 (H, W), and the place between its eyes and mouth."""
    luma = luma_of(next(iter(read_frames(SAMPLE))))
    with Catalog.bundled().open(DETECTOR) as engine:
        (face,) = FaceDetector(engine)(luma)
    return luma, face.points


def placed(
    portrait: tuple[np.ndarray, np.ndarray], size_wh: tuple[int, int], eyes_px: float, roll: float
) -> tuple[np.ndarray, np.ndarray]:
    """The portrait in a larger picture, `roll` degrees turned, and where its face is then."""
    luma, points = portrait
    scale = eyes_px / float(np.hypot(*(points[1] - points[0])))
    middle = points.mean(0)
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), roll, scale)
    target = np.array(size_wh) * (0.63, 0.41)
    matrix[:, 2] += target - middle
    blur = cv2.GaussianBlur(luma, (0, 0), max(0.1, 0.4 / scale))
    return cv2.warpAffine(blur, matrix, size_wh, borderValue=90), target


@pytest.mark.parametrize(
    ("size_wh", "eyes_px", "roll"),
    [
        pytest.param((3840, 2160), 16, 0, marks=pytest.mark.slow),
        pytest.param((3840, 2160), 60, 0, marks=pytest.mark.slow),
        pytest.param((4000, 3000), 100, 0, marks=pytest.mark.slow),
        ((1280, 720), 18, 0),
    ]
    + [((640, 480), 60, roll) for roll in (45, -60, 90, 135, 180)],
)
def test_the_shipped_detector_finds_small_and_lying_faces(
    portrait: tuple[np.ndarray, np.ndarray], size_wh: tuple[int, int], eyes_px: float, roll: float
) -> None:
    luma, place = placed(portrait, size_wh, eyes_px, roll)
    with Catalog.bundled().open(DETECTOR) as engine:
        coarse, _ = FaceSearch(FaceDetector(engine))(luma)
        found, _ = FaceSearch(FaceDetector(engine))(luma, 1000)
    assert not coarse or roll == 0
    near = [d for d in found if np.hypot(*(d.points.mean(0) - place)) < eyes_px / 2]
    assert len(near) == 1
    eyes = near[0].points[1] - near[0].points[0]
    assert np.hypot(*eyes) == pytest.approx(eyes_px, rel=0.25)
    lean = np.degrees(np.arctan2(-eyes[1], eyes[0])) - roll
    assert abs((lean + 180) % 360 - 180) < 15


def test_a_view_knows_whether_it_shows_a_face() -> None:
    view = View(100, 100, 320, 320)
    box = np.array([200, 200, 240, 240])
    assert view.shows(box, 0)
    assert view.shows(box, 3.7)
    assert not view.shows(box, 1)
    assert not view.shows(box - 120, 0)
    assert not View(0, 0, 1280, 720).shows(box, 0)
