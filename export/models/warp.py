"""The warp editor and the occlusion network, both on the canonical luma crop.

The editor also looks at the 106 landmarks and answers with a displacement per landmark, towards an
emotion. The runtime turns displacements into a smooth flow (`mien.runtime.methods.warp.flow`); a
network that drew the flow itself, cell by cell, folded at the lips. One that drew the shading as
well left stains on cheeks and lips: the folds of a moved face are drawn by
`mien.runtime.methods.warp.flow`.

The occlusion network says what lies in front of the skin, in two answers a pixel: spectacle frames
with the reflections on their lenses (rigid, thin, always there), and whatever else covers skin (a
hand, a cup, a microphone, strands of hair). It is a small U-Net (Ronneberger, Fischer, Brox 2015).
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
        self.wish = nn.Linear(TARGETS, 128)  # of the target; the name is that of checkpoints
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
        wanted = F.silu(self.wish(target))
        condition = torch.cat([F.silu(self.look(x.flatten(1))), self.shape(shape), wanted], 1)
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


OCCLUSION_CROP = 128
KINDS = 2  # glasses, cover
WIDTHS = (16, 32, 64, 96)
UP_WIDTHS = (16, 24, 48)  # at 64, 32 and 16 pixels


class Step(nn.Module):
    """Two convolutions, the first of which may halve the picture."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.second = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm1(self.first(x)))
        return F.relu(self.norm2(self.second(x)))


class OcclusionNetwork(nn.Module):
    """covered (n, 2, 128, 128) in [0, 1] of a luma crop (n, 1, 128, 128) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.down = nn.ModuleList([Step(1, a, 2), Step(a, b, 2), Step(b, c, 2), Step(c, d, 2)])
        u1, u2, u3 = UP_WIDTHS
        self.up = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(d + c, u3, 3, 1, 1, bias=False), nn.BatchNorm2d(u3)),
                nn.Sequential(nn.Conv2d(u3 + b, u2, 3, 1, 1, bias=False), nn.BatchNorm2d(u2)),
                nn.Sequential(nn.Conv2d(u2 + a, u1, 3, 1, 1, bias=False), nn.BatchNorm2d(u1)),
            ]
        )
        self.head = nn.Conv2d(u1, KINDS * 4, 3, 1, 1)  # four pixels a cell

    def logits(self, face: torch.Tensor) -> torch.Tensor:
        """Log odds (n, 2, 128, 128)."""
        x = face - face.mean((2, 3), keepdim=True)
        x = x / (x.square().mean((2, 3), keepdim=True).sqrt() + 0.05)
        seen = []
        for down in self.down:
            x = down(x)
            seen.append(x)
        for up, beside in zip(self.up, reversed(seen[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.relu(up(torch.cat([x, beside], 1)))
        return F.pixel_shuffle(self.head(x), 2)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.logits(face))
