"""What the warp editor is asked to do to a face: the supervised displacement per target.

The prototypes of the emotions are for a frontal, upright, resting face. A real one is turned, is
already doing something, and may be talking; here the prototype is fitted to it.
"""

from __future__ import annotations

import torch

from mien.runtime.faces.alignment import RIGID_TEMPLATE
from mien.runtime.faces.topology import RIGID
from mien.training.prototypes import prototypes

# Pairs of landmarks that must not pass each other, upper first: inner lips, then lids.
LIPS = ((97, 103), (98, 102), (99, 101))
LIDS = ((53, 57), (72, 73), (54, 56), (59, 63), (75, 76), (60, 62))

_TEMPLATE = dict(zip(RIGID, RIGID_TEMPLATE.tolist(), strict=True))
_LEFT_HALF = _TEMPLATE[43][0] - _TEMPLATE[52][0]
_RIGHT_HALF = _TEMPLATE[61][0] - _TEMPLATE[43][0]
REST_GAP = 0.012  # crop units between the inner lips of a closed mouth
WIDE_GAP = 0.060  # and of one that is open enough for any emotion


class Wishes:
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
