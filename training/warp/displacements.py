"""What the warp editor is asked to do to a face: the supervised displacement per target.

Each emotion has a prototype: what it does to the 106 landmarks of an upright, frontal, resting
face. Class means of labelled pictures are faint where labels are noisy (sad, fearful) and where the
pictures were not acted for them, so the prototypes are built from facial action units instead:
which landmarks a unit moves and which way is from the Facial Action Coding System (Ekman, Friesen
and Hager, 2002), which units make up an emotion from its emotion table (EMFACS). The amounts are in
units of the outer-eye distance and were set from the class means of happy, surprised and angry in
faces160 and FER-2013, where those are reliable.

A real face is turned, is already doing something, and may be talking; here the prototype is fitted
to it.
"""

from __future__ import annotations

import numpy as np
import torch

from mien.runtime.faces.action_units import OUTER_EYES, RIGHT_HALF, action_unit
from mien.runtime.faces.alignment import RIGID_TEMPLATE
from mien.runtime.faces.topology import INNER_LIPS, MIRROR, OUTER_LIPS, RIGID
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


# How far the lips between the corners rise with a smile, as a share of the corners' own way. Over
# 243 people with calm and smiling pictures they rose by 0.58 of it; with all of that classifiers
# see fewer smiles, with none of it full lips look painted.
LIPS_RISE = 0.3
LIPS_BETWEEN = (*OUTER_LIPS[1:6], *OUTER_LIPS[7:], *INNER_LIPS[1:4], *INNER_LIPS[5:])


def expressed_unit(number: str) -> np.ndarray:
    """An action unit as expressions show it: float64 (106, 2), in outer-eye distances.

    number: as of `action_unit`. A smile raises the lips between its corners, too.
    """
    moved = action_unit(number)
    if number == "12":
        moved[list(LIPS_BETWEEN), 1] -= LIPS_RISE
    return moved


def prototypes(only: tuple[str, ...] = ()) -> np.ndarray:
    """Displacements per emotion of EMOTIONS in crop units: float32 (8, 106, 2).

    only: the action units to count, all when empty.
    """
    moves = np.zeros((len(EMOTIONS), 106, 2))
    for row, emotion in enumerate(EMOTIONS):
        for number, amount in _EMOTIONS[emotion].items():
            if not only or number in only:
                moves[row] += expressed_unit(number) * amount
    if only:
        return (moves * OUTER_EYES).astype(np.float32)
    side = np.where(np.arange(106) == MIRROR, 0.5, 0.0)[:, None]
    side[list(RIGHT_HALF)] = 1.0
    for emotion, (number, amount) in _ONE_SIDED.items():
        moves[EMOTIONS.index(emotion)] += expressed_unit(number) * amount * side
    return (moves * OUTER_EYES).astype(np.float32)


# Pairs of landmarks that must not pass each other, upper first: inner lips, then lids.
LIPS = ((97, 103), (98, 102), (99, 101))
LIDS = ((53, 57), (72, 73), (54, 56), (59, 63), (75, 76), (60, 62))

_TEMPLATE = dict(zip(RIGID, RIGID_TEMPLATE.tolist(), strict=True))
_LEFT_HALF = _TEMPLATE[43][0] - _TEMPLATE[52][0]
_RIGHT_HALF = _TEMPLATE[61][0] - _TEMPLATE[43][0]
REST_GAP = 0.012  # crop units between the inner lips of a closed mouth
WIDE_GAP = 0.060  # and of one that is open enough for any emotion


class TargetDisplacements:
    """Prototype displacements, fitted to faces."""

    def __init__(self, device: torch.device) -> None:
        self.whole = torch.from_numpy(prototypes()).to(device)
        self.opening = torch.from_numpy(prototypes(only=("25", "26"))).to(device)

    def displacement(
        self, landmarks: torch.Tensor, present: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Where each landmark should go: (n, 106, 2), crop units.

        landmarks: (n, 106, 2). present: (n, 8), what the face shows already, summing to 1.
        target: (n, 8) weights, summing to at most 1.
        """
        asked = target.sum(1, keepdim=True)
        # What a face shows already is mostly taken back; of the target itself only a quarter, for
        # a person who smiles and asks for a smile wants to see one.
        change = target - asked * present * (0.8 - 0.55 * target)
        gap = (landmarks[:, 102, 1] - landmarks[:, 98, 1]).clamp(min=0)
        closed = 1 - ((gap - REST_GAP) / (WIDE_GAP - REST_GAP)).clamp(0, 0.85)
        moved = torch.einsum("ne,epd->npd", change, self.whole - self.opening)
        opened = torch.einsum("ne,epd->npd", target, self.opening)
        moved = moved + opened * closed[:, None, None]
        moved = foreshorten(landmarks, moved)
        return hold_pairs(landmarks, moved)


def foreshorten(landmarks: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Sideways motion scaled by how wide each half of a turned face appears."""
    ridge = landmarks[:, 43:44, 0]
    left = ((ridge - landmarks[:, 52:53, 0]) / _LEFT_HALF).clamp(0.25, 1.3)
    right = ((landmarks[:, 61:62, 0] - ridge) / _RIGHT_HALF).clamp(0.25, 1.3)
    middle = landmarks[:, [43, 49], 0].mean(1, keepdim=True)
    side = ((landmarks[:, :, 0] - middle) / 0.08).clamp(-1, 1)
    scale = torch.where(side < 0, 1 + (left - 1) * -side, 1 + (right - 1) * side)
    return torch.stack([moved[..., 0] * scale, moved[..., 1]], 2)


def hold_pairs(landmarks: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Displacements under which lips do not cross, and eyes keep a part of their height."""
    y = landmarks[..., 1] + moved[..., 1]
    shift = torch.zeros_like(y)
    for pairs, keep in ((LIPS, 0.0), (LIDS, 0.45)):
        for upper, lower in pairs:
            height = (landmarks[:, lower, 1] - landmarks[:, upper, 1]).clamp(min=0)
            missing = (keep * height - (y[:, lower] - y[:, upper])).clamp(min=0)
            shift[:, upper] -= missing / 2
            shift[:, lower] += missing / 2
    return torch.stack([moved[..., 0], moved[..., 1] + shift], 2)
