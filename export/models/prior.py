"""The mapping network of mien's own face space: noise to codes.

StyleGAN2's mapping network (Karras et al., 2020) sends z to one code of W. Here it ends in amounts
of the principal components of the codes of W+, because the encoder and the generator learned
together and use all of W+. It begins as a Gaussian over them, for the first numbers of z are the
amounts themselves, and learns how they go together (`mien.training.latent.prior`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.emm import start_linear


@dataclass(frozen=True, slots=True)
class PriorSpec:
    """Sizes: StyleGAN2's own, and how many principal components there are, at most z_dim."""

    layers: int
    style_dim: int = 512
    z_dim: int = 512
    width: int = 512
    depth: int = 8
    components: int = 128


class Prior(nn.Module):
    """z (n, z_dim), normally distributed, and psi (1,) to codes (n, layers, style_dim).

    `mean` (layers * style_dim,) and `basis` (components, layers * style_dim) are those of the
    training codes, the basis times the deviation along each component. psi is the truncation: 1
    for all variety, 0 for the mean face.
    """

    mean: torch.Tensor
    basis: torch.Tensor

    def __init__(self, spec: PriorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.zeros(spec.layers * spec.style_dim))
        self.register_buffer("basis", torch.zeros(spec.components, spec.layers * spec.style_dim))
        widths = [spec.z_dim, *[spec.width] * spec.depth]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.linears.apply(start_linear)
        self.out = nn.Linear(spec.width, spec.components)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def amounts(self, z: torch.Tensor) -> torch.Tensor:
        """The amount of each component, in its deviations: (n, components)."""
        x = noise = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for linear in self.linears:
            x = F.leaky_relu(linear(x), 0.2) * math.sqrt(2)
        found: torch.Tensor = noise[:, : self.spec.components] + self.out(x)
        return found

    def codes(self, amounts: torch.Tensor) -> torch.Tensor:
        """Amounts of the components to codes."""
        flat = self.mean + amounts @ self.basis
        return flat.view(-1, self.spec.layers, self.spec.style_dim)

    def forward(self, z: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
        return self.codes(self.amounts(z) * psi)


class Velocity(nn.Module):
    """Where a point of the way from noise to amounts goes next: x (n, k), time (n, 1) to (n, k).

    Source: Lipman et al., "Flow Matching for Generative Modeling" (2023); straight ways from
    independent noise. Only the recipe uses it.
    """

    def __init__(self, components: int, width: int = 384, depth: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(components + 17, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
            for _ in range(depth)
        )
        self.out = nn.Linear(width, components)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        octaves = 2.0 ** torch.arange(8, device=x.device) * math.pi / 2
        waves = time * octaves
        h = F.silu(self.first(torch.cat([x, time, waves.sin(), waves.cos()], 1)))
        for block in self.blocks:
            h = h + block(h)
        velocity: torch.Tensor = self.out(h)
        return velocity
