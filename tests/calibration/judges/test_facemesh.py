import sys
from pathlib import Path

import numpy as np
import pytest

from mien.calibration.judges.facemesh import FaceMesh, Region, find_anywhere, region_around
from mien.engines import EngineError, UsageError


def fake_mediapipe(folder: Path, body: str) -> Path:
    """A Python that has a `mediapipe` whose FaceMesh does `body` with the picture."""
    (folder / "mediapipe.py").write_text(
        f"""
from types import SimpleNamespace as Names
print("a line that must not disturb the answers")
class FaceMesh:
    def __init__(self, **settings):
        assert settings["static_image_mode"]
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def process(self, picture):
{body}
solutions = Names(face_mesh=Names(FaceMesh=FaceMesh))
"""
    )
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


SEES_LIGHT = """
        if not picture.any():
            return Names(multi_face_landmarks=None)
        y, x = (place.mean() for place in picture[..., 0].nonzero())
        height, width = picture.shape[:2]
        point = Names(x=x / width, y=y / height, z=0.1)
        return Names(multi_face_landmarks=[Names(landmark=[point] * 478)])
"""


def picture_with_spot(height: int, width: int, at: tuple[int, int]) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[at] = 255
    return picture


def test_points_come_back_in_pixels_of_the_frame(tmp_path):
    with FaceMesh(fake_mediapipe(tmp_path, SEES_LIGHT)) as reference:
        points = reference(picture_with_spot(40, 60, (10, 30)))
        assert points.shape == (478, 3)
        np.testing.assert_allclose(points[0], [30, 10, 6], atol=1e-4)
        assert reference(np.zeros((8, 12, 3), np.uint8)) is None
        region = Region(20, 4, 52, 28)
        seen = reference(picture_with_spot(40, 60, (10, 30)), region)
        np.testing.assert_allclose(seen[5, :2], [30, 10], atol=1e-4)


def test_a_zoomed_region_gives_the_same_place(tmp_path):
    with FaceMesh(fake_mediapipe(tmp_path, SEES_LIGHT)) as reference:
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[20:30, 30:40] = 200
        seen = reference(picture, Region(16, 8, 48, 40, zoom=4))
        np.testing.assert_allclose(seen[0, :2], [34.5, 24.5], atol=0.1)


def test_a_python_that_is_not_there_or_ends_is_one_clear_error(tmp_path):
    with pytest.raises(UsageError, match="cannot start"):
        FaceMesh(tmp_path / "nowhere")
    python = fake_mediapipe(tmp_path, "        raise SystemExit(1)")
    with FaceMesh(python) as reference, pytest.raises(EngineError, match="mediapipe"):
        reference(np.zeros((8, 8, 3), np.uint8))


def test_a_region_holds_the_face_and_stays_in_the_frame():
    points = np.array([[100, 100, 0], [180, 220, 0]], np.float32)
    region = region_around(points, (1280, 720))
    assert region.x0 <= 100 - 90
    assert region.y1 >= 220 + 90
    assert region.zoom == 2
    small = region_around(np.array([[2, 2], [22, 26]], np.float32), (640, 360))
    assert (small.x0, small.y0) == (0, 0)
    assert small.zoom >= 5


def test_a_region_stays_until_the_face_moves_or_grows():
    points = np.array([[300, 200, 0], [400, 330, 0]], np.float32)
    region = region_around(points, (1280, 720))
    assert region_around(points + np.float32(20), (1280, 720), region) is region
    assert region_around(points + np.float32(90), (1280, 720), region) != region
    grown = points + np.array([[-50, -50, 0], [50, 50, 0]], np.float32)
    assert region_around(grown, (1280, 720), region).side_px > region.side_px


def test_a_small_face_is_looked_for_in_parts_of_the_frame():
    looked = []

    def reference(rgb, region=None):
        looked.append(region)
        holds = region is not None and region.x0 <= 290 < region.x1 and region.y1 - region.y0 < 90
        return np.ones((478, 3), np.float32) if holds else None

    assert find_anywhere(reference, np.zeros((200, 300, 3), np.uint8)) is not None
    assert looked[0] is None
    assert find_anywhere(lambda rgb, region=None: None, np.zeros((90, 90, 3), np.uint8)) is None
