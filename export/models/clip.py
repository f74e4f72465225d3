"""The two towers of CLIP's ViT form: texts and pictures to embeddings that can be compared.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(ICML 2021). The names of the parameters are those of OpenAI's checkpoints. Attention is written
out, as the fused form does not export.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

HEAD = 64  # channels of an attention head in all published sizes
SHARP = 1.702  # of the quick form of GELU
MASKED = -1e4  # what a later token adds to a score: FP16 holds it, and exp gives 0


@dataclass(frozen=True, slots=True)
class TowerSpec:
    """The sizes of a tower: channels, residual blocks, and the length of the embedding."""

    width: int
    blocks: int
    embedding: int


def causal_mask(length: int) -> torch.Tensor:
    """What is added to the scores of (length, length) places, so that none sees a later one."""
    return torch.full((length, length), MASKED).triu(1)


class Attention(nn.Module):
    """Self-attention over (n, length, width), with a mask (length, length) to be added or None."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        n, length, width = x.shape
        each = width // self.heads
        joint = x @ self.in_proj_weight.T + self.in_proj_bias
        parts = joint.view(n, length, 3, self.heads, each).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0] / math.sqrt(each), parts[1], parts[2]
        scores = query @ key.transpose(2, 3)
        if mask is not None:
            scores = scores + mask
        mixed = torch.softmax(scores, -1) @ value
        out: torch.Tensor = self.out_proj(mixed.transpose(1, 2).reshape(n, length, width))
        return out


class QuickGelu(nn.Module):
    """x times the logistic function of 1.702 x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(SHARP * x)


class Block(nn.Module):
    """Attention and two dense layers, each around a normalised input that is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = Attention(width)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGelu())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x), mask)
        out: torch.Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """Blocks one after another."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(spec.width) for _ in range(spec.blocks))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class ClipText(nn.Module):
    """Tokens int64 (n, context) to embeddings (n, embedding), not of unit length.

    The features are those at the end of the text, the token of the largest number.
    """

    mask: torch.Tensor

    def __init__(self, spec: TowerSpec, *, context: int = 77, vocabulary: int = 49408) -> None:
        super().__init__()
        self.spec, self.context, self.vocabulary = spec, context, vocabulary
        self.token_embedding = nn.Embedding(vocabulary, spec.width)
        self.positional_embedding = nn.Parameter(torch.empty(context, spec.width))
        self.transformer = Transformer(spec)
        self.ln_final = nn.LayerNorm(spec.width)
        self.text_projection = nn.Parameter(torch.empty(spec.width, spec.embedding))
        self.register_buffer("mask", causal_mask(context))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x, self.mask))
        end = tokens.argmax(1)[:, None, None].expand(-1, 1, self.spec.width)
        out: torch.Tensor = x.gather(1, end)[:, 0] @ self.text_projection
        return out


class ClipImage(nn.Module):
    """Pictures (n, 3, size, size), RGB by CLIP's mean and deviation, to (n, embedding)."""

    def __init__(self, spec: TowerSpec, *, patch: int = 32, size: int = 224) -> None:
        super().__init__()
        self.spec, self.size, self.patch = spec, size, patch
        self.conv1 = nn.Conv2d(3, spec.width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(spec.width))
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, spec.width))
        self.ln_pre = nn.LayerNorm(spec.width)
        self.transformer = Transformer(spec)
        self.ln_post = nn.LayerNorm(spec.width)
        self.proj = nn.Parameter(torch.empty(spec.width, spec.embedding))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv1(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(image), 1, -1)
        x = torch.cat([first, x], 1) + self.positional_embedding
        x = self.transformer(self.ln_pre(x))
        out: torch.Tensor = self.ln_post(x[:, 0]) @ self.proj
        return out
