"""The conditional UNet of the diffusion paper, in the layout of its public code.

Source: "Facial Expression Manipulation with Conditional Diffusion Model"; public code
github.com/TangYihe/CS230. Timestep embedding plus the condition's: the label's 256 numbers, or 128
of the label and 128 of the semantic code. Here the label is a row of weights, so that emotions can
be mixed, and one number a row drops the whole condition, so that classifier-free guidance is one
call of twice the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

HEADS = 4
CODE = 256  # of the timestep and of the whole condition
LABELS = 7  # those of FER-2013; public files of 10 rows never train the last three
# The most numbers of one block of attention scores, of one picture: 16 MB. All of 48x48 pixels
# would be 85 MB; they become six blocks of 14 MB.
MOST_SCORES = 1 << 22


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Softmax attention over (n, heads, length, width), no score matrix above MOST_SCORES numbers.

    Rows of the scores do not depend on each other, so that the queries are taken in equal blocks.
    Two products and a softmax, the form that TensorRT fuses.
    """
    heads, length = query.shape[1:3]
    scaled = (query * query.shape[-1] ** -0.5).chunk(_blocks(heads, length), 2)
    turned = key.transpose(-2, -1)
    return torch.cat([(part @ turned).softmax(-1) @ value for part in scaled], 2)


def _blocks(heads: int, length: int) -> int:
    """How many equal blocks of queries there are."""
    count = 1
    while heads * length * -(-length // count) > MOST_SCORES and count < length:
        count += 1
    return count


class Projections(nn.Module):
    """The parameters of multi-head attention under the names that PyTorch's own has."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, length, channels) to the same."""
        count, length, channels = x.shape
        whole = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        split = whole.view(count, length, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
        mixed = attend(split[0], split[1], split[2])
        joined: torch.Tensor = self.out_proj(mixed.transpose(1, 2).reshape(count, length, channels))
        return joined


class SelfAttention(nn.Module):
    """Attention over all places of a feature map, then a small network at each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mha = Projections(channels)
        self.ln = nn.LayerNorm([channels])
        self.ff_self = nn.Sequential(
            nn.LayerNorm([channels]),
            nn.Linear(channels, channels),
            nn.GELU(),
            nn.Linear(channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to the same."""
        rows = x.flatten(2).transpose(1, 2)
        rows = rows + self.mha(self.ln(rows))
        found: torch.Tensor = rows + self.ff_self(rows)
        return found.transpose(1, 2).reshape(x.shape)


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with a normalisation over all channels."""

    def __init__(
        self, inputs: int, outputs: int, middle: int | None = None, *, residual: bool = False
    ) -> None:
        super().__init__()
        middle = middle or outputs
        self.residual = residual
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=False),
            nn.GroupNorm(1, middle),
            nn.GELU(),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(1, outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.double_conv(x)
        return F.gelu(x + made) if self.residual else made


class Down(nn.Module):
    """Half the size, plus what the embedding says."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(
            nn.MaxPool2d(2), DoubleConv(inputs, inputs, residual=True), DoubleConv(inputs, outputs)
        )
        self.emb_layer = nn.Sequential(nn.SiLU(), nn.Linear(CODE, outputs))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.maxpool_conv(x) + self.emb_layer(embedding)[:, :, None, None]
        return made


class Up(nn.Module):
    """Twice the size, joined with the features of that size, plus what the embedding says."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            DoubleConv(inputs, inputs, residual=True), DoubleConv(inputs, outputs, inputs // 2)
        )
        self.emb_layer = nn.Sequential(nn.SiLU(), nn.Linear(CODE, outputs))

    def forward(self, x: torch.Tensor, skip: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        larger = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
        shift: torch.Tensor = self.emb_layer(embedding)[:, :, None, None]
        made: torch.Tensor = self.conv(torch.cat([skip, larger], 1)) + shift
        return made


@dataclass(frozen=True, slots=True)
class UNetSpec:
    """The sizes of the paper's UNet.

    rows: of its label table. semantic: width of the code of the input, 0 without. width: channels
    at full size; twice and four times as many below.
    """

    rows: int = LABELS
    semantic: int = 0
    width: int = 64


class PaperUNet(nn.Module):
    """The noise in a picture: x (n, 1, s, s), s a multiple of 8, to the same.

    Called with x, t (n,), label (n, 7), semantic (n, d) where the condition has one, and
    cond_scale (n,), as `mien.engines.diffusion.unet_network` declares it.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        a, b, c = spec.width, 2 * spec.width, 4 * spec.width
        self.inc = DoubleConv(1, a)
        self.down1, self.sa1 = Down(a, b), SelfAttention(b)
        self.down2, self.sa2 = Down(b, c), SelfAttention(c)
        self.down3, self.sa3 = Down(c, c), SelfAttention(c)
        self.bot1, self.bot3 = DoubleConv(c, c), DoubleConv(c, c)
        self.up1, self.sa4 = Up(2 * c, b), SelfAttention(b)
        self.up2, self.sa5 = Up(2 * b, a), SelfAttention(a)
        self.up3, self.sa6 = Up(2 * a, a), SelfAttention(a)
        self.outc = nn.Conv2d(a, 1, 1)
        self.label_emb = nn.Embedding(spec.rows, CODE // 2 if spec.semantic else CODE)
        if spec.semantic:
            self.sem_emb = nn.Linear(spec.semantic, CODE // 2)

    def forward(self, x: torch.Tensor, t: torch.Tensor, *condition: torch.Tensor) -> torch.Tensor:
        label, *semantic, cond_scale = condition
        said = label @ self.label_emb.weight[:LABELS]
        if self.spec.semantic:
            said = torch.cat([said, self.sem_emb(semantic[0])], 1)
        embedding = positions(t) + said * cond_scale[:, None]
        first = self.inc(x)
        second = self.sa1(self.down1(first, embedding))
        third = self.sa2(self.down2(second, embedding))
        x = self.bot3(self.bot1(self.sa3(self.down3(third, embedding))))
        x = self.sa4(self.up1(x, third, embedding))
        x = self.sa5(self.up2(x, second, embedding))
        x = self.sa6(self.up3(x, first, embedding))
        noise: torch.Tensor = self.outc(x)
        return noise


def positions(t: torch.Tensor) -> torch.Tensor:
    """The sinusoidal embedding of timesteps (n,): sines, then cosines, (n, CODE)."""
    powers = torch.arange(0, CODE, 2, device=t.device).float() / CODE
    angles = t[:, None] * (1.0 / 10000**powers)
    return torch.cat([angles.sin(), angles.cos()], 1)
