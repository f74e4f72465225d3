"""The folds that a moved face makes: fine shading along creases, never a stain.

Skin that is pushed together folds where faces fold: from the wing of the nose to the corner of the
mouth, under the lower lid, beside the eye, between and above the brows, on the root of the nose.
Each is a groove with its two lit flanks, whose mean is nothing, so that cheeks and lips keep their
brightness; how deep it is follows from how far the landmarks beside it move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mien.runtime.topology import LEFT_EYE_OUTER, MIRROR

SIZE: Final = 128  # cells a side of the crop
GROOVE: Final = 1.5  # cells, standard deviation of a groove
FLANKS: Final = 4.0  # and of what its flanks give back
MAX_DEPTH: Final = 0.22  # relative luma at the bottom of the deepest groove
LEAST_DEPTH: Final = 0.004
STEPS: Final = 1000  # of a byte to a depth of 1
# Depth for a movement of one crop unit. Set by looking at clips at full size.
NASOLABIAL, LOWER_LID, CROWS_FEET, FROWN, FOREHEAD, NOSE_ROOT = (
    1.5, 2.0, 1.2, 2.2, 1.5, 2.2,
)  # fmt: skip
HALF_WIDTH: Final = 0.243  # crop units, from the ridge of the nose to the corner of an eye
RAMP: Final = 16  # points of a drawn curve


@dataclass(frozen=True, slots=True)
class _Side:
    """One half of the face: its landmarks by their numbers on the viewer's left."""

    points: np.ndarray
    moves: np.ndarray
    index: np.ndarray
    sign: float  # outward is sign * -x
    wide: float  # how wide this half appears, 1 where the face looks ahead

    def at(self, point: int) -> np.ndarray:
        """Where a landmark of the viewer's left half, or its mirror, is."""
        place: np.ndarray = self.points[self.index[point]]
        return place

    def up(self, *points: int) -> float:
        """How far landmarks move up, on average."""
        return -float(self.moves[self.index[list(points)], 1].mean())

    def outward(self, *points: int) -> float:
        """How far landmarks move away from the middle of the face."""
        return -self.sign * float(self.moves[self.index[list(points)], 0].mean())

    def off(self, x: float, y: float) -> np.ndarray:
        """An offset in crop units, x towards the outside, y down."""
        return np.array([-self.sign * x * self.wide, y], np.float32)


def folds(landmarks: np.ndarray, displacement: np.ndarray) -> np.ndarray | None:
    """The relative change of brightness: float32 (128, 128), None where nothing folds.

    landmarks: (106, 2), crop units, where they are shown. displacement: (106, 2), by which they
    were moved there.
    """
    drawn = np.zeros((SIZE, SIZE), np.uint8)  # antialiasing is for bytes only
    same = np.arange(len(MIRROR))
    for index, sign in ((same, 1.0), (MIRROR, -1.0)):
        half = abs(float(landmarks[43, 0] - landmarks[index[LEFT_EYE_OUTER], 0]))
        wide = float(np.clip(half / HALF_WIDTH, 0.2, 1.2))
        _draw_half(drawn, _Side(landmarks, displacement, index, sign, wide))
    if drawn.max() < LEAST_DEPTH * STEPS:
        return None
    lines = drawn.astype(np.float32) / np.float32(STEPS)
    groove = cv2.GaussianBlur(lines, (0, 0), GROOVE)
    flanks = cv2.GaussianBlur(lines, (0, 0), FLANKS)
    # A line one cell wide keeps 0.4 / sigma of its value when it is blurred.
    gain: np.ndarray = (flanks - groove) * np.float32(GROOVE / 0.4)
    gain[[0, -1]] = 0
    gain[:, [0, -1]] = 0
    bounded: np.ndarray = np.clip(gain, -MAX_DEPTH, MAX_DEPTH)
    return bounded


def _draw_half(drawn: np.ndarray, side: _Side) -> None:
    corner_up, corner_out = side.up(84, 96), side.outward(84, 96)
    nose_up = side.up(82, 80)
    smile = max(0.0, corner_up) + 0.5 * max(0.0, corner_out) + 1.2 * max(0.0, nose_up)
    smile *= min(1.0, side.wide) ** 2  # a half that is turned away shows its fold edge on
    _draw(
        drawn,
        (side.at(82) + side.off(0.018, -0.018), side.off(0.03, 0.0)),
        side.at(84) + side.off(0.04, -0.012),
        NASOLABIAL * smile,
    )
    lid_up = side.up(57, 73, 56)
    _draw(
        drawn,
        (side.at(57) + side.off(0.012, 0.018), side.off(0.0, 0.018)),
        side.at(55) + side.off(0.004, 0.022),
        LOWER_LID * max(0.0, lid_up),
    )
    feet = CROWS_FEET * max(0.0, lid_up + 0.3 * max(0.0, corner_up))
    for rise in (-0.028, 0.0, 0.026):
        start = side.at(LEFT_EYE_OUTER) + side.off(0.022, 0.2 * rise + 0.004)
        _draw(drawn, (start, side.off(0.0, 0.004)), start + side.off(0.04, rise), feet * 0.7)
    knit = side.up(37, 67)
    frown = max(0.0, -knit) + max(0.0, -side.outward(37, 67)) * 0.8
    inner = (side.at(37) + side.at(67)) / 2 + side.off(-0.022, 0.0)
    _draw(drawn, (inner - [0, -0.02], side.off(0.004, 0.0)), inner - [0, 0.045], FROWN * frown)
    for height, share in ((0.055, 1.0), (0.09, 0.7)):
        depth = FOREHEAD * share
        _draw(
            drawn,
            (side.at(34) - [0, height], side.off(0.0, -0.012)),
            side.at(36) - [0, height],
            depth * max(0.0, side.up(34, 35)),
        )
        _draw(
            drawn,
            (side.at(36) - [0, height], side.off(0.0, -0.004)),
            np.array([side.points[43, 0], float(side.at(37)[1])], np.float32) - [0, height],
            depth * max(0.0, knit),
        )
    root = NOSE_ROOT * max(0.0, nose_up)
    for down in (0.0, 0.03):
        start = side.points[43] + np.array([0, 0.012 + down], np.float32)
        _draw(drawn, (start, side.off(0.0, -0.006)), start + side.off(0.035, 0.022), root)


def _draw(
    drawn: np.ndarray, start_and_bow: tuple[np.ndarray, np.ndarray], end: np.ndarray, depth: float
) -> None:
    """Draw a bowed line that fades at both ends; points in crop units."""
    if depth < 0.002:
        return
    start, bow = start_and_bow
    t = np.linspace(0, 1, RAMP, dtype=np.float32)[:, None]
    curve = start + (end - start) * t + 4 * t * (1 - t) * bow
    fixed = np.round((curve * SIZE - 0.5) * 16).astype(np.int32)
    faded = depth * np.sin(np.pi * (t[:-1, 0] + 0.5 / RAMP)) ** 0.7
    for begin, finish, value in zip(fixed[:-1], fixed[1:], faded, strict=True):
        cv2.line(
            drawn,
            begin.tolist(),
            finish.tolist(),
            min(255.0, float(value) * STEPS),
            1,
            cv2.LINE_AA,
            4,
        )
