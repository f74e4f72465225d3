"""IR-SE50, the residual trunk of ArcFace, and the encoders to W+ that are built on it.

Sources: Deng et al., "ArcFace" (CVPR 2019), with squeeze-and-excitation (Hu et al., CVPR 2018);
Richardson et al., "Encoding in Style" (pSp, CVPR 2021); Tov et al., "Designing an Encoder for
StyleGAN Image Manipulation" (e4e, SIGGRAPH 2021). The names of the parameters are those of the
public checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # channels and blocks of IR-SE50
REDUCTION = 16
LEAK = 0.01
STYLE = 512
COARSE, MIDDLE = 3, 7  # heads 0-2 see the coarse map, 3-6 the middle one, the rest the fine one
FACE, CROP = 112, (35, 223, 32, 220)  # pixels of ArcFace; rows and columns of a 256-pixel picture
ALIGNED = 256


class SqueezeExcitation(nn.Module):
    """Channels weighed by what the whole map holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(weights)


class Bottleneck(nn.Module):
    """Two 3x3 convolutions between normalisations, and a shortcut that is added."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            SqueezeExcitation(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.res_layer(x)
        if self.shortcut_layer is not None:
            x = self.shortcut_layer(x)
        elif self.stride != 1:
            x = F.max_pool2d(x, 1, self.stride)
        return out + x


def trunk(stages: tuple[tuple[int, int], ...] = STAGES) -> tuple[nn.Sequential, nn.Sequential]:
    """The first convolution, and the blocks; each stage halves the size."""
    first = stages[0][0]
    start = nn.Sequential(
        nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
    )
    blocks, inputs = [], first
    for outputs, count in stages:
        blocks.append(Bottleneck(inputs, outputs, 2))
        blocks += [Bottleneck(outputs, outputs, 1) for _ in range(count - 1)]
        inputs = outputs
    return start, nn.Sequential(*blocks)


class StyleHead(nn.Module):
    """A code of W from a map of `size` pixels, by convolutions that each halve it."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while size > 1:
            layers += [nn.Conv2d(channels, channels, 3, 2, 1), nn.LeakyReLU(LEAK)]
            size //= 2
        self.convs = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, size, size) to (n, channels)."""
        out: torch.Tensor = self.linear(self.convs(x).flatten(1))
        return out


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The sizes of an encoder to W+.

    layers: codes. deltas: whether the heads after the first give what is added to its code, as in
    e4e, or codes of their own, as in pSp. stages: as of `trunk`. size: pixels of the pictures.
    """

    layers: int
    deltas: bool
    stages: tuple[tuple[int, int], ...] = STAGES
    size: int = ALIGNED

    @property
    def style(self) -> int:
        """The length of a code."""
        return self.stages[-1][0]


class LatentEncoder(nn.Module):
    """Aligned faces (n, 3, size, size), RGB in [-1, 1], to codes (n, layers, style) in W+.

    The average code is part of it: what it gives is what a generator takes.
    """

    latent_avg: torch.Tensor

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.input_layer, self.body = trunk(spec.stages)
        fine = spec.size // 4
        sizes = [fine // 4] * COARSE + [fine // 2] * (MIDDLE - COARSE)
        sizes += [fine] * (spec.layers - MIDDLE)
        self.styles = nn.ModuleList(StyleHead(spec.style, size) for size in sizes[: spec.layers])
        self.latlayer1 = nn.Conv2d(spec.stages[2][0], spec.style, 1)
        self.latlayer2 = nn.Conv2d(spec.stages[1][0], spec.style, 1)
        self.register_buffer("latent_avg", torch.zeros(spec.layers, spec.style))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        taps = []
        x = self.input_layer(image)
        index = 0
        for _, count in self.spec.stages:
            for _ in range(count):
                x = self.body[index](x)
                index += 1
            taps.append(x)
        coarse = taps[3]
        middle = _above(coarse, self.latlayer1(taps[2]))
        fine = _above(middle, self.latlayer2(taps[1]))
        levels = [coarse] * COARSE + [middle] * (MIDDLE - COARSE)
        levels += [fine] * (self.spec.layers - MIDDLE)
        codes = [head(level) for head, level in zip(self.styles, levels, strict=False)]
        if self.spec.deltas:
            codes = [codes[0], *(codes[0] + delta for delta in codes[1:])]
        return torch.stack(codes, 1) + self.latent_avg


def _above(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """A coarser map at the size of a finer one, and that."""
    size = fine.shape[2:]
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=True) + fine


class ArcFace(nn.Module):
    """Faces to embeddings of unit length: (n, 3, size, size), RGB in [-1, 1], to (n, length).

    size: 112 for faces cut as ArcFace has them, or 256 for FFHQ-aligned pictures, of which the face
    is cut out here and made smaller by the mean over each pixel's share, as e4e's loss does.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(
        self,
        size: int = ALIGNED,
        stages: tuple[tuple[int, int], ...] = STAGES,
        *,
        length: int = 512,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.length = size, length
        self.input_layer, self.body = trunk(stages)
        last = stages[-1][0]
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Identity(),  # where training has its dropout
            nn.Flatten(),
            nn.Linear(last * (FACE // 16) ** 2, length),
            nn.BatchNorm1d(length, affine=affine),
        )
        if size != FACE:
            for name, matrix in crop_shares().items():
                self.register_buffer(name, matrix)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.size != FACE:
            top, bottom, left, right = CROP
            image = self.rows @ image[:, :, top:bottom, left:right] @ self.columns
        x = self.output_layer(self.body(self.input_layer(image)))
        out: torch.Tensor = x / x.square().sum(1, keepdim=True).sqrt()
        return out


def crop_shares() -> dict[str, torch.Tensor]:
    """The matrices that make the cut-out face smaller, by the names they have in ArcFace."""
    top, bottom, left, right = CROP
    return {"rows": shares(bottom - top, FACE), "columns": shares(right - left, FACE).T.clone()}


def shares(inputs: int, outputs: int) -> torch.Tensor:
    """The means of adaptive average pooling as a matrix (outputs, inputs).

    Each output is the mean of the inputs from floor(i n / m) to ceil((i + 1) n / m).
    """
    matrix = torch.zeros(outputs, inputs)
    for i in range(outputs):
        start, end = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
        matrix[i, start:end] = 1 / (end - start)
    return matrix
