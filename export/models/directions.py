"""The matrix of directions that changes attributes of a face, and the regressor that reads them.

Source: He and McGough, "My Emotion on your face: The use of Facial Keypoint Detection to preserve
Emotions in Latent Space Editing", on Zhuang et al., "Enjoy Your Editing" (ICLR 2021): w' = w + T s
(equation 1), the same for every face.
"""

from __future__ import annotations

import torch
from torch import nn

from mien.export.models.emm import TrunkSpec, make_trunk


class DirectionMatrix(nn.Module):
    """codes (n, layers, style_dim), steps (n, attributes), mask (layers,) to codes. Equation 1.

    `w` (attributes, layers, style_dim) has the name that it has in the public checkpoints; these
    have 40 attributes, 14 layers at 256 pixels and 18 at 1024, and 512 numbers a code. The mask is
    how much of its move each layer takes, ones for all of it.
    """

    def __init__(self, attributes: int = 40, layers: int = 18, style_dim: int = 512) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(attributes, layers, style_dim))

    def forward(self, codes: torch.Tensor, steps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        moved = (steps @ self.w.flatten(1)).view_as(codes)
        return codes + moved * mask[:, None]


class AttributeRegressor(nn.Module):
    """Pictures (n, colours, s, s) in [-1, 1] to attributes (n, k), trained to lie in [0, 1].

    The public one is a ResNet-50 with linear outputs; the outputs here are linear as well, and
    `clamped` is what the losses use.
    """

    def __init__(self, attributes: int = 40, spec: TrunkSpec | None = None) -> None:
        super().__init__()
        spec = spec or TrunkSpec()
        self.trunk = make_trunk(spec)
        self.fc = nn.Linear(spec.widths[-1], attributes)
        nn.init.constant_(self.fc.bias, 0.5)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.fc(self.trunk(face))
        return values


def clamped(values: torch.Tensor, margin: float = 1e-3) -> torch.Tensor:
    """Values as probabilities whose logarithms exist; the gradient goes on inside [0, 1]."""
    return values.clamp(margin, 1 - margin)
