"""What each emotion does to the 106 landmarks of an upright, frontal face.

Class means of labelled pictures are faint where labels are noisy (sad, fearful) and where the
pictures were not acted for them, so the prototypes are built from facial action units instead:
which landmarks a unit moves and which way is from the Facial Action Coding System (Ekman, Friesen
and Hager, 2002), which units make up an emotion from its emotion table (EMFACS). The amounts are in
units of the outer-eye distance and were set from the class means of happy, surprised and angry in
faces160 and FER-2013, where those are reliable.
"""

from __future__ import annotations

import numpy as np

from mien.runtime.faces.action_units import OUTER_EYES, RIGHT_HALF, action_unit
from mien.runtime.faces.topology import MIRROR
from mien.runtime.target import EMOTIONS

# Amounts per unit, in outer-eye distances. Lips part for surprise and fear alone: how far they are
# open is otherwise the speaker's (`mien.runtime.methods.warp.speech`).
_EMOTIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"12": 0.120, "6": 0.050, "2": 0.004},
    "sad": {"1": 0.085, "4": 0.015, "15": 0.090, "17": 0.048, "43": 0.034},
    "surprised": {"1": 0.080, "2": 0.090, "5": 0.040, "26": 0.095, "25": 0.030, "22": 0.030},
    "fearful": {"1": 0.098, "2": 0.040, "4": 0.040, "5": 0.045, "20": 0.085, "25": 0.055},
    "disgusted": {"9": 0.080, "10": 0.050, "6": 0.030, "7": 0.028, "15": 0.030, "17": 0.020},
    "angry": {"4": 0.085, "7": 0.034, "23": 0.044, "15": 0.024, "17": 0.018},
    "contemptuous": {"7": 0.008},
}

# What one side of the face does more than the other, the viewer's right one: contempt pulls one
# corner of the mouth only (12 and 14), disgust raises one side of the upper lip higher.
_ONE_SIDED: dict[str, tuple[str, float]] = {
    "contemptuous": ("12", 0.07),
    "disgusted": ("10", 0.035),
}


def prototypes(only: tuple[str, ...] = ()) -> np.ndarray:
    """Displacements per emotion of EMOTIONS in crop units: float32 (8, 106, 2).

    only: the action units to count, all when empty.
    """
    moves = np.zeros((len(EMOTIONS), 106, 2))
    for row, emotion in enumerate(EMOTIONS):
        for number, amount in _EMOTIONS[emotion].items():
            if not only or number in only:
                moves[row] += action_unit(number) * amount
    if only:
        return (moves * OUTER_EYES).astype(np.float32)
    side = np.where(np.arange(106) == MIRROR, 0.5, 0.0)[:, None]
    side[list(RIGHT_HALF)] = 1.0
    for emotion, (number, amount) in _ONE_SIDED.items():
        moves[EMOTIONS.index(emotion)] += action_unit(number) * amount * side
    return (moves * OUTER_EYES).astype(np.float32)
