from __future__ import annotations

import math

import numpy as np
import pytest

from mien.runtime.faces.landmarks import Landmarks
from mien.runtime.faces.topology import RIGID
from mien.runtime.faces.visibility import RIGID_SHAPE, Presence, fade, head_pose, visibility
from tests.runtime.faces.fake_faces import face_shape

SIZE_WH = (640, 360)


def turned_face(
    *, yaw: float = 0, pitch: float = 0, roll: float = 0, eyes_px: float = 60
) -> np.ndarray:
    """A head in space, seen from far: (106, 2). Positive yaw looks to the viewer's left."""
    points = face_shape() * (eyes_px / 0.28) + np.array([320, 180]) - 0.45 * eyes_px / 0.28
    y, p, r = (math.radians(angle) for angle in (yaw, pitch, roll))
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    seen = (RIGID_SHAPE @ about_x.T @ about_y.T)[:, :2] * eyes_px
    turn = np.array([[math.cos(r), -math.sin(r)], [math.sin(r), math.cos(r)]])
    points[list(RIGID)] = seen + points[list(RIGID)].mean(0)
    middle = points[list(RIGID)].mean(0)
    return ((points - middle) @ turn.T + middle).astype(np.float32)


def seen(points: np.ndarray, **changes: float) -> float:
    values = {"score": 0.95, "brightness": 0.4, "contrast": 0.15, **changes}
    return visibility(Landmarks(points, **values), SIZE_WH)


@pytest.mark.parametrize("yaw", [-50, -30, 0, 20, 45])
@pytest.mark.parametrize("roll", [-90, 0, 30, 180])
def test_yaw_is_read_whatever_the_roll(yaw: float, roll: float) -> None:
    pose = head_pose(turned_face(yaw=yaw, roll=roll))
    assert abs(pose.yaw_deg) == pytest.approx(abs(yaw), abs=1.0)
    assert pose.pitch_deg == pytest.approx(0, abs=1.0)
    assert pose.eye_distance_px == pytest.approx(60, rel=0.02)
    assert pose.misfit < 0.01
    if yaw:
        assert head_pose(turned_face(yaw=-yaw, roll=roll)).yaw_deg * pose.yaw_deg < 0


@pytest.mark.parametrize("pitch", [-40, 20])
def test_pitch_is_read(pitch: float) -> None:
    pose = head_pose(turned_face(pitch=pitch, roll=15))
    assert abs(pose.pitch_deg) == pytest.approx(abs(pitch), abs=1.5)
    assert pose.yaw_deg == pytest.approx(0, abs=1.5)


def test_a_plain_face_is_fully_visible() -> None:
    assert seen(turned_face()) == 1.0
    assert seen(turned_face(yaw=15, roll=35, pitch=10)) == 1.0


@pytest.mark.parametrize(
    ("half", "none"),
    [
        ({"yaw": 32}, {"yaw": 48}),
        ({"pitch": 37}, {"pitch": 60}),
        ({"eyes_px": 11}, {"eyes_px": 7}),
    ],
)
def test_turning_away_and_distance_fade(half: dict[str, float], none: dict[str, float]) -> None:
    assert 0.2 < seen(turned_face(**half)) < 0.8
    assert seen(turned_face(**none)) == 0.0


@pytest.mark.parametrize(
    ("half", "none"),
    [
        ({"score": 0.55}, {"score": 0.3}),
        ({"brightness": 0.05}, {"brightness": 0.02}),
        ({"contrast": 0.035}, {"contrast": 0.01}),
    ],
)
def test_cover_and_bad_light_fade(half: dict[str, float], none: dict[str, float]) -> None:
    assert 0.2 < seen(turned_face(), **half) < 0.8
    assert seen(turned_face(), **none) == 0.0


def test_a_face_that_leaves_the_frame_fades() -> None:
    away = [seen(turned_face() + np.array([shift, 0], np.float32)) for shift in range(200, 400, 10)]
    assert away[0] == 1.0
    assert away[-1] == 0.0
    assert away == sorted(away, reverse=True)


def test_points_that_form_no_head_are_not_edited() -> None:
    rng = np.random.default_rng(1)
    points = turned_face()
    assert seen(points + rng.normal(0, 15, points.shape).astype(np.float32)) == 0.0
    assert seen(np.full((106, 2), 100, np.float32)) == 0.0
    line = np.stack([np.linspace(100, 200, 106), np.linspace(100, 200, 106)], -1)
    assert seen(line.astype(np.float32)) == 0.0


def test_fade_runs_either_way() -> None:
    assert fade(8, gone=8, full=14) == 0
    assert fade(11, gone=8, full=14) == 0.5
    assert fade(30, gone=40, full=25) == pytest.approx(2 / 3)
    assert fade(10, gone=40, full=25) == 1


@pytest.mark.parametrize("step_s", [0.01, 0.04, 0.1])
def test_presence_rises_slowly_and_falls_quickly(step_s: float) -> None:
    presence, now = Presence(), 0.0

    def time_to(wanted: float) -> float:
        nonlocal now
        start = now
        while presence(wanted, now) != pytest.approx(wanted, abs=1e-6):
            now += step_s
        return now - start

    assert time_to(1.0) == pytest.approx(0.3, abs=step_s + 1e-9)
    assert time_to(0.0) == pytest.approx(0.12, abs=step_s + 1e-9)


def test_presence_of_a_face_that_was_there_starts_in_full() -> None:
    assert Presence(full=True)(0.8, 4.0) == 0.8
    assert Presence()(0.8, 4.0) == 0.0


def test_presence_moves_nothing_when_time_goes_back() -> None:
    presence = Presence(full=True)
    presence(1.0, 50.0)
    assert presence(0.0, 50.06) == pytest.approx(0.5)
    assert presence(0.0, 10.0) == pytest.approx(0.5)
    assert presence(0.0, 10.03) == pytest.approx(0.25)
