"""The landmark network: one luma crop to 106 points and a score.

Source: the HFLD network of "My Emotion on your face" predicts 106 points from heat maps; this is
one of a size for the edge. Coarse places are the centres of mass of 106 small heat maps, which
move with the face by construction; a global branch adds what the maps cannot see (points outside
the crop or covered). Plain 3x3 convolutions throughout: at this size they run and train faster on
processors than depthwise ones.
"""

from __future__ import annotations

import torch
from torch import nn

from mien.engines import LANDMARKS

SIZE = 112
POINT_COUNT = LANDMARKS.outputs[0].shape[1]
MAP = 14  # heat maps are MAP x MAP
MAP_MARGIN = 0.15  # heat maps reach this far beyond the crop, in crop units


def convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def halved(inputs: int, outputs: int) -> nn.Sequential:
    """Half the size: a 2x2 convolution of stride 2, written as space to depth and 1x1.

    The bfloat16 gradient of a strided convolution takes torch 2.13 on a processor fifty times as
    long as the same convolution without stride.
    """
    return nn.Sequential(nn.PixelUnshuffle(2), convolution(inputs * 4, outputs, 1))


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to the same."""
        return torch.relu(x + self.second(self.first(x)))


class LandmarkNetwork(nn.Module):
    """Landmarks and a score of a crop, face (n, 1, 112, 112) luma in [0, 1]."""

    grid: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), convolution(16, 40), Residual(40))
        self.middle = nn.Sequential(halved(40, 80), Residual(80), Residual(80))
        self.deep = nn.Sequential(halved(80, 112), Residual(112), Residual(112))
        self.back = convolution(112, 80, 1)
        self.join = convolution(80, 80)
        self.maps = nn.Conv2d(80, POINT_COUNT, 1)
        self.squeeze = convolution(112, 16, 1)
        self.hidden = nn.Sequential(nn.Linear(16 * 49, 160), nn.ReLU(inplace=True))
        self.offset = nn.Linear(160, POINT_COUNT * 2)
        self.score = nn.Linear(160, 1)
        nn.init.normal_(self.offset.weight, std=1e-3)
        nn.init.zeros_(self.offset.bias)
        nn.init.normal_(self.maps.weight, std=0.05)
        place = (torch.arange(MAP) + 0.5) / MAP * (1 + 2 * MAP_MARGIN) - MAP_MARGIN
        y, x = torch.meshgrid(place, place, indexing="ij")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], 1), persistent=False)

    def logits(self, face: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The landmarks (n, 106, 2) and the score before its sigmoid (n, 1)."""
        middle = self.middle(self.stem(face - 0.5))
        deep = self.deep(middle)
        up = nn.functional.interpolate(self.back(deep), scale_factor=2.0, mode="nearest")
        maps = self.maps(self.join(middle + up)).flatten(2).float()
        places = torch.softmax(maps, -1) @ self.grid
        hidden = self.hidden(self.squeeze(deep).flatten(1))
        offset = self.offset(hidden).float().view(-1, POINT_COUNT, 2)
        return places + offset, self.score(hidden).float()

    def forward(self, face: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The landmarks (n, 106, 2) in crop units and the score (n, 1) in [0, 1]."""
        landmarks, score = self.logits(face)
        return landmarks, torch.sigmoid(score)
