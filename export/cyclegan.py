"""CycleGAN's generator and PatchGAN discriminator, as published and as the parts paper has them.

Sources: Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks" (ICCV 2017); Upenieks and Urtans, "Let's put a smile on your face" (AIxHMI 2022), section
3.2. The names of the parameters are those of the public checkpoints. The paper's form has bilinear
upsampling, LeakyReLU, and, in the discriminator, layer normalisation and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mien.export.stargan import Activation, Noise, StridedConv2d, Upsampling, activation_of

PATCH_LEAK = 0.2


@dataclass(frozen=True, slots=True)
class CycleGanSpec:
    """The sizes of a generator.

    ngf: channels at full size, doubled twice on the way down. blocks: residual blocks.
    upsampling: `deconv` as published, `bilinear` as in the paper. affine: whether the normalisation
    has weights. dropout: whether blocks have a dropout, which does nothing here but shifts the
    names. activation: no weight shows it; by default ReLU with deconv and LeakyReLU with bilinear.
    """

    ngf: int = 32
    blocks: int = 9
    upsampling: Upsampling = "bilinear"
    affine: bool = False
    dropout: bool = False
    activation: Activation | None = None


class CycleGanBlock(nn.Module):
    """Two 3x3 convolutions, padded by reflection, around which the input is added."""

    def __init__(self, channels: int, spec: CycleGanSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            _norm(channels, spec),
            _activation(spec),
        ]
        if spec.dropout:
            layers.append(nn.Dropout(0.5))
        layers += [
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            _norm(channels, spec),
        ]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.conv_block(x)
        return out


class CycleGanGenerator(nn.Module):
    """A picture of domain A as one of domain B.

    Call it with `image` float32 (n, 3, S, S), RGB in [-1, 1], S a multiple of 4; it gives the same.
    """

    def __init__(self, spec: CycleGanSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.ngf
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, width, 7),
            _norm(width, spec),
            _activation(spec),
        ]
        for _ in range(2):
            layers += [
                StridedConv2d(width, 2 * width, 3, 2, 1),
                _norm(2 * width, spec),
                _activation(spec),
            ]
            width *= 2
        layers += [CycleGanBlock(width, spec) for _ in range(spec.blocks)]
        for _ in range(2):
            layers += [*_up(width, spec), _norm(width // 2, spec), _activation(spec)]
            width //= 2
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model(image)
        return out


def _norm(channels: int, spec: CycleGanSpec) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=spec.affine, track_running_stats=False)


def _activation(spec: CycleGanSpec) -> nn.Module:
    return activation_of(spec.activation, spec.upsampling)


def _up(width: int, spec: CycleGanSpec) -> list[nn.Module]:
    if spec.upsampling == "deconv":
        return [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1)]
    return [
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.ReflectionPad2d(1),
        nn.Conv2d(width, width // 2, 3),
    ]


@dataclass(frozen=True, slots=True)
class PatchGanSpec:
    """The sizes of a discriminator.

    ndf: channels after the first convolution. layers: strided convolutions. form: `public` with
    instance normalisation, or `paper` with layer normalisation and noise.
    """

    ndf: int = 64
    layers: int = 3
    form: Literal["public", "paper"] = "paper"


class PatchGan(nn.Module):
    """How real each patch of (n, 3, S, S) looks: (n, 1, s, s), without limits."""

    def __init__(self, spec: PatchGanSpec) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        before, width = 3, spec.ndf
        for index in range(spec.layers + 1):
            stride = 2 if index < spec.layers else 1
            if spec.form == "paper":
                layers.append(Noise())
            layers.append(nn.Conv2d(before, width, 4, stride, 1))
            if index > 0 and spec.form == "paper":
                layers.append(nn.GroupNorm(1, width))
            elif index > 0:
                layers.append(nn.InstanceNorm2d(width))
            layers.append(nn.LeakyReLU(PATCH_LEAK))
            before, width = width, min(2 * width, 8 * spec.ndf)
        if spec.form == "paper":
            layers.append(Noise())
        layers.append(nn.Conv2d(before, 1, 4, 1, 1))
        self.model = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model(image)
        return out
