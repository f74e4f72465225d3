"""An e4e-style encoder: a face to a base code in W and a delta for each further layer.

Source: Tov et al., "Designing an Encoder for StyleGAN Image Manipulation" (2021): residual blocks,
three levels of features for coarse, middle and fine layers, codes as w0 plus deltas. Narrow, on
luma, and without the strided convolutions and the PReLU of IR-SE50, whose gradients are slow on a
processor.

`RefinedEncoder` looks again: Alaluf et al., "ReStyle: A Residual-Based StyleGAN Encoder via
Iterative Refinement" (2021).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.stylegan2 import Synthesis, code_count

SIZE = 64
STYLE_DIM = 512
COARSE = 4  # layers 0-3 take their deltas from the 4x4 features
MIDDLE = 7  # layers 4-6 from the 8x8 ones, the rest from the 16x16 ones


def normalised(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """A convolution and its batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """Two 3x3 convolutions around which the input passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = normalised(channels, channels, 3)
        self.second = normalised(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to the same."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class Halved(nn.Module):
    """Half the size: space to depth and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = normalised(inputs * 4, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, outputs, h / 2, w / 2)."""
        return F.relu(self.mix(F.pixel_unshuffle(x, 2)))


class StyleHead(nn.Module):
    """Codes for some layers, from features of any size."""

    def __init__(self, inputs: int, layers: int, squeeze: int, hidden: int) -> None:
        super().__init__()
        self.layers = layers
        self.squeeze = normalised(inputs, squeeze, 1)
        self.hidden = nn.Linear(squeeze * 16, hidden)
        self.codes = nn.Linear(hidden, layers * STYLE_DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, layers, STYLE_DIM)."""
        x = F.relu(self.squeeze(x))
        while x.shape[-1] > 4:
            x = F.avg_pool2d(x, 2)
        x = F.relu(self.hidden(x.flatten(1)))
        codes: torch.Tensor = self.codes(x)
        return codes.view(len(x), self.layers, STYLE_DIM)


class FaceEncoder(nn.Module):
    """Faces, luma (n, 1, 64, 64) in [-1, 1], to codes for a generator of `size` pixels."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(Halved(1, 24), normalised(24, 48, 3), nn.ReLU(), Block(48))
        self.fine = nn.Sequential(Halved(48, 96), Block(96))
        self.middle = nn.Sequential(Halved(96, 192), Block(192), Block(192))
        self.coarse = nn.Sequential(Halved(192, 320), Block(320), Block(320))
        self.base = StyleHead(320, 1, 128, 512)
        count = code_count(size)
        heads = [
            StyleHead(320, COARSE, 64, 256),
            StyleHead(192, MIDDLE - COARSE, 64, 256),
            StyleHead(96, count - MIDDLE, 64, 256),
        ]
        for head in heads:
            nn.init.normal_(head.codes.weight, std=1e-3)
        self.deltas = nn.ModuleList(heads)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        """The codes: (n, code_count(size), STYLE_DIM)."""
        base, deltas = self.parts(face)
        return base[:, None] + deltas

    def parts(self, face: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The base code (n, STYLE_DIM) and the deltas (n, code_count(size), STYLE_DIM)."""
        fine = self.fine(self.stem(face))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        levels = (coarse, middle, fine)
        deltas = [head(x) for head, x in zip(self.deltas, levels, strict=True)]
        return self.base(coarse)[:, 0].float(), torch.cat(deltas, 1).float()


class RefinedEncoder(nn.Module):
    """An encoder whose codes a second one corrects by what the generator makes of them.

    The correction is what the second encoder says of the face less what it says of the picture. So
    it is zero where the picture is the face, and as a copy of the first encoder it helps untrained:
    it looks for the code whose picture has the face's own first code.

    passes: how often the codes are corrected.
    """

    def __init__(
        self, first: FaceEncoder, second: FaceEncoder, generator: Synthesis, passes: int
    ) -> None:
        super().__init__()
        self.first, self.second, self.generator, self.passes = first, second, generator, passes

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        """Faces, luma (n, 1, 64, 64) in [-1, 1], to codes (n, layers, STYLE_DIM)."""
        return self.corrected(face, self.first(face), self.passes)

    def corrected(self, face: torch.Tensor, codes: torch.Tensor, passes: int) -> torch.Tensor:
        """Codes of faces after so many corrections. No gradient flows through their pictures."""
        wanted = self.second(face) if passes else codes
        for _ in range(passes):
            with torch.no_grad():
                made = self.generator(codes)
                made = F.avg_pool2d(made, made.shape[-1] // face.shape[-1])
            codes = codes + wanted - self.second(made)
        return codes
