"""The encoders of the diffusion paper's semantic condition, in the layouts of its public code.

A VAE's mean (3x3 convolutions of stride 2) and the penultimate layer of a plain classifier. Both
take luma in [-1, 1]; the classifier repeats it where its first layer wants three channels. mien's
own recipe adds a linear map after them, which takes the emotion out of the code and gives it unit
variance; public files have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

VAE_WIDTHS = (32, 64, 128, 256, 512)
CNN_WIDTHS = (64, 128, 128, 256, 256)
BOTTLENECK = 4  # places of the VAE's last features, for pictures of 33 to 64 pixels


@dataclass(frozen=True, slots=True)
class VaeSpec:
    """The sizes of a VAE's encoder. is_projected: whether the emotion is taken out of its code."""

    code: int = 128
    widths: tuple[int, ...] = VAE_WIDTHS
    is_projected: bool = False


class VaeEncoder(nn.Module):
    """The mean of the latent (n, code) of luma (n, 1, s, s) in [-1, 1], s from 33 to 64."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        inputs = 1
        for width in spec.widths:
            layers.append(
                nn.Sequential(
                    nn.Conv2d(inputs, width, 3, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU()
                )
            )
            inputs = width
        self.encoder = nn.Sequential(*layers)
        self.fc_mu = nn.Linear(inputs * BOTTLENECK, spec.code)
        if spec.is_projected:
            self.projection = nn.Linear(spec.code, spec.code)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """What the mean, and in training the variance, is read from."""
        found: torch.Tensor = self.encoder(image)
        return found.flatten(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = self.fc_mu(self.features(image))
        return self.projection(mean) if self.spec.is_projected else mean


@dataclass(frozen=True, slots=True)
class CnnSpec:
    """The sizes of the classifier whose penultimate layer is the code. channels: 1 or 3."""

    code: int = 256
    classes: int = 7
    channels: int = 3
    widths: tuple[int, ...] = CNN_WIDTHS
    is_projected: bool = False


class CnnEncoder(nn.Module):
    """The penultimate layer (n, code) for luma (n, 1, 48, 48) in [-1, 1]; `logits` goes on.

    Layers stand where the public file's names have them, with its dropouts.
    """

    def __init__(self, spec: CnnSpec) -> None:
        super().__init__()
        self.spec = spec
        a, b, c, d, e = spec.widths
        self.features = nn.Sequential(
            *_convolution(spec.channels, a),
            *_convolution(a, b),
            nn.MaxPool2d(2),
            nn.Dropout(),
            *_convolution(b, c),
            *_convolution(c, d),
            nn.MaxPool2d(3),
            nn.Dropout(),
            *_convolution(d, e, stride=2),
        )
        self.fc1 = nn.Linear(e, spec.code)
        self.classifier = nn.Sequential(nn.Dropout(), nn.ReLU(), nn.Linear(spec.code, spec.classes))
        if spec.is_projected:
            self.projection = nn.Linear(spec.code, spec.code)

    def code(self, image: torch.Tensor) -> torch.Tensor:
        """The penultimate layer as the classifier has it."""
        wide = image.expand(-1, self.spec.channels, -1, -1)
        code: torch.Tensor = self.fc1(self.features(wide).mean((2, 3)))
        return code

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """What the classifier says: (n, classes)."""
        said: torch.Tensor = self.classifier(self.code(image))
        return said

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        code = self.code(image)
        return self.projection(code) if self.spec.is_projected else code


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU()
