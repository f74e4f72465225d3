"""A small text-image pair in CLIP's place: what a caption and a face have in common.

Source of the objective: Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision" (2021). The tokens are the words of a small vocabulary (`mien.runtime.words`), the
text tower is a transformer of few layers, the image tower a narrow ResNet on luma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.emm import SMALL_TRUNK, TrunkSpec, make_trunk

PADDING = 0  # the token after the last word


@dataclass(frozen=True, slots=True)
class TextSpec:
    """vocabulary: how many tokens there are. length: tokens of a caption, padding included."""

    vocabulary: int
    length: int = 24
    width: int = 128
    heads: int = 4
    layers: int = 2
    out: int = 128


class TextLayer(nn.Module):
    """Attention among the words and two linear layers, each on a normalised input.

    Written out: the fused attention of `nn.TransformerEncoderLayer` does not trace to plain nodes.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
        """x: (n, length, width). absent: (n, length), what to add to the scores of each word."""
        n, length, width = x.shape
        stacked = self.query_key_value(self.norm1(x))
        parts = stacked.view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(2, 3) / math.sqrt(width // self.heads)
        mixed = (scores + absent[:, None, None]).softmax(3) @ parts[2]
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        added: torch.Tensor = self.narrow(F.gelu(self.wide(self.norm2(x))))
        return x + added


class TextTower(nn.Module):
    """tokens int64 (n, length) to embeddings (n, out) of unit length."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.spec = spec
        self.words = nn.Embedding(spec.vocabulary, spec.width)
        self.places = nn.Parameter(torch.randn(spec.length, spec.width) * 0.02)
        self.layers = nn.ModuleList(TextLayer(spec.width, spec.heads) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.width)
        self.project = nn.Linear(spec.width, spec.out, bias=False)
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        there = (tokens != PADDING).float()
        # Not `self.words(tokens)`: the exporter would name that `embedding`, as the output is.
        chosen = self.words.weight.index_select(0, tokens.flatten())
        x = chosen.view(*tokens.shape, self.spec.width) + self.places
        absent = (there - 1) * 1e4
        for layer in self.layers:
            x = layer(x, absent)
        x = self.norm(x) * there[..., None]
        mean = x.sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        return unit(self.project(mean))


class ImageTower(nn.Module):
    """Pictures (n, colours, s, s) in [-1, 1] to embeddings (n, out) of unit length."""

    def __init__(self, spec: TrunkSpec = SMALL_TRUNK, out: int = 128) -> None:
        super().__init__()
        self.trunk = make_trunk(spec)
        self.project = nn.Linear(spec.widths[-1], out, bias=False)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        mean = face.mean((1, 2, 3), keepdim=True)
        centred = face - mean
        deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
        return unit(self.project(self.trunk(centred / (deviation + 0.05))))


class TextImagePair(nn.Module):
    """Both towers and the temperature between them."""

    def __init__(self, text: TextSpec, image: TrunkSpec = SMALL_TRUNK) -> None:
        super().__init__()
        self.text = TextTower(text)
        self.image = ImageTower(image, text.out)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, faces: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits: faces (n, ...) down, captions (m, length) across: (n, m)."""
        seen, said = self.image(faces), self.text(tokens)
        with torch.autocast(seen.device.type, enabled=False):
            logits: torch.Tensor = seen @ said.T
        return logits * self.scale.exp().clamp(max=100)


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows of unit length, in single precision."""
    x = x.float()
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-8)
