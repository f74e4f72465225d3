"""The occlusion network: what lies in front of the skin of an aligned face.

Two answers a pixel: spectacle frames with the reflections on their lenses (rigid, thin, always
there), and whatever else covers skin (a hand, a cup, a microphone, strands of hair). A small U-Net
(Ronneberger, Fischer, Brox 2015) on the canonical luma crop.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

CROP = 128
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
