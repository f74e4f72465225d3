from __future__ import annotations

import math
from dataclasses import astuple, fields

import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.runtime.faces.expression import (
    DEPTHS,
    RIGID,
    RIGID_MEAN,
    Measures,
    face_parts,
    frontal,
    measure_face,
)
from mien.runtime.faces.tracking import Face
from mien.runtime.filter import Filter
from mien.runtime.video import read_frames


def head() -> np.ndarray:
    """A face in three dimensions, float64 (106, 3), its rigid points those of the mean one."""
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-0.6, 0.6, 106), rng.uniform(-0.3, 1.0, 106), DEPTHS])
    points[list(RIGID)] = RIGID_MEAN
    return points


def seen(points: np.ndarray, yaw: float, pitch: float, roll: float, size: float) -> np.ndarray:
    """Where a camera far away sees a head turned by degrees: float32 (106, 2) pixels."""
    (ca, sa), (cb, sb), (cg, sg) = (
        (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
        for angle in (yaw, pitch, roll)
    )
    turn = np.array([[cg, -sg, 0], [sg, cg, 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, cb, -sb], [0, sb, cb]])
    turn = turn @ np.array([[ca, 0, sa], [0, 1, 0], [-sa, 0, ca]])
    return (size * (points @ turn.T)[:, :2] + [300, 200]).astype(np.float32)


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll", "size"),
    [(0, 0, 0, 80), (25, 0, 0, 80), (0, -15, 0, 30), (-20, 10, 40, 200), (10, 10, 180, 80)],
)
def test_the_pose_of_the_head_is_taken_out(
    yaw: float, pitch: float, roll: float, size: float
) -> None:
    points = head()
    turned = seen(points, yaw, pitch, roll, size)
    assert np.abs(frontal(turned) - points[:, :2]).max() < 2e-3
    plain = astuple(measure_face(seen(points, 0, 0, 0, 100)))
    assert np.allclose(astuple(measure_face(turned)), plain, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "indices", "by"),
    [
        ("smile", (84, 90), (0, -0.1)),
        ("brows_up", tuple(range(33, 43)), (0, -0.1)),
        ("inner_brows_up", (37, 38, 67, 68), (0, -0.1)),
        ("upper_lids_up", (72, 75), (0, -0.1)),
        ("lower_lids_up", (73, 76), (0, -0.1)),
    ],
)
def test_each_measure_follows_its_own_points(
    name: str, indices: tuple[int, ...], by: tuple[float, float]
) -> None:
    points = head()
    before = measure_face(seen(points, 10, 5, 20, 100))
    points[list(indices), :2] += by
    moved = measure_face(seen(points, 10, 5, 20, 100)).minus(before)
    assert getattr(moved, name) == pytest.approx(0.1, abs=2e-3)
    others = {"brows_up", "inner_brows_up"} if "brows" in name else {name}
    rest = [f.name for f in fields(Measures) if f.name not in others]
    assert all(abs(getattr(moved, other)) < 2e-3 for other in rest)


def test_lips_are_measured_by_their_gap_and_width() -> None:
    points = head()
    points[[98, 102], :2] = [(0, 0.8), (0, 0.8)]
    before = measure_face(seen(points, 0, 0, 0, 100))
    assert before.lips_apart == pytest.approx(0, abs=0.02)
    points[102, 1] += 0.2
    points[84, 0] -= 0.1
    moved = measure_face(seen(points, 0, 0, 0, 100)).minus(before)
    sign = 1 if points[84, 0] < points[90, 0] else -1
    assert moved.lips_apart == pytest.approx(0.2, abs=0.02)
    assert moved.mouth_wide * sign > 0


def test_points_that_coincide_measure_nothing_but_are_no_error() -> None:
    assert all(map(math.isfinite, astuple(measure_face(np.zeros((106, 2), np.float32)))))


def test_the_landmarks_have_names() -> None:
    points = np.arange(212, dtype=np.float32).reshape(106, 2)
    parts = face_parts(points)
    assert {f.name: getattr(parts, f.name).shape for f in fields(parts)} == {
        "contour": (33, 2), "left_brow": (9, 2), "right_brow": (9, 2), "left_eye": (8, 2),
        "right_eye": (8, 2), "left_pupil": (2,), "right_pupil": (2,), "nose": (15, 2),
        "outer_lips": (12, 2), "inner_lips": (8, 2),
    }  # fmt: skip
    parts.left_pupil[:] = 0
    assert points[104].any()
    face = Face(1, points, 1.0, 1.0)
    assert np.array_equal(face.parts.outer_lips[0], points[84])


def test_an_edited_face_measures_as_the_expression_it_was_given() -> None:
    """On the sample, as mien's own landmarks see input and output."""
    frame = next(iter(read_frames(SAMPLE)))
    rgb = _rgb(frame)
    for target, name, least in (("happy", "smile", 0.03), ("surprised", "brows_up", 0.015)):
        with Filter(target) as change, Filter(None) as look:
            *_, edited = change.frames([(rgb, float(second)) for second in range(4)])
            (before,) = change.faces
            look(edited, 0.0)
            (after,) = look.faces
        assert getattr(after.measures.minus(before.measures), name) > least
        assert isinstance(before.measures, Measures)


def _rgb(frame: object) -> np.ndarray:
    from mien.runtime.live.pixels import pixels

    return np.ascontiguousarray(pixels(frame))
