"""Movements of the mouth are in proportion to it."""

from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.own_expression import ACTIONS, actions_of
from mien.runtime.methods.warp.mouth import bared_teeth, lips_gap, lips_opening
from mien.runtime.methods.warp.proportions import FARTHEST, LIPS, LOWEST, Proportions, turn_of
from tests.runtime.faces.shapes import mean_face

MOVES_NOTHING = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
WIDTH = next(i for i, action in enumerate(ACTIONS) if action.name == "width")


def with_mouth(share: float) -> np.ndarray:
    """The mean face with a mouth of a share of the usual width."""
    face = with_gap(0.0)
    lips = list(LIPS)
    middle = face[lips, 0].mean()
    wanted = share * ACTIONS[WIDTH].neutral / actions_of(face)[WIDTH]
    face[lips, 0] = middle + (face[lips, 0] - middle) * wanted
    return face


def seen(landmarks: np.ndarray, inside: float = 0.1) -> AlignedFace:
    """A crop of grey skin with something of a brightness between the lips."""
    opening = lips_opening(landmarks, 64)
    pixels = (0.6 + opening * (inside - 0.6)).astype(np.float32)
    return AlignedFace(pixels, MOVES_NOTHING, landmarks)


def test_a_mouth_that_is_wide_already_is_not_stretched_once_more_but_lifted_as_asked() -> None:
    face = with_mouth(1.3)
    asked = np.zeros((106, 2), np.float32)
    asked[84], asked[90] = (-0.03, -0.04), (0.03, -0.04)
    moved = Proportions()(seen(face), asked, 1.0, 0.0)
    np.testing.assert_allclose(moved[[84, 90], 0], (-0.006, 0.006), atol=1e-6)
    np.testing.assert_array_equal(moved[[84, 90], 1], asked[[84, 90], 1])
    inward = Proportions()(seen(face), -asked, 1.0, 0.0)
    np.testing.assert_array_equal(inward[:, 0], -asked[:, 0])


def test_no_mouth_is_stretched_far_beyond_its_width() -> None:
    face, asked = mean_face(), np.zeros((106, 2), np.float32)
    asked[84, 0], asked[90, 0] = -0.4, 0.4
    before = np.ptp(face[list(LIPS), 0])
    shown = face + Proportions()(seen(face), asked, 1.0, 0.0)
    assert np.ptp(shown[list(LIPS), 0]) == pytest.approx((1 + 2 * FARTHEST) * before, rel=0.01)


def with_gap(share: float) -> np.ndarray:
    """The mean face with lips open by a share of the mouth's width."""
    face = mean_face()
    wanted = share * float(np.ptp(face[list(LIPS), 0]))
    lower = [*range(91, 96), 101, 102, 103]
    face[lower, 1] += wanted - lips_gap(face)
    return face


def test_corners_do_not_sink_into_hooks() -> None:
    face, asked = with_gap(0.0), np.zeros((106, 2), np.float32)
    asked[[84, 90], 1] = 0.06
    width = np.ptp(face[list(LIPS), 0])
    whole, most = (Proportions()(seen(face), asked, strength, 0.0) for strength in (0.5, 1.5))
    assert turn_of(whole) == pytest.approx(0.03, abs=1e-6)
    assert turn_of(most) == pytest.approx(LOWEST * width, rel=1e-5)


def turned(down: float) -> np.ndarray:
    asked = np.zeros((106, 2), np.float32)
    asked[[84, 90, 96, 100], 1] = down
    asked[[85, 95, 89, 91, 97, 103, 99, 101], 1] = 0.7 * down  # no hook at the corners
    return asked


@pytest.mark.parametrize(
    ("gap", "inside", "share"),
    [(0.02, 0.6, 1.0), (0.08, 0.1, 1.0), (0.09, 0.6, 0.25), (0.14, 0.1, 0.25), (0.3, 0.6, 0.25)],
)
def test_open_lips_are_turned_down_less_over_teeth_from_the_first(
    gap: float, inside: float, share: float
) -> None:
    face, down = with_gap(gap), turned(0.04)
    assert lips_gap(face) == pytest.approx(gap * np.ptp(face[list(LIPS), 0]), abs=1e-4)
    face = seen(face, inside)
    np.testing.assert_allclose(
        Proportions()(face, down, 1.0, 0.0), share * down, rtol=0.05, atol=1e-4
    )
    np.testing.assert_allclose(Proportions()(face, -down, 1.0, 0.0), -down, rtol=0.01, atol=1e-4)


def test_a_grin_for_a_moment_is_not_taken_for_a_wide_mouth() -> None:
    fit, asked = Proportions(), np.zeros((106, 2), np.float32)
    asked[84, 0], asked[90, 0] = -0.02, 0.02
    fit(seen(with_mouth(1.0)), asked, 1.0, 0.0)
    for frame in range(1, 4):
        moved = fit(seen(with_mouth(1.3)), asked, 1.0, frame / 30)
    assert moved[90, 0] > 0.9 * 0.02


def test_what_is_not_the_mouth_is_left_as_asked() -> None:
    asked = np.random.default_rng(1).normal(0, 0.02, (106, 2)).astype(np.float32)
    moved = Proportions()(seen(with_gap(0.2)), asked, 1.5, 0.0)
    rest = [point for point in range(106) if point not in LIPS]
    np.testing.assert_allclose(moved[rest], 1.5 * asked[rest])


def test_a_word_does_not_lift_a_sad_mouth() -> None:
    fit, asked = Proportions(), turned(0.04)
    fit(seen(with_gap(0.0)), asked, 1.0, 0.0)
    for frame in range(1, 5):
        moved = fit(seen(with_gap(0.08)), asked, 1.0, frame / 30)
    assert moved[84, 1] > 0.85 * 0.04


def test_teeth_are_told_from_the_dark_of_a_mouth_and_from_closed_lips() -> None:
    wide = with_gap(0.12)
    assert bared_teeth(seen(wide, 0.6).pixels, wide) == 1
    assert bared_teeth(seen(wide, 0.2).pixels, wide) == 0
    shut = with_gap(0.0)
    assert bared_teeth(seen(shut, 0.6).pixels, shut) == 0
