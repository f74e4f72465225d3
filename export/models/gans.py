"""StarGAN and CycleGAN, with discriminators, as published and as the parts paper has them.

Sources: Choi et al., "StarGAN" (CVPR 2018); Zhu et al., "Unpaired Image-to-Image Translation using
Cycle-Consistent Adversarial Networks" (ICCV 2017); Upenieks and Urtans, "Let's put a smile on your
face" (AIxHMI 2022), section 3.2. The names of the parameters are those of the public checkpoints,
so that `load_state_dict` takes them as they are. The paper's form differs from the public one in
bilinear upsampling before a convolution, LeakyReLU, and, in the discriminator, layer normalisation
and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

LEAK = 0.01
KERNELS = {"deconv": 4, "bilinear": 3}

Upsampling = Literal["deconv", "bilinear"]
Activation = Literal["relu", "leaky"]


@dataclass(frozen=True, slots=True)
class StarGanSpec:
    """The sizes of a generator.

    labels: width of the label vector. conv_dim: channels at full size, doubled twice on the way
    down. blocks: residual blocks. upsampling: `deconv` as published, `bilinear` as in the paper.
    activation: no weight shows it; by default ReLU with the one and LeakyReLU with the other.
    """

    labels: int
    conv_dim: int = 64
    blocks: int = 5
    upsampling: Upsampling = "bilinear"
    activation: Activation | None = None


class StridedConv2d(nn.Conv2d):
    """A strided convolution that stays float32 under autocast on a processor.

    The bfloat16 gradient of a strided convolution takes fifteen to forty times as long there
    (torch 2.13: 167 ms against 4 ms, 32 to 64 channels at 32 pixels, batch 16).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def instance_norm(channels: int) -> nn.InstanceNorm2d:
    """Instance normalisation by the picture's own statistics, in training and afterwards.

    The published code keeps running statistics and never uses them, for it never calls eval();
    using them changes the picture by as much as 0.95.
    """
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=False)


def activation_of(asked: Activation | None, upsampling: Upsampling) -> nn.Module:
    """The activation that was asked for, or the one that goes with the upsampling."""
    if (asked or ("relu" if upsampling == "deconv" else "leaky")) == "relu":
        return nn.ReLU(inplace=True)
    return nn.LeakyReLU(LEAK, inplace=True)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added."""

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            instance_norm(channels),
            activation,
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            instance_norm(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.main(x)
        return out


class StarGanGenerator(nn.Module):
    """A picture turned into another domain.

    Call it with `image` float32 (n, 3, S, S), RGB in [-1, 1], S a multiple of 4, and `label`
    float32 (n, labels) in [0, 1]; it gives (n, 3, S, S) in [-1, 1].
    """

    def __init__(self, spec: StarGanSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.conv_dim
        layers: list[nn.Module] = [
            nn.Conv2d(3 + spec.labels, width, 7, 1, 3, bias=False),
            instance_norm(width),
            self._activation(),
        ]
        for _ in range(2):
            layers += [
                StridedConv2d(width, 2 * width, 4, 2, 1, bias=False),
                instance_norm(2 * width),
                self._activation(),
            ]
            width *= 2
        layers += [ResidualBlock(width, self._activation()) for _ in range(spec.blocks)]
        for _ in range(2):
            layers += [*self._up(width), instance_norm(width // 2), self._activation()]
            width //= 2
        layers += [nn.Conv2d(width, 3, 7, 1, 3, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        maps = label[:, :, None, None].expand(-1, -1, image.shape[2], image.shape[3])
        out: torch.Tensor = self.main(torch.cat([image, maps], 1))
        return out

    def _activation(self) -> nn.Module:
        return activation_of(self.spec.activation, self.spec.upsampling)

    def _up(self, width: int) -> list[nn.Module]:
        if self.spec.upsampling == "deconv":
            return [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)]
        return [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(width, width // 2, KERNELS["bilinear"], 1, 1, bias=False),
        ]


class Noise(nn.Module):
    """Gaussian noise of deviation `std` while training; the paper lets it decay to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.std = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.std <= 0:
            return x
        return x + self.std * torch.randn_like(x)


@dataclass(frozen=True, slots=True)
class StarGanCriticSpec:
    """The sizes of a discriminator.

    labels: classes it tells apart. size: pixels a side. conv_dim: channels after the first of
    `convs` strided convolutions, doubled by each of the others. form: `public`, or `paper` with
    layer normalisation and noise.
    """

    labels: int
    size: int = 64
    conv_dim: int = 64
    convs: int = 5
    form: Literal["public", "paper"] = "paper"


class StarGanCritic(nn.Module):
    """How real each patch of a picture looks, and which domain the picture is of.

    Gives patches (n, 1, s, s) without limits, and logits (n, labels).
    """

    def __init__(self, spec: StarGanCriticSpec) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        width, before = spec.conv_dim, 3
        for index in range(spec.convs):
            if spec.form == "paper":
                layers.append(Noise())
            layers.append(nn.Conv2d(before, width, 4, 2, 1))
            if spec.form == "paper" and index > 0:
                layers.append(nn.GroupNorm(1, width))  # over channels and places: layer norm
            layers.append(nn.LeakyReLU(LEAK))
            before, width = width, 2 * width
        self.main = nn.Sequential(*layers)
        self.conv1 = nn.Conv2d(before, 1, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(before, spec.labels, spec.size >> spec.convs, bias=False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.main(image)
        return self.conv1(features), self.conv2(features).flatten(1)


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
