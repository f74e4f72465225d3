import cv2
import numpy as np
import pytest

from mien.calibration.clips.finding import Finding, false_faces, measure_finding, overlap
from mien.engines import VideoError
from mien.runtime.faces.detection import Detection
from mien.runtime.frame import Frame, PixelLayout, Plane


def frames(count: int) -> list[Frame]:
    plane = Plane(np.zeros((90, 120), np.uint8), (1, 1))
    return [Frame((plane,), PixelLayout("gray"), 120, 90) for _ in range(count)]


def detector_of(*boxes):
    return lambda luma: [Detection(box, np.zeros((3, 2), np.float32), 0.9) for box in boxes]


def reference(rgb, region=None):
    """Sees a face at 20..60, 10..50."""
    points = np.full((478, 3), 30, np.float32)
    points[0], points[1] = (20, 10, 0), (60, 50, 0)
    return points


def test_overlap_of_boxes():
    a = np.array([0.0, 0, 10, 10])
    assert overlap(a, a) == pytest.approx(1)
    assert overlap(a, np.array([5.0, 0, 15, 10])) == pytest.approx(1 / 3)
    assert overlap(a, np.array([20.0, 20, 30, 30])) == 0


def test_every_tenth_frame_counts_where_the_boxes_agree():
    right, wrong = (22.0, 12.0, 60.0, 52.0), (80.0, 40.0, 110.0, 80.0)
    assert measure_finding(frames(21), reference, detector_of(wrong, right)) == Finding(3, 3, 3)
    assert measure_finding(frames(21), reference, detector_of(wrong)) == Finding(3, 3, 0)


def test_frames_without_a_face_by_the_judge_ask_for_none():
    nobody = measure_finding(frames(5), lambda rgb, region=None: None, detector_of())
    assert nobody == Finding(1, 0, 0)


def test_false_faces_are_counted_and_unreadable_pictures_named(tmp_path):
    assert cv2.imwrite(str(tmp_path / "dogs.png"), np.zeros((8, 8), np.uint8))
    assert false_faces(tmp_path / "dogs.png", detector_of((0.0, 0.0, 4.0, 4.0))) == 1
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(VideoError, match="text"):
        false_faces(tmp_path / "text.png", detector_of())
