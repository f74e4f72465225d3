"""The warp editor and the occlusion network, both on the canonical luma crop.

The editor also looks at the 106 landmarks and answers, towards an emotion, with a displacement per
landmark and with how the light on the skin changes. The runtime turns displacements into a smooth
flow (`mien.runtime.methods.warp.flow`); a network that drew the flow itself, cell by cell, folded
at the lips. Light that was taught by classifiers alone left stains on cheeks and lips; this one is
that of a generator's pictures (`mien.training.warp.lessons`).

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
MOST_LIGHT = 0.45  # the largest relative change of brightness
CELLS = 16  # of the light's grid, per cell of its last layer, as 4 by 4


class Down(nn.Module):
    """Halves the picture: a strided convolution and one at the new size, with a residual."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(c_in, c_out, 4, 2, 1)
        self.conv = nn.Conv2d(c_out, c_out, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.silu(self.reduce(x))
        return y + F.silu(self.conv(y))


class Up(nn.Module):
    """Doubles the picture and joins what was seen at the new size."""

    def __init__(self, c_in: int, c_beside: int, c_out: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(c_in + c_beside, c_out, 3, 1, 1)

    def forward(self, x: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.silu(self.join(torch.cat([x, beside], 1)))


class WarpNetwork(nn.Module):
    """displacement (n, 106, 2), in crop units, and light (n, 1, 64, 64) of a face and a target.

    The light is the relative change of the skin's brightness after the flow. Both are sums over the
    emotions of the target by their weights, so a mix is one of movements and of light, and half a
    weight is half of each. `modes` (k, 212) are the movements that displacements are made of, each
    as large as it usually is: the principal components of the lessons, for a network that could
    move landmarks freely pleased its classifiers with mouths that no person makes. `mean`
    (106, 2) is the mean face.
    """

    modes: torch.Tensor
    mean: torch.Tensor

    def __init__(self, modes: torch.Tensor, mean: torch.Tensor, width: int = 24) -> None:
        super().__init__()
        self.register_buffer("modes", modes)
        self.register_buffer("mean", mean)
        channels = [1, width, 2 * width, 3 * width, 4 * width]
        self.down = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(channels))
        self.look = nn.Linear(channels[4] * 16, 128)
        self.shape = nn.Sequential(nn.Linear(POINTS * 2, 128), nn.SiLU(), nn.Linear(128, 128))
        self.mix = nn.Sequential(nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU())
        self.move = nn.Linear(256, TARGETS * modes.shape[0])
        self.place = nn.Linear(256, channels[4] * 16)
        self.up = nn.ModuleList(
            [
                Up(2 * channels[4], channels[3], channels[3]),
                Up(channels[3], channels[2], channels[2]),
            ]
        )
        self.light = nn.Conv2d(channels[2], TARGETS * CELLS, 3, 1, 1)
        for layer in (self.move, self.light):  # an untrained editor leaves the face alone
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def each(
        self, face: torch.Tensor, landmarks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Displacements (n, 8, 106, 2) and light (n, 8, 64, 64) of every emotion."""
        centred = face - face.mean((2, 3), keepdim=True)
        contrast = centred.square().mean((2, 3), keepdim=True).sqrt()
        x = centred / (contrast + 0.05)
        seen = []
        for down in self.down:
            x = down(x)
            seen.append(x)
        shape = self.shape((landmarks - self.mean).flatten(1) * 10)
        known = self.mix(torch.cat([F.silu(self.look(x.flatten(1))), shape], 1))
        amounts = self.move(known).reshape(-1, TARGETS, self.modes.shape[0])
        moved = (amounts @ self.modes).reshape(-1, TARGETS, POINTS, 2)
        x = torch.cat([x, F.silu(self.place(known)).reshape(x.shape)], 1)
        for up, beside in zip(self.up, (seen[2], seen[1]), strict=True):
            x = up(x, beside)
        return moved, MOST_LIGHT * torch.tanh(F.pixel_shuffle(self.light(x), 4))

    def forward(
        self, face: torch.Tensor, landmarks: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        moved, light = self.each(face, landmarks)
        weights = target[:, :, None, None]
        return (moved * weights).sum(1), (light * weights).sum(1, keepdim=True)


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
