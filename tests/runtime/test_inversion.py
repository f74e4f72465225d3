from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.inversion import CALM_S, FRESH_S, GAP_S, Inversion


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


def test_a_fresh_code_is_used_again() -> None:
    encoder = Encoder()
    invert = Inversion(encoder)
    for frame in range(3):
        invert(face(0.5), frame * 0.9 * FRESH_S / 2)
    assert encoder.calls == 1
    invert(face(0.5), FRESH_S)
    assert encoder.calls == 2


def test_the_code_follows_without_a_jump() -> None:
    invert = Inversion(Encoder(), fresh_s=0.0)
    invert(face(0.0), 0.0)
    steps = [float(invert(face(1.0), 0.01 * (1 + n)).mean()) for n in range(60)]
    assert max(np.diff([0.0, *steps])) < 1.1 * 0.01 / CALM_S
    assert steps[-1] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("time_s", [-1.0, GAP_S + 0.01])
def test_after_a_cut_nothing_is_kept(time_s: float) -> None:
    invert = Inversion(Encoder())
    invert(face(0.0), 0.0)
    assert np.all(invert(face(1.0), time_s) == 1.0)
