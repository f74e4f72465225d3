"""mien's own UNet for the diffusion paper: about 4 million parameters, for a processor.

It works on the four 24x24 planes of a pixel-unshuffled 48x48 picture, attends at 6x6 only, and has
the preconditioning of EDM in the graph: noised picture and noise level in, clean picture out, both
of unit variance to the layers between. Between the levels that is v-prediction, at either end the
prediction of what is left to be known.
Source: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
table 1, equations 7 and 8.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.diffusion import attend

SIGMA_DATA = 0.5  # of FER-2013 in [-1, 1]
HEADS = 4
GROUP = 16  # channels of a normalisation, at least
FREQUENCIES = 16  # of the noise level's embedding
FOLD = 2  # pixels a side of an unshuffled place
MOST_STUDENT_STEPS = 64


@dataclass(frozen=True, slots=True)
class SmallSpec:
    """The sizes of a small UNet.

    widths: channels at a half, a quarter and an eighth of the picture's side. blocks: at each, on
    the way down and on the way up. semantic: width of the code of the input, 0 without.
    steps: of a student, 0 for a network of any number.
    """

    labels: int = 7
    semantic: int = 0
    widths: tuple[int, ...] = (48, 96, 176)
    blocks: int = 2
    embedding: int = 192
    steps: int = 0


class Block(nn.Module):
    """Two convolutions around which the input passes; the embedding scales and shifts between."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = _norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm2 = _norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.modulate.weight)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w)."""
        made = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, 1)
        made = self.norm2(made) * (1 + scale) + shift
        passed: torch.Tensor = self.skip(x) + self.conv2(F.silu(made))
        return passed


class Attention(nn.Module):
    """Self-attention over all places of a small feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.mix = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, channels, height, width = x.shape
        rows = self.norm(x).flatten(2).transpose(1, 2)
        split = self.mix(rows).view(count, height * width, 3, HEADS, channels // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        joined = attend(query, key, value).transpose(1, 2).flatten(2)
        mixed: torch.Tensor = self.out(joined)
        return x + mixed.transpose(1, 2).reshape(x.shape)


class SmallUNet(nn.Module):
    """The clean picture: x (n, 1, s, s), s a multiple of 8, to the same.

    Called with x, sigma (n,), label (n, labels), semantic (n, d) where it has one, and cond_scale
    (n,), as `mien.engines.diffusion.unet_network` declares it. A label of zeros drops the label
    alone, a cond_scale of 0 the code of the input with it.

    sigmas: the noise levels of a student, (steps + 1,), the last 0. guidance: folded into it. A
    student walks up from a face to its noise where its label is all ones, which is no emotion.
    """

    sigmas: torch.Tensor
    guidance: torch.Tensor

    def __init__(self, spec: SmallSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.embedding
        self.noise1 = nn.Linear(2 * FREQUENCIES, width)
        self.noise2 = nn.Linear(width, width)
        self.label = nn.Linear(spec.labels, width, bias=False)
        if spec.semantic:
            self.semantic = nn.Linear(spec.semantic, width, bias=False)
            nn.init.zeros_(self.semantic.weight)
        self.stem = nn.Conv2d(FOLD**2, spec.widths[0], 3, padding=1)
        self.down = nn.ModuleList([_stage(w, w, spec.blocks, width) for w in spec.widths[:-1]])
        pairs = list(itertools.pairwise(spec.widths))
        self.smaller = nn.ModuleList([nn.Conv2d(a * 4, b, 1) for a, b in pairs])
        deep = spec.widths[-1]
        self.middle = _stage(deep, deep, 2 * spec.blocks, width)
        self.attention = nn.ModuleList([Attention(deep) for _ in range(spec.blocks)])
        self.larger = nn.ModuleList([nn.Conv2d(b, a * 4, 1) for a, b in pairs])
        self.up = nn.ModuleList([_stage(2 * a, a, spec.blocks, width) for a, _ in pairs])
        end = nn.Conv2d(spec.widths[0], FOLD**2, 3, padding=1)
        nn.init.zeros_(end.weight)
        self.last = nn.Sequential(_norm(spec.widths[0]), nn.SiLU(), end)
        self.register_buffer("sigmas", torch.zeros(spec.steps + 1 if spec.steps else 0))
        self.register_buffer("guidance", torch.ones(()))

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, *condition: torch.Tensor
    ) -> torch.Tensor:
        level = sigma[:, None, None, None]
        variance = level * level + SIGMA_DATA**2
        scale = variance.rsqrt()
        given = self.layers(x * scale, self.embedding(sigma, *condition))
        return x * (SIGMA_DATA**2 / variance) + given * (level * SIGMA_DATA * scale)

    def embedding(self, sigma: torch.Tensor, *condition: torch.Tensor) -> torch.Tensor:
        """Noise level and condition as one vector (n, spec.embedding), ready for the blocks."""
        label, *semantic, cond_scale = condition
        said = self.label(label)
        if self.spec.semantic:
            said = said + self.semantic(semantic[0])
        octaves = torch.arange(FREQUENCIES, device=sigma.device)
        angles = sigma.log()[:, None] * (math.pi / 16 * 2 ** (octaves / 4))
        noise = self.noise1(torch.cat([angles.sin(), angles.cos()], 1).to(label.dtype))
        return F.silu(self.noise2(F.silu(noise)) + said * cond_scale[:, None])

    def layers(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """The network proper, on a picture of unit variance."""
        x = self.stem(F.pixel_unshuffle(x, FOLD))
        skips = []
        for stage, smaller in zip(self.down, self.smaller, strict=True):
            x = _through(stage, x, embedding)
            skips.append(x)
            x = smaller(F.pixel_unshuffle(x, 2))
        blocks = iter(self.middle)
        for attention in self.attention:
            x = next(blocks)(x, embedding)
            x = next(blocks)(attention(x), embedding)
        for larger, stage in zip(reversed(self.larger), reversed(self.up), strict=True):
            x = torch.cat([F.pixel_shuffle(larger(x), 2), skips.pop()], 1)
            x = _through(stage, x, embedding)
        return F.pixel_shuffle(self.last(x), FOLD)


def _norm(channels: int) -> nn.GroupNorm:
    most = max(1, channels // GROUP)
    groups = next(count for count in range(most, 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


def _stage(inputs: int, outputs: int, count: int, embedding: int) -> nn.ModuleList:
    return nn.ModuleList(
        [Block(inputs if i == 0 else outputs, outputs, embedding) for i in range(count)]
    )


def _through(stage: nn.Module, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    assert isinstance(stage, nn.ModuleList)
    for block in stage:
        x = block(x, embedding)
    return x
