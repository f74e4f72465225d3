"""The face detector: a whole letterboxed picture to a score, a box and three points per cell.

Without anchors, in the manner of FCOS (Tian et al., 2019): each cell of three grids says whether a
face's centre lies in it, and how far away the face's sides, eyes and mouth are. Decoding is part of
the graph, so boxes and points leave it in input pixels.
"""

from __future__ import annotations

import torch
from torch import nn

from mien.export.landmarks import Residual, convolution, halved

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
