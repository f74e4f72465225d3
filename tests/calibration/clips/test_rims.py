from dataclasses import replace

import cv2
import numpy as np
import pytest

from mien.calibration.clips.rims import (
    BROWS,
    LIDS,
    OUTER_EYES,
    RimPoints,
    around_eyes,
    at_720,
    edge_shifts,
    frames_of,
    measure_rims,
    over_points,
    rim_points,
)
from mien.calibration.judges.classifier import still
from mien.engines.errors import VideoError
from tests.calibration.clips.test_edits import SomeFace, landmarks_at

WIDTH, HEIGHT = 800, 720
EYES = ((300, 300), (500, 300))  # centres


def face_mesh() -> np.ndarray:
    """A mesh (478, 3) with rings for lids and brows; all else is far below."""
    mesh = np.full((478, 3), 600.0)
    for rings, radii, lift in ((LIDS, (40, 12), 0), (BROWS, (45, 8), -60)):
        for ring, (x, y) in zip(rings, EYES, strict=True):
            angle = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
            xs, ys = x + radii[0] * np.cos(angle), y + lift + radii[1] * np.sin(angle)
            mesh[list(ring), :2] = np.stack([xs, ys], 1)
    mesh[list(OUTER_EYES), :2] = [(260, 300), (540, 300)]
    mesh[:2, 0] += 5
    return mesh


def scene(rim_dx: float = 0.0, brow_dy: float = 0.0) -> np.ndarray:
    """Skin with dark brows and eyes, and two rings of spectacles: uint8 (720, 800)."""
    grey = np.full((HEIGHT, WIDTH), 170, np.uint8)
    for x, y in EYES:
        cv2.ellipse(grey, (x, y), (38, 10), 0, 0, 360, 40, -1, cv2.LINE_AA)
        cv2.ellipse(grey, (x, round(y - 60 + brow_dy)), (43, 6), 0, 0, 360, 60, -1, cv2.LINE_AA)
        centre = (round((x + rim_dx) * 16), (y + 20) * 16)
        cv2.ellipse(grey, centre, (80 * 16, 62 * 16), 0, 0, 360, 30, 5, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(grey, (0, 0), 0.8)


def luma_of(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / 255


def test_rims_are_found_and_brows_and_eyes_are_not():
    points = rim_points(luma_of(scene()), face_mesh(), None)
    assert len(points.places) >= 100
    for x, y in points.places:
        rings = [abs(np.hypot((x - cx) / 80, (y - cy - 20) / 62) - 1) * 62 for cx, cy in EYES]
        assert min(rings) < 8


def test_a_face_without_glasses_has_next_to_no_points():
    bare = np.full((HEIGHT, WIDTH), 170, np.uint8)
    for x, y in EYES:
        cv2.ellipse(bare, (x, y), (38, 10), 0, 0, 360, 40, -1, cv2.LINE_AA)
        cv2.ellipse(bare, (x, y - 60), (43, 6), 0, 0, 360, 60, -1, cv2.LINE_AA)
    assert len(rim_points(luma_of(bare), face_mesh(), None).places) < 12


def test_what_a_network_calls_glasses_is_taken_wherever_it_lies():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[220:260] = True
    before, mesh = luma_of(scene()), face_mesh()
    assert not around_eyes((HEIGHT, WIDTH), mesh)[240, 280:320].any()  # a brow
    places = {tuple(place) for place in rim_points(before, mesh, None).places}
    more = {tuple(place) for place in rim_points(before, mesh, mask).places}
    added = np.array(sorted(more - places))
    assert len(added)
    assert ((added[:, 1] >= 220) & (added[:, 1] < 260)).all()


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 2.0, -3.0])
def test_a_shift_of_the_rims_is_measured_in_parts_of_a_pixel(shift):
    points = rim_points(luma_of(scene()), face_mesh(), None)
    found = edge_shifts(luma_of(scene()), luma_of(scene(rim_dx=shift)), points)
    upright = np.abs(points.normals[:, 0]) > 0.95  # where a shift to the side is across the edge
    measured = found[upright] * np.sign(points.normals[upright, 0])
    assert np.nanmedian(measured) == pytest.approx(shift, abs=0.12)


def test_brows_that_move_and_light_that_changes_are_no_shift():
    before = luma_of(scene())
    after = 0.1 + 0.7 * luma_of(scene(brow_dy=8))
    points = rim_points(before, face_mesh(), None)
    shifts = edge_shifts(before, after, points)
    assert np.nanpercentile(np.abs(shifts), 95) < 0.1
    assert np.isnan(shifts).mean() < 0.05


def test_an_edge_that_is_wiped_away_is_lost_and_not_still():
    points = rim_points(luma_of(scene()), face_mesh(), None)
    chance = np.random.default_rng(2)
    wiped = chance.normal(0.6, 0.01, (HEIGHT, WIDTH)).astype(np.float32)
    assert np.isnan(edge_shifts(luma_of(scene()), wiped, points)).mean() > 0.9
    nothing = RimPoints(np.zeros((0, 2)), np.zeros((0, 2)))
    assert edge_shifts(wiped, wiped, nothing).size == 0


def test_points_of_all_frames_count_together():
    found = over_points([np.array([0.1, -0.1, np.nan]), np.array([0.3])])
    assert (found.points, found.frames) == (4, 2)
    assert found.median == pytest.approx(0.1)
    assert found.lost == pytest.approx(0.25)
    assert np.isnan(over_points([]).median)


def test_pictures_of_any_size_are_measured_with_720_lines():
    small = still(cv2.resize(scene(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert at_720(small).shape == (HEIGHT, WIDTH)


class Shifter:
    """Shows the rims elsewhere."""

    faces = (SomeFace(landmarks_at(200, 200, 400)),)

    def __init__(self, dx: float) -> None:
        self.dx = dx

    def apply(self, frame):
        return replace(still(scene(rim_dx=self.dx)), pts=frame.pts)

    def reset(self) -> None:
        """Forget nothing."""


def test_each_emotion_has_its_own_shift():
    frames = [still(scene())] * 2
    found = measure_rims(
        frames, lambda rgb, region=None: face_mesh(), {"sad": Shifter(0), "angry": Shifter(3)}, None
    )
    assert found["sad"].frames == 2
    assert found["sad"].high < 0.05
    assert found["angry"].high == pytest.approx(3, abs=0.3)


def test_a_picture_is_one_frame_and_a_broken_one_is_told(tmp_path):
    path = tmp_path / "wearer.png"
    assert cv2.imwrite(str(path), np.dstack([scene()] * 3))
    frames = list(frames_of(path, 2, None))
    assert [(f.width, f.height) for f in frames] == [(WIDTH, HEIGHT)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"broken\.png"):
        list(frames_of(broken, 2, None))
