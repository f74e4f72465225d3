"""The landmark network and the face detector.

Landmarks: one luma crop to 106 points and a score. Source: the HFLD network of "My Emotion on your
face" predicts 106 points from heat maps; this is one of a size for the edge. Coarse places are the
centres of mass of 106 small heat maps, which move with the face by construction; a global branch
adds what the maps cannot see (points outside the crop or covered). Plain 3x3 convolutions
throughout: at this size they run and train faster on processors than depthwise ones.

Detector: a whole letterboxed picture to a score, a box and three points per cell. Without anchors,
in the manner of FCOS (Tian et al., 2019): each cell of three grids says whether a face's centre
lies in it, and how far away the face's sides, eyes and mouth are. Decoding is part of the graph, so
boxes and points leave it in input pixels.
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


SIDE = 320
STRIDES = (8, 16, 32)
WIDTH = 40  # channels of the joined features and the head
VALUES = 11  # of a cell: score, four distances, three points
REACH = 2.0  # a distance of 1 is this many strides
RARE = -4.0  # of the score at the start: nearly every cell is empty


def cell_centres() -> tuple[torch.Tensor, torch.Tensor]:
    """Where the 2100 cells lie, float32 (2100, 2) input pixels, and their strides (2100, 1)."""
    centres, strides = [], []
    for stride in STRIDES:
        place = (torch.arange(SIDE // stride) + 0.5) * stride - 0.5
        y, x = torch.meshgrid(place, place, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((len(centres[-1]), 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)


class DetectorNetwork(nn.Module):
    """A letterboxed picture to scores, boxes and points of 2100 cells.

    image: (n, 1, 320, 320) luma in [0, 1].
    """

    centres: torch.Tensor
    strides: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), convolution(16, 24))
        self.fine = nn.Sequential(halved(24, WIDTH), Residual(WIDTH), Residual(WIDTH))
        self.middle = nn.Sequential(halved(WIDTH, 72), Residual(72), Residual(72))
        self.coarse = nn.Sequential(halved(72, 80), Residual(80), Residual(80))
        self.from_coarse = convolution(80, WIDTH, 1)
        self.from_middle = convolution(72, WIDTH, 1)
        self.join_middle = convolution(WIDTH, WIDTH)
        self.join_fine = convolution(WIDTH, WIDTH)
        self.heads = nn.ModuleList(_head() for _ in STRIDES)
        centres, strides = cell_centres()
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def logits(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `forward`, but scores before their sigmoid."""
        fine = self.fine(self.stem(image - 0.45))
        middle = self.middle(fine)
        coarse = self.from_coarse(self.coarse(middle))
        middle = self.join_middle(self.from_middle(middle) + _doubled(coarse))
        fine = self.join_fine(fine + _doubled(middle))
        levels = (fine, middle, coarse)
        values = [head(x).flatten(2) for head, x in zip(self.heads, levels, strict=True)]
        cells = torch.cat(values, 2).transpose(1, 2).float()
        return cells[..., 0], self._boxes(cells[..., 1:5]), self._points(cells[..., 5:])

    def _boxes(self, values: torch.Tensor) -> torch.Tensor:
        away = nn.functional.softplus(values) * (self.strides * REACH)
        return torch.cat([self.centres - away[..., :2], self.centres + away[..., 2:]], -1)

    def _points(self, values: torch.Tensor) -> torch.Tensor:
        places = values * (self.strides * REACH) + self.centres.repeat(1, 3)
        return places.reshape(values.shape[0], -1, 3, 2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """scores (n, 2100) in [0, 1], boxes (n, 2100, 4) and points (n, 2100, 3, 2) in pixels."""
        scores, boxes, points = self.logits(image)
        return torch.sigmoid(scores), boxes, points


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _head() -> nn.Sequential:
    last = nn.Conv2d(WIDTH, VALUES, 1)
    assert last.bias is not None
    nn.init.normal_(last.weight, std=0.01)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([RARE] + [0.0] * (VALUES - 1)))
    return nn.Sequential(convolution(WIDTH, WIDTH), last)
