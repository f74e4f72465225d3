from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.inversion import (
    CALM_S,
    FRESH_S,
    GAP_S,
    MOVED,
    RESTING_S,
    WAITS,
    Freshness,
    Inversion,
)


class Encoder:
    """Answers with the brightness of the crop as a code of two layers, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, face: AlignedFace) -> np.ndarray:
        self.calls += 1
        return np.full((2, 4), face.pixels.mean(), np.float32)


def face(value: float) -> AlignedFace:
    return AlignedFace(
        np.full((8, 8), value, np.float32), np.eye(2, 3), np.zeros((106, 2), np.float32)
    )


def test_the_first_code_is_the_encoders() -> None:
    code = Inversion(Encoder())(face(0.5), 3.0)
    assert code.shape == (2, 4)
    assert code.dtype == np.float32
    assert np.all(code == 0.5)


def moved_face(value: float, by: float, points: slice = slice(33, None)) -> AlignedFace:
    """A face with some of its landmarks elsewhere, by crop units."""
    there = face(value)
    there.landmarks[points, 1] += by
    return there


def test_the_code_of_a_face_that_moves_is_made_again_soon() -> None:
    encoder = Encoder()
    invert = Inversion(encoder)
    for frame in range(3):
        invert(moved_face(0.5, 2 * MOVED * frame), frame * 0.9 * FRESH_S / 2)
        assert invert.has_encoded == (frame == 0)
    invert(moved_face(0.5, 2 * MOVED), FRESH_S)
    assert invert.has_encoded
    assert encoder.calls == 2


def test_the_code_of_a_face_that_rests_lasts_longer() -> None:
    encoder = Encoder()
    invert = Inversion(encoder)
    for frame in range(10):
        invert(moved_face(0.5, 0.5 * MOVED * (frame % 2)), frame * 0.099 * RESTING_S)
    assert encoder.calls == 1
    invert(face(0.5), RESTING_S)
    assert encoder.calls == 2


LIPS, OUTLINE = slice(84, 104), slice(0, 33)


@pytest.mark.parametrize(("part", "is_due"), [(LIPS, True), (OUTLINE, False)])
def test_lips_alone_are_a_movement_and_a_sliding_outline_is_none(part: slice, is_due: bool) -> None:
    freshness = Freshness()
    assert freshness.is_due(face(0.5).landmarks, 1.0)
    freshness.made(face(0.5).landmarks, 1.0)
    moved = moved_face(0.5, 2 * MOVED, part).landmarks
    assert freshness.is_due(moved, 1.0 + FRESH_S + 1e-6) == is_due
    assert freshness.is_due(moved, 0.9)  # time that falls


def test_a_change_of_what_is_asked_counts_as_a_movement_and_waiting_puts_it_off() -> None:
    freshness, still = Freshness(), face(0.5).landmarks
    freshness.made(still, 0.0)
    assert not freshness.is_due(still, FRESH_S)
    assert freshness.is_due(still, FRESH_S, changes=True)
    assert not freshness.is_due(still, FRESH_S, changes=True, waits=True)
    assert freshness.is_due(still, WAITS * FRESH_S, changes=True, waits=True)
    assert freshness.is_due(still, RESTING_S, waits=True)


def test_the_code_follows_without_a_jump() -> None:
    invert = Inversion(Encoder(), fresh_s=0.0)
    invert(face(0.0), 0.0)
    faces = [moved_face(1.0, 2 * MOVED * (n % 2)) for n in range(60)]
    steps = [float(invert(seen, 0.01 * (1 + n)).mean()) for n, seen in enumerate(faces)]
    assert max(np.diff([0.0, *steps])) < 1.1 * 0.01 / CALM_S
    assert steps[-1] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("time_s", [-1.0, GAP_S + 0.01])
def test_after_a_cut_nothing_is_kept(time_s: float) -> None:
    invert = Inversion(Encoder())
    invert(face(0.0), 0.0)
    assert np.all(invert(face(1.0), time_s) == 1.0)
