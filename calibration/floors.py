"""What the default filter must reach, as docs/quality.md states it."""

from __future__ import annotations

from dataclasses import dataclass

EDITED = ("happy", "sad", "surprised", "fearful", "disgusted", "angry")


@dataclass(frozen=True, slots=True)
class ActionFloor:
    """A change that an emotion must bring: a field of `mesh.Expression`, at least `least` of it.

    A negative `least` asks for a change at least as far below zero.
    """

    emotion: str
    quantity: str
    least: float

    def holds(self, value: float) -> bool:
        """Whether `value` reaches the floor; NaN does not."""
        return value >= self.least if self.least > 0 else value <= self.least


ACTION_FLOORS = (
    ActionFloor("happy", "corners_up", 0.04),
    ActionFloor("sad", "corners_up", -0.02),
    ActionFloor("surprised", "brows_up", 0.03),
    ActionFloor("surprised", "lips_apart", 0.05),
    ActionFloor("angry", "inner_brows_up", -0.015),
)
# Action units without a floor, told so that a reader sees what the edit does.
ACTIONS_TOLD = (
    ("sad", "inner_brows_up"),
    ("fearful", "inner_brows_up"),
    ("fearful", "eyes_open"),
    ("fearful", "lips_apart"),
    ("fearful", "mouth_wide"),
    ("disgusted", "nose_wings_up"),
    ("disgusted", "upper_lip_up"),
    ("disgusted", "inner_brows_up"),
    ("disgusted", "eyes_open"),
    ("angry", "brows_apart"),
)

CALM_CEILING = 1.25
HAPPY_ACCURACY_FLOOR = 0.9
MEAN_ACCURACY_FLOOR = 0.7
FOUND_FLOOR = 0.99
LANDMARK_ERROR_CEILING = 0.035

FP16_PSNR_FLOOR_DB = 45.0  # of edited frames, against those of the FP32 networks
# What an INT8 network may change, by the distance of the outer corners of the eyes where it is a
# shift; the landmarks themselves are off by 0.029 of it on people they have not seen.
INT8_SHIFT_CEILING = 0.01
INT8_CALM_CEILING = 1.1
INT8_NAMED_LOSS_CEILING = 0.02
