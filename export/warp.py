"""The warp editor: which way each landmark of a face moves to show an emotion.

It looks at the canonical luma crop and the 106 landmarks and answers with a displacement per
landmark. The runtime turns displacements into a smooth flow (`mien.runtime.methods.warp.flow`); a network that
drew the flow itself, cell by cell, folded at the lips. One that drew the shading as well left
stains on cheeks and lips: the folds of a moved face are drawn by `mien.runtime.methods.warp.flow`.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

CROP = 64
POINTS = 106
TARGETS = 8


class Down(nn.Module):
    """Halves the picture: a strided convolution and one at the new size, with a residual."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c_in, c_out, 4, 2, 1)
        self.conv = nn.Conv2d(c_out, c_out, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.silu(self.reduce(x))
        return y + F.silu(self.conv(y))


class WarpNetwork(nn.Module):
    """displacement (n, 106, 2) of a face and a target, in crop units.

    `units` (2k, 212) are the movements of k facial action units, of the left half of a face and of
    the right one; `most` (2k,) is how much of each there may be at strength 1. The network answers
    with amounts of them, so that it shapes faces as muscles do: one that could move landmarks
    freely pleased its classifiers with mouths that no person makes. `mean` (106, 2) and `halves`
    (2,) are the mean face and the widths of its halves, from the ridge of the nose to the outer
    corners of the eyes.
    """

    units: torch.Tensor
    most: torch.Tensor
    mean: torch.Tensor
    halves: torch.Tensor

    def __init__(
        self, units: torch.Tensor, most: torch.Tensor, mean: torch.Tensor, width: int = 24
    ) -> None:
        super().__init__()
        self.register_buffer("units", units)
        self.register_buffer("most", most)
        self.register_buffer("mean", mean)
        halves = torch.stack([mean[43, 0] - mean[52, 0], mean[61, 0] - mean[43, 0]])
        self.register_buffer("halves", halves)
        channels = [1, width, 2 * width, 3 * width, 4 * width]
        self.down = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(channels))
        self.look = nn.Linear(channels[4] * 16, 128)
        self.shape = nn.Sequential(nn.Linear(POINTS * 2, 128), nn.SiLU(), nn.Linear(128, 128))
        self.wish = nn.Linear(TARGETS, 128)
        self.mix = nn.Sequential(nn.Linear(384, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU())
        self.move = nn.Linear(256, units.shape[0])
        for parameter in self.move.parameters():  # an untrained editor leaves the face alone
            nn.init.zeros_(parameter)

    def amounts(
        self, face: torch.Tensor, landmarks: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """How much of each unit: (n, 2k)."""
        centred = face - face.mean((2, 3), keepdim=True)
        contrast = centred.square().mean((2, 3), keepdim=True).sqrt()
        x = centred / (contrast + 0.05)
        for down in self.down:
            x = down(x)
        shape = (landmarks - self.mean).flatten(1) * 10
        wish = F.silu(self.wish(target))
        condition = torch.cat([F.silu(self.look(x.flatten(1))), self.shape(shape), wish], 1)
        return torch.tanh(self.move(self.mix(condition))) * self.most

    def forward(
        self, face: torch.Tensor, landmarks: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        moved = (self.amounts(face, landmarks, target) @ self.units).reshape(-1, POINTS, 2)
        # The half of a face that is turned away moves less sideways.
        ridge = landmarks[:, 43:44, 0]
        left = ((ridge - landmarks[:, 52:53, 0]) / self.halves[0]).clamp(0.25, 1.3)
        right = ((landmarks[:, 61:62, 0] - ridge) / self.halves[1]).clamp(0.25, 1.3)
        middle = (ridge + landmarks[:, 49:50, 0]) / 2
        side = ((landmarks[:, :, 0] - middle) / 0.08).clamp(-1, 1)
        scale = 1 + (left - 1) * (-side).clamp(min=0) + (right - 1) * side.clamp(min=0)
        return torch.stack([moved[..., 0] * scale, moved[..., 1]], 2)
