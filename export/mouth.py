"""The mouth network: what lies between lips that a warp has parted.

An inpainting network on the mouth at its own scale. The picture around the hole gives light and
sharpness; the hole's shape and the target say how much of teeth, tongue and dark to expect.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

SIZE_HW = (48, 96)
TARGETS = 8


class Steered(nn.Module):
    """A strided or plain 3x3 convolution with SiLU, its channels scaled by the target."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, dilation, dilation)
        self.steer = nn.Linear(TARGETS, 2 * c_out)

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        scale, shift = self.steer(target)[:, :, None, None].chunk(2, 1)
        return F.silu(self.conv(x) * (1 + scale) + shift)


class MouthNetwork(nn.Module):
    """mouth (n, 1, 48, 96), hole (n, 1, 48, 96), target (n, 8) to content (n, 1, 48, 96)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.first = Steered(4, w)
        self.down1 = Steered(w, 2 * w, 2)
        self.down2 = Steered(2 * w, 3 * w, 2)
        self.down3 = Steered(3 * w, 4 * w, 2)
        self.deep = nn.ModuleList(Steered(4 * w, 4 * w, 1, d) for d in (1, 2, 1))
        self.up2 = Steered(7 * w, 3 * w)
        self.up1 = Steered(5 * w, 2 * w)
        self.up0 = Steered(3 * w, w)
        self.last = nn.Conv2d(w, 1, 3, 1, 1)

    def forward(
        self, mouth: torch.Tensor, hole: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        around = 1 - hole
        count = around.sum((2, 3), keepdim=True) + 1.0
        mean = (mouth * around).sum((2, 3), keepdim=True) / count
        spread = ((mouth - mean).square() * around).sum((2, 3), keepdim=True) / count
        scale = spread.sqrt() + 0.05
        seen = (mouth - mean) / scale * around
        columns = (torch.linspace(-1, 1, SIZE_HW[1], device=mouth.device)).expand_as(mouth)
        rows = torch.linspace(-1, 1, SIZE_HW[0], device=mouth.device)[:, None].expand_as(mouth)
        x0 = self.first(torch.cat([seen, hole, columns.square(), rows], 1), target)
        x1 = self.down1(x0, target)
        x2 = self.down2(x1, target)
        x = self.down3(x2, target)
        for layer in self.deep:
            x = x + layer(x, target)
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.up2(torch.cat([x, x2], 1), target)
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.up1(torch.cat([x, x1], 1), target)
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.up0(torch.cat([x, x0], 1), target)
        return (mean + scale * 3 * torch.tanh(self.last(x))).clamp(0, 1)
