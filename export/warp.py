"""The warp editor: which way each landmark of a face moves to show an emotion, and the shading.

It looks at the canonical luma crop and the 106 landmarks and answers with a displacement per
landmark and a coarse brightness gain. The runtime turns displacements into a smooth flow
(`mien.runtime.flow`); a network that drew the flow itself, cell by cell, folded at the lips.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

CROP = 64
POINTS = 106
TARGETS = 8
GAIN = 16
MAX_DISPLACEMENT = 0.12  # crop units; a third of the distance between the eye centres
MAX_GAIN = 0.15  # with 0.28 the shading looked like dirt on the native frame


class Down(nn.Module):
    """Halves the picture: a strided convolution and one at the new size, with a residual."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c_in, c_out, 4, 2, 1)
        self.conv = nn.Conv2d(c_out, c_out, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.silu(self.reduce(x))
        return y + F.silu(self.conv(y))


class Shade(nn.Module):
    """A convolution steered by the condition: per-channel scale and shift (FiLM)."""

    def __init__(self, c_in: int, c_out: int, condition: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, 1, 1)
        self.steer = nn.Linear(condition, 2 * c_out)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.steer(condition)[:, :, None, None].chunk(2, 1)
        return F.silu(self.conv(x) * (1 + scale) + shift)


class WarpNetwork(nn.Module):
    """displacement (n, 106, 2) and gain (n, 1, 16, 16) of a face and a target.

    `basis` (k, 212) spans the displacements that faces make; the network answers in it, so a
    single landmark cannot wander off by itself.
    """

    basis: torch.Tensor
    mean: torch.Tensor
    border: torch.Tensor

    def __init__(self, basis: torch.Tensor, mean: torch.Tensor, width: int = 24) -> None:
        super().__init__()
        self.register_buffer("basis", basis)
        self.register_buffer("mean", mean)
        taper = torch.ones(GAIN)
        taper[[0, -1]], taper[[1, -2]] = 0.0, 0.5
        self.register_buffer("border", taper[:, None] * taper[None])
        channels = [1, width, 2 * width, 3 * width, 4 * width]
        self.down = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(channels))
        self.look = nn.Linear(channels[4] * 16, 128)
        self.shape = nn.Sequential(nn.Linear(POINTS * 2, 128), nn.SiLU(), nn.Linear(128, 128))
        self.wish = nn.Linear(TARGETS, 128)
        self.mix = nn.Sequential(nn.Linear(384, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU())
        self.move = nn.Linear(256, basis.shape[0])
        self.up8 = Shade(channels[4] + channels[3], channels[3], 256)
        self.up16 = Shade(channels[3] + channels[2], channels[2], 256)
        self.gain = nn.Conv2d(channels[2], 1, 3, 1, 1)
        for head in (self.move, self.gain):  # an untrained editor leaves the face alone
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, face: torch.Tensor, landmarks: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        centred = face - face.mean((2, 3), keepdim=True)
        contrast = centred.square().mean((2, 3), keepdim=True).sqrt()
        x = centred / (contrast + 0.05)
        seen = []
        for down in self.down:
            x = down(x)
            seen.append(x)
        shape = (landmarks - self.mean).flatten(1) * 10
        wish = F.silu(self.wish(target))
        condition = self.mix(
            torch.cat([F.silu(self.look(x.flatten(1))), self.shape(shape), wish], 1)
        )
        moved = torch.tanh(self.move(condition) @ self.basis / MAX_DISPLACEMENT)
        displacement = (moved * MAX_DISPLACEMENT).reshape(-1, POINTS, 2)
        up = F.interpolate(x, scale_factor=2.0, mode="nearest")
        up = self.up8(torch.cat([up, seen[2]], 1), condition)
        up = F.interpolate(up, scale_factor=2.0, mode="nearest")
        up = self.up16(torch.cat([up, seen[1]], 1), condition)
        gain = torch.tanh(self.gain(up)) * MAX_GAIN * self.border
        return displacement, gain
