"""Movements are in proportion to the face."""

from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.faces.own_expression import ACTIONS, actions_of
from mien.runtime.methods.warp.flow import hold_brows
from mien.runtime.methods.warp.mouth import lips_gap
from mien.runtime.methods.warp.proportions import BROWS, LIPS, Proportions
from tests.runtime.faces.shapes import mean_face

WIDTH = next(i for i, action in enumerate(ACTIONS) if action.name == "width")


def with_mouth(share: float) -> np.ndarray:
    """The mean face with a mouth of a share of the usual width."""
    face = with_gap(0.0)
    lips = list(LIPS)
    middle = face[lips, 0].mean()
    wanted = share * ACTIONS[WIDTH].neutral / actions_of(face)[WIDTH]
    face[lips, 0] = middle + (face[lips, 0] - middle) * wanted
    return face


def with_brows(lower: float) -> np.ndarray:
    face = mean_face()
    face[list(BROWS), 1] += lower
    return face


def test_a_small_mouth_smiles_small() -> None:
    asked = np.full((106, 2), 0.03, np.float32)
    for share in (0.75, 1.0):
        moved = Proportions()(with_mouth(share), asked, 1.0, 0.0)
        np.testing.assert_allclose(moved[list(LIPS)], 0.03 * share, rtol=0.02)
        np.testing.assert_array_equal(moved[:33], asked[:33])


def test_a_mouth_that_is_wide_already_is_not_stretched_once_more_but_lifted_as_asked() -> None:
    face = with_mouth(1.3)
    asked = np.zeros((106, 2), np.float32)
    asked[84], asked[90] = (-0.03, -0.04), (0.03, -0.04)
    moved = Proportions()(face, asked, 1.0, 0.0)
    np.testing.assert_allclose(moved[[84, 90], 0], (-0.006, 0.006), atol=1e-6)
    np.testing.assert_array_equal(moved[[84, 90], 1], asked[[84, 90], 1])
    inward = Proportions()(face, -asked, 1.0, 0.0)
    np.testing.assert_array_equal(inward[:, 0], -asked[:, 0])


def test_no_mouth_is_stretched_far_beyond_its_width() -> None:
    face, asked = mean_face(), np.zeros((106, 2), np.float32)
    asked[84, 0], asked[90, 0] = -0.2, 0.2
    before = np.ptp(face[list(LIPS), 0])
    shown = face + Proportions()(face, asked, 1.0, 0.0)
    assert np.ptp(shown[list(LIPS), 0]) == pytest.approx(1.3 * before, rel=0.01)


def test_brows_close_to_the_eyes_rise_less() -> None:
    up = np.zeros((106, 2), np.float32)
    up[list(BROWS), 1] = -0.03
    rises = [
        -Proportions()(with_brows(lower), up, 1.0, 0.0)[list(BROWS), 1].mean()
        for lower in (-0.02, 0.03)
    ]
    assert rises[0] == pytest.approx(0.03, rel=0.02)
    assert rises[1] < 0.85 * rises[0]


@pytest.mark.parametrize(("lower", "share"), [(-0.04, 1.0), (0.03, 0.734)])
def test_brows_sink_into_the_room_that_there_is_in_proportion_to_the_strength(
    lower: float, share: float
) -> None:
    face, down = with_brows(lower), np.zeros((106, 2), np.float32)
    down[list(BROWS), 1] = 0.03
    shown = [Proportions()(face, down, s, 0.0)[list(BROWS), 1].mean() for s in (0.5, 1.0, 1.5)]
    np.testing.assert_allclose(shown, 0.03 * share * np.array([0.5, 1.0, 1.5]), rtol=0.02)
    held = hold_brows(face, Proportions()(face, down, 1.0, 0.0))
    np.testing.assert_allclose(held, Proportions()(face, down, 1.0, 0.0))  # nothing held back


def test_a_mouth_that_is_pursed_for_a_moment_is_not_taken_for_a_small_one() -> None:
    fit, asked = Proportions(), np.full((106, 2), 0.02, np.float32)
    fit(with_mouth(1.0), asked, 1.0, 0.0)
    for frame in range(1, 4):
        moved = fit(with_mouth(0.65), asked, 1.0, frame / 30)
    assert moved[list(LIPS)].min() > 0.95 * 0.02


def with_gap(share: float) -> np.ndarray:
    """The mean face with lips open by a share of the mouth's width."""
    face = mean_face()
    wanted = share * float(np.ptp(face[list(LIPS), 0]))
    lower = [*range(91, 96), 101, 102, 103]
    face[lower, 1] += wanted - lips_gap(face)
    return face


def turned(down: float) -> np.ndarray:
    asked = np.zeros((106, 2), np.float32)
    asked[[84, 90, 96, 100], 1] = down
    asked[[85, 95, 89, 91, 97, 103, 99, 101], 1] = 0.7 * down  # no hook at the corners
    return asked


@pytest.mark.parametrize(("gap", "share"), [(0.02, 1.0), (0.09, 0.25), (0.3, 0.25)])
def test_open_lips_are_turned_down_less_and_lifted_as_asked(gap: float, share: float) -> None:
    face, down = with_gap(gap), turned(0.04)
    assert lips_gap(face) == pytest.approx(gap * np.ptp(face[list(LIPS), 0]), abs=1e-4)
    np.testing.assert_allclose(
        Proportions()(face, down, 1.0, 0.0), share * down, rtol=0.05, atol=1e-4
    )
    np.testing.assert_allclose(Proportions()(face, -down, 1.0, 0.0), -down, rtol=0.01, atol=1e-4)


def test_a_word_does_not_lift_a_sad_mouth() -> None:
    fit, asked = Proportions(), turned(0.04)
    fit(with_gap(0.0), asked, 1.0, 0.0)
    for frame in range(1, 5):
        moved = fit(with_gap(0.08), asked, 1.0, frame / 30)
    assert moved[84, 1] > 0.85 * 0.04


def test_a_nose_is_wrinkled_and_not_pinched() -> None:
    face, asked = mean_face(), np.zeros((106, 2), np.float32)
    asked[[80, 81], 1], asked[[82, 83], 1] = -0.03, -0.06
    moved = Proportions()(face, asked, 1.0, 0.0)
    np.testing.assert_allclose(moved[[82, 83], 1], -0.045, rtol=1e-5)
    np.testing.assert_allclose(moved[[80, 81], 1], -0.0225, rtol=1e-5)
    assert -0.016 < moved[46, 1] < -0.008  # or the tip would be left behind
    np.testing.assert_array_equal(Proportions()(face, -asked, 1.0, 0.0), -asked)


def test_corners_of_the_mouth_sink_with_the_lips_beside_them() -> None:
    face, asked = with_gap(0.0), np.zeros((106, 2), np.float32)
    asked[[84, 90, 96, 100], 1] = 0.05
    moved = Proportions()(face, asked, 1.0, 0.0)
    np.testing.assert_allclose(moved[[84, 90, 96, 100], 1], 0.015, rtol=0.01)
    np.testing.assert_array_equal(Proportions()(face, -asked, 1.0, 0.0), -asked)
