"""Facial action units as movements of the 106 landmarks, and what a face does of its own.

Which landmarks a unit moves and which way is from the Facial Action Coding System (Ekman, Friesen
and Hager, 2002).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mien.runtime.faces.topology import MIRROR

OUTER_EYES: Final = 0.4734  # of the crop's side, mean over the training pictures

# Landmarks of the viewer's left half (and the middle) that a unit moves: (dx, dy), +x towards the
# middle of the face, +y down. The right half is the mirror image.
_UNITS: Final[dict[str, dict[int, tuple[float, float]]]] = {
    "inner brow raiser (1)": {
        37: (0, -1), 67: (0, -1), 36: (0, -0.75), 66: (0, -0.75), 35: (0, -0.42), 65: (0, -0.42),
        34: (0, -0.12), 64: (0, -0.12), 43: (0, -0.1),
    },
    "outer brow raiser (2)": {
        33: (0, -0.7), 34: (0, -1), 64: (0, -0.95), 35: (0, -0.85), 65: (0, -0.8), 36: (0, -0.4),
        66: (0, -0.4), 37: (0, -0.1), 67: (0, -0.1),
    },
    "brow lowerer (4)": {
        37: (0.55, 1), 67: (0.55, 1), 36: (0.5, 0.9), 66: (0.5, 0.85), 35: (0.3, 0.5),
        65: (0.3, 0.5), 34: (0.1, 0.1), 64: (0.1, 0.15), 53: (0, 0.1), 72: (0, 0.15), 54: (0, 0.2),
    },
    "upper lid raiser (5)": {53: (0, -0.8), 72: (0, -1), 54: (0, -0.8)},
    "cheek raiser (6)": {
        57: (0, -0.7), 73: (0, -0.8), 56: (0, -0.6), 53: (0, 0.12), 72: (0, 0.15), 54: (0, 0.1),
    },
    "lid tightener (7)": {
        57: (0, -0.7), 73: (0, -0.8), 56: (0, -0.7), 53: (0, 0.6), 72: (0, 0.7), 54: (0, 0.6),
    },
    "lids droop (43)": {53: (0, 0.8), 72: (0, 1), 54: (0, 0.7), 57: (0, 0.1), 73: (0, 0.1)},
    "nose wrinkler (9)": {
        82: (0.1, -0.9), 80: (0.1, -0.6), 78: (0.2, 0.3), 47: (0, -0.8), 48: (0, -0.4),
        49: (0, -0.2), 37: (0.05, 0.3), 67: (0.05, 0.35), 36: (0.03, 0.2), 66: (0.03, 0.25),
        86: (0, -0.5), 87: (0, -0.35), 85: (0, -0.4), 97: (0, -0.4), 98: (0, -0.3),
    },
    "upper lip raiser (10)": {
        85: (0.05, -0.8), 86: (0, -1), 87: (0, -0.75), 97: (0, -0.95), 98: (0, -0.75),
        84: (0, -0.1), 96: (0, -0.1), 82: (-0.1, -0.35), 47: (0, -0.3),
    },
    "lip corner puller (12)": {
        84: (-0.75, -1), 96: (-0.75, -0.95), 85: (-0.5, -0.45), 86: (-0.15, -0.12),
        95: (-0.5, -0.55), 94: (-0.25, -0.1), 97: (-0.4, -0.3), 103: (-0.4, -0.3),
        82: (-0.15, -0.15), 47: (-0.1, -0.05), 9: (-0.12, -0.15), 10: (-0.12, -0.12),
        8: (-0.12, -0.15), 11: (-0.08, -0.08),
    },
    "lip corner depressor (15)": {
        84: (-0.1, 1), 96: (-0.08, 0.9), 85: (0, 0.35), 95: (-0.05, 0.6), 94: (0, 0.1),
        97: (0, 0.3), 103: (0, 0.35),
    },
    "chin raiser (17)": {
        93: (0, -0.8), 94: (0, -0.75), 95: (0, -0.35), 102: (0, -0.7), 103: (0, -0.55),
        98: (0, -0.25), 97: (0, -0.2), 87: (0, -0.3), 86: (0, -0.25), 16: (0, -0.35),
        15: (0, -0.3), 14: (0, -0.2),
    },
    "lip stretcher (20)": {
        84: (-1, 0.25), 96: (-1, 0.2), 85: (-0.55, 0), 95: (-0.6, 0.15), 97: (-0.5, 0),
        103: (-0.5, 0.1), 86: (-0.2, 0), 94: (-0.25, 0.05),
    },
    "lip tightener (23)": {
        84: (0.3, 0), 96: (0.3, 0), 85: (0.1, 0.4), 86: (0, 0.6), 87: (0, 0.6), 95: (0.1, -0.4),
        94: (0, -0.6), 93: (0, -0.6), 97: (0.1, 0.15), 98: (0, 0.2), 103: (0.1, -0.15),
        102: (0, -0.2),
    },
    "lips part (25)": {
        97: (0, -0.35), 98: (0, -0.4), 86: (0, -0.3), 87: (0, -0.3), 85: (0, -0.15),
        103: (0, 0.55), 102: (0, 0.6), 94: (0, 0.5), 93: (0, 0.55), 95: (0, 0.25),
    },
    "jaw drop (26)": {
        103: (0.05, 0.85), 102: (0, 1), 94: (0, 0.95), 93: (0, 1), 95: (0.1, 0.55),
        84: (0.2, 0.25), 96: (0.2, 0.25), 16: (0, 0.8), 15: (0, 0.78), 14: (0, 0.7),
        13: (0, 0.6), 12: (0, 0.45), 11: (0, 0.3), 10: (0, 0.15),
    },
    "lip funneler (22)": {
        84: (0.8, 0), 96: (0.8, 0), 85: (0.4, -0.1), 95: (0.4, 0.1), 97: (0.4, 0), 103: (0.4, 0),
    },
}  # fmt: skip


def action_unit(number: str) -> np.ndarray:
    """How landmarks move by a unit of amount 1: float64 (106, 2), in outer-eye distances.

    number: of the Facial Action Coding System, as "12".
    """
    moved = np.zeros((106, 2))
    (landmarks,) = (table for name, table in _UNITS.items() if name.endswith(f"({number})"))
    for point, (dx, dy) in landmarks.items():
        mirrored = int(MIRROR[point])
        if mirrored == point:
            moved[point] = (0, dy)
            continue
        moved[point] = (dx, dy)
        moved[mirrored] = (-dx, dy)
    return moved


# How wide each half of the mean face is, crop units, from the ridge of the nose to an eye's corner;
# how far beside the middle a half begins in full; and how narrow or wide it is taken to be.
_HALF_WIDTH: Final = 0.5 - 0.2573
_BESIDE: Final = 0.08
_LEAST_WIDE, _MOST_WIDE = 0.25, 1.3


def foreshortened(landmarks: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Sideways movement scaled by how wide each half of a turned face appears: float32 (106, 2).

    landmarks, moved: (106, 2), crop units.
    """
    x = landmarks[:, 0]
    ridge, left, right = float(x[43]), float(x[52]), float(x[61])
    wide = (
        min(_MOST_WIDE, max(_LEAST_WIDE, half / _HALF_WIDTH)) - 1
        for half in (ridge - left, right - ridge)
    )
    side = np.clip((x - (x[43] + x[49]) / 2) / _BESIDE, -1, 1)
    left_more, right_more = wide
    scaled = moved.astype(np.float32)
    scaled[:, 0] *= 1 + np.where(side < 0, left_more * -side, right_more * side)
    return scaled


# Landmarks of the viewer's right half.
RIGHT_HALF: Final = frozenset(
    [
        *range(17, 33),
        *range(38, 43),
        *range(58, 64),
        50,
        51,
        68,
        69,
        70,
        71,
        75,
        76,
        77,
        79,
        81,
        83,
        88,
        89,
        90,
        91,
        92,
        99,
        100,
        101,
        105,
    ]
)
