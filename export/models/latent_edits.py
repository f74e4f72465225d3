"""What moves codes of W+: StyleCLIP's mappers and the directions of Latent2im.

Sources: Patashnik et al., "StyleCLIP" (ICCV 2021), section 5, and its public code; Zhuang et al.,
"Enjoy Your Editing" (ICLR 2021). The names of the parameters are those of the public checkpoints.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

STEP = 0.1  # of what a mapper gives, as in StyleCLIP's own inference
GAIN, LEAK, EPSILON = math.sqrt(2), 0.2, 1e-8
# The layers that each part of a LevelsMapper edits, by the names in checkpoints (sic).
LEVELS = {"course_mapping": (0, 4), "medium_mapping": (4, 8), "fine_mapping": (8, None)}


class Mapper(nn.Module):
    """A dense network over each code of some layers, (n, layers, style) to the same.

    Codes are normalised over the layers and not over their values, as the public code does: its
    normalisation takes dimension 1, which is that of the layers here.
    """

    def __init__(self, style: int, depth: int = 4) -> None:
        super().__init__()
        self.mapping = nn.ModuleDict({str(i + 1): nn.Linear(style, style) for i in range(depth)})

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        x = codes * torch.rsqrt(codes.square().mean(1, keepdim=True) + EPSILON)
        for layer in self.mapping.values():
            x = F.leaky_relu(layer(x), LEAK) * GAIN
        return x


class LatentMapper(nn.Module):
    """A mapper for all layers, or one for each level: codes (n, layers, style), strength (1,).

    levels: of LEVELS, those that there are; the others leave their layers as they are. Empty for
    one mapper, `mapping`, of all layers.
    """

    def __init__(self, style: int, layers: int, levels: tuple[str, ...]) -> None:
        super().__init__()
        self.style, self.layers = style, layers
        self.levels = levels
        for name in levels or ("mapping",):
            self.add_module(name, Mapper(style))

    def forward(self, codes: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        if not self.levels:
            edited: torch.Tensor = codes + STEP * strength * self.get_submodule("mapping")(codes)
            return edited
        parts = []
        for name, (start, end) in LEVELS.items():
            part = codes[:, start:end]
            if name in self.levels:
                part = part + STEP * strength * self.get_submodule(name)(part)
            parts.append(part)
        return torch.cat(parts, 1)


class Walk(nn.Module):
    """Codes moved along a direction for each attribute: w + sum over a of steps[a] T[a].

    codes: (n, layers, style). steps: (n, attributes). mask: (layers,), the share of the move that
    each layer takes.
    """

    def __init__(self, attributes: int, layers: int, style: int = 512) -> None:
        super().__init__()
        self.attributes, self.layers, self.style = attributes, layers, style
        self.w = nn.Parameter(torch.empty(attributes, layers, style))

    def forward(self, codes: torch.Tensor, steps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        move = (steps @ self.w.flatten(1)).view(-1, self.layers, self.style)
        return codes + mask[:, None] * move
