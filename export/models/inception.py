"""DAMSM's image encoder: Inception v3 with two heads, by the names of its public file.

Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2016), in
torchvision's form; AttnGAN (CVPR 2018) takes regions after the last block of 17 x 17 and the code
of the whole picture after the last pooling. Pictures are not normalised, and enlarged to 299
pixels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

SEEN = 299
EPSILON = 1e-3  # of batch normalisation, as TensorFlow's weights were trained
REGION_WIDTH, CODE_WIDTH = 768, 2048


class BasicConv(nn.Module):
    """A convolution, normalised, without negative values."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


def smoothed(x: torch.Tensor) -> torch.Tensor:
    """Means of 3 x 3, of the same size; beyond the border are zeros."""
    return F.avg_pool2d(x, 3, 1, 1)


class BlockA(nn.Module):
    """35 x 35."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv(inputs, 64, 1)
        self.branch5x5_1 = BasicConv(inputs, 48, 1)
        self.branch5x5_2 = BasicConv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv(inputs, 64, 1)
        self.branch3x3dbl_2 = BasicConv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv(96, 96, 3, padding=1)
        self.branch_pool = BasicConv(inputs, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        wide = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), wide, twice, self.branch_pool(smoothed(x))], 1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = BasicConv(inputs, 64, 1)
        self.branch3x3dbl_2 = BasicConv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), twice, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """17 x 17, with kernels of 1 x 7 and 7 x 1."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        flat, tall = ((1, 7), (0, 3)), ((7, 1), (3, 0))
        self.branch1x1 = BasicConv(inputs, 192, 1)
        self.branch7x7_1 = BasicConv(inputs, inner, 1)
        self.branch7x7_2 = BasicConv(inner, inner, flat[0], padding=flat[1])
        self.branch7x7_3 = BasicConv(inner, 192, tall[0], padding=tall[1])
        self.branch7x7dbl_1 = BasicConv(inputs, inner, 1)
        self.branch7x7dbl_2 = BasicConv(inner, inner, tall[0], padding=tall[1])
        self.branch7x7dbl_3 = BasicConv(inner, inner, flat[0], padding=flat[1])
        self.branch7x7dbl_4 = BasicConv(inner, inner, tall[0], padding=tall[1])
        self.branch7x7dbl_5 = BasicConv(inner, 192, flat[0], padding=flat[1])
        self.branch_pool = BasicConv(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(smoothed(x))], 1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv(inputs, 192, 1)
        self.branch3x3_2 = BasicConv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = BasicConv(inputs, 192, 1)
        self.branch7x7x3_2 = BasicConv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        once = self.branch3x3_2(self.branch3x3_1(x))
        return torch.cat([once, self.branch7x7x3_4(wide), F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv(inputs, 320, 1)
        self.branch3x3_1 = BasicConv(inputs, 384, 1)
        self.branch3x3_2a = BasicConv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = BasicConv(inputs, 448, 1)
        self.branch3x3dbl_2 = BasicConv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = BasicConv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = BasicConv(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(once),
            self.branch3x3_2b(once),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(smoothed(x)),
        ]
        return torch.cat(parts, 1)


class InceptionEncoder(nn.Module):
    """Pictures (n, 3, s, s) in [-1, 1] to a code (n, width) and to regions (n, width, 17, 17)."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.Conv2d_1a_3x3 = BasicConv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c = BlockA(192, 32), BlockA(256, 64)
        self.Mixed_5d, self.Mixed_6a = BlockA(288, 64), BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a, self.Mixed_7b = BlockD(768), BlockE(1280)
        self.Mixed_7c = BlockE(2048)
        self.emb_features = nn.Conv2d(REGION_WIDTH, width, 1, bias=False)
        self.emb_cnn_code = nn.Linear(CODE_WIDTH, width)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.interpolate(image, size=(SEEN, SEEN), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x))))
        regions = self.Mixed_6e(x)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(regions)))
        return self.emb_cnn_code(F.avg_pool2d(x, 8).flatten(1)), self.emb_features(regions)
