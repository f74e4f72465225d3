"""Trunks of the face parsers: ResNet and MobileNetV3-Large, with dilated last stages.

ResNet comes in the bottleneck form of DeepLabV3 and the basic form of BiSeNet. Sources: He et al.,
"Deep Residual Learning" (CVPR 2016), with the stride on the middle convolution; Howard et al.,
"Searching for MobileNetV3" (ICCV 2019); both as torchvision's segmentation models have them. The
names of the parameters are those of the public checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

Shapes = Mapping[str, tuple[int, ...]]

STRIDES = (1, 2, 2, 2)
DILATED = (False, False, True, True)  # stages whose stride DeepLabV3 turns into dilation
EXPANSION = 4
MOST_BLOCKS = 64  # of a stage; that of a ResNet-152 has 36


@dataclass(frozen=True, slots=True)
class ResNetStage:
    """One stage: channels inside a block, channels out of it, and how many blocks."""

    inside: int
    out: int
    blocks: int


@dataclass(frozen=True, slots=True)
class ResNetSpec:
    """The sizes of a trunk of bottlenecks: channels of the first convolution, and four stages."""

    stem: int
    stages: tuple[ResNetStage, ...]

    @classmethod
    def of(cls, blocks: tuple[int, ...], width: float = 1.0) -> ResNetSpec:
        """The published widths times `width`; blocks: (3, 4, 6, 3) is ResNet-50."""
        inside = [max(8, round(channels * width)) for channels in (64, 128, 256, 512)]
        return cls(
            inside[0],
            tuple(
                ResNetStage(c, c * EXPANSION, count)
                for c, count in zip(inside, blocks, strict=True)
            ),
        )

    @classmethod
    def from_shapes(cls, shapes: Shapes, prefix: str) -> ResNetSpec:
        """The sizes that the tensors under `prefix` have. Raises KeyError for one not there."""
        stages = []
        for number in range(1, 5):
            stage = f"{prefix}layer{number}."
            stages.append(
                ResNetStage(
                    shapes[f"{stage}0.conv1.weight"][0],
                    shapes[f"{stage}0.conv3.weight"][0],
                    count_blocks(shapes, stage),
                )
            )
        return cls(shapes[f"{prefix}conv1.weight"][0], tuple(stages))

    @property
    def name(self) -> str:
        """As the model is known: by its layers."""
        return f"ResNet-{3 * sum(stage.blocks for stage in self.stages) + 2}"

    @property
    def out(self) -> int:
        """Channels of what the trunk gives."""
        return self.stages[-1].out


def count_blocks(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow `prefix` in the names, at most MOST_BLOCKS."""
    found = {key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)}
    return min(len(found), MOST_BLOCKS)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around which the input is added."""

    def __init__(self, inputs: int, stage: ResNetStage, stride: int, dilation: int) -> None:
        super().__init__()
        inside, out = stage.inside, stage.out
        self.conv1 = nn.Conv2d(inputs, inside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + skip)


class DilatedResNet(nn.Module):
    """(n, 3, S, S) to (n, out, S/8, S/8)."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, spec.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(spec.stem)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs, dilation = spec.stem, 1
        stages = []
        for stage, whole, dilated in zip(spec.stages, STRIDES, DILATED, strict=True):
            first_dilation, stride = dilation, whole
            if dilated:
                dilation, stride = dilation * whole, 1
            blocks = [Bottleneck(inputs, stage, stride, first_dilation)]
            blocks += [Bottleneck(stage.out, stage, 1, dilation) for _ in range(stage.blocks - 1)]
            stages.append(nn.Sequential(*blocks))
            inputs = stage.out
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        out: torch.Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return out


BATCH_NORM_EPS = 1e-3  # all other networks here have 1e-5
HARD_FROM = 7  # blocks from here on, counted from 1, have hard swish instead of ReLU


@dataclass(frozen=True, slots=True)
class Row:
    """One published block: kernel, channels inside and out, squeeze and excite, stride."""

    kernel: int
    inside: int
    out: int
    squeezed: bool
    stride: int


STEM, LAST = 16, 960
TABLE = (
    Row(3, 16, 16, squeezed=False, stride=1),
    Row(3, 64, 24, squeezed=False, stride=2),
    Row(3, 72, 24, squeezed=False, stride=1),
    Row(5, 72, 40, squeezed=True, stride=2),
    Row(5, 120, 40, squeezed=True, stride=1),
    Row(5, 120, 40, squeezed=True, stride=1),
    Row(3, 240, 80, squeezed=False, stride=2),
    Row(3, 200, 80, squeezed=False, stride=1),
    Row(3, 184, 80, squeezed=False, stride=1),
    Row(3, 184, 80, squeezed=False, stride=1),
    Row(3, 480, 112, squeezed=True, stride=1),
    Row(3, 672, 112, squeezed=True, stride=1),
    Row(5, 672, 160, squeezed=True, stride=2),
    Row(5, 960, 160, squeezed=True, stride=1),
    Row(5, 960, 160, squeezed=True, stride=1),
)


@dataclass(frozen=True, slots=True)
class MobileNetBlock:
    """The widths of one block: inside, out, and of the squeeze (0 where there is none)."""

    inside: int
    out: int
    squeeze: int


@dataclass(frozen=True, slots=True)
class MobileNetSpec:
    """The sizes of a trunk.

    stem, last: channels of the first and the last convolution. blocks: one for each row of TABLE.
    stride: by how much the trunk shrinks a picture, 16 as published, or 8. No weight shows it.
    """

    stem: int
    blocks: tuple[MobileNetBlock, ...]
    last: int
    stride: int = 16

    @classmethod
    def of(cls, width: float = 1.0, stride: int = 16) -> MobileNetSpec:
        """The published widths times `width`, in steps of eight."""
        return cls(
            rounded(STEM * width),
            tuple(
                MobileNetBlock(
                    rounded(row.inside * width),
                    rounded(row.out * width),
                    rounded(rounded(row.inside * width) // 4) if row.squeezed else 0,
                )
                for row in TABLE
            ),
            rounded(LAST * width),
            stride,
        )

    @classmethod
    def from_shapes(cls, shapes: Shapes, prefix: str) -> MobileNetSpec:
        """The sizes that the tensors under `prefix` have. Raises KeyError for one not there."""
        stem = shapes[f"{prefix}0.0.weight"][0]
        blocks = []
        inputs = stem
        for number, row in enumerate(TABLE, 1):
            path = f"{prefix}{number}.block."
            expands = len(shapes[f"{path}0.0.weight"]) == 4 and shapes[f"{path}0.0.weight"][1] > 1
            depthwise = 1 if expands else 0
            inside = shapes[f"{path}{depthwise}.0.weight"][0]
            squeeze = shapes[f"{path}{depthwise + 1}.fc1.weight"][0] if row.squeezed else 0
            end = depthwise + 1 + row.squeezed
            blocks.append(MobileNetBlock(inside, shapes[f"{path}{end}.0.weight"][0], squeeze))
            if not expands and inside != inputs:
                raise KeyError(f"{path}0.0.weight")
            inputs = blocks[-1].out
        return cls(stem, tuple(blocks), shapes[f"{prefix}{len(TABLE) + 1}.0.weight"][0])

    @property
    def name(self) -> str:
        """As the model is known."""
        return "MobileNetV3-Large"

    @property
    def out(self) -> int:
        """Channels of what the trunk gives."""
        return self.last


def rounded(channels: float) -> int:
    """To the nearest eight, no less than eight, and by no more than a tenth down."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class Squeeze(nn.Module):
    """Channels weighed by what the whole map holds."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * nn.functional.hardsigmoid(self.fc2(weights))


class Inverted(nn.Module):
    """A wide depthwise convolution between two narrow 1x1 ones."""

    def __init__(
        self, inputs: int, block: MobileNetBlock, row: Row, *, dilation: int, hard: bool
    ) -> None:
        super().__init__()
        stride = 1 if dilation > 1 else row.stride
        act: type[nn.Module] = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = []
        if block.inside != inputs:
            layers.append(_unit(nn.Conv2d(inputs, block.inside, 1, bias=False), act))
        padding = (row.kernel - 1) // 2 * dilation
        depthwise = nn.Conv2d(
            block.inside,
            block.inside,
            row.kernel,
            stride,
            padding,
            dilation,
            groups=block.inside,
            bias=False,
        )
        layers.append(_unit(depthwise, act))
        if block.squeeze:
            layers.append(Squeeze(block.inside, block.squeeze))
        layers.append(_unit(nn.Conv2d(block.inside, block.out, 1, bias=False), None))
        self.block = nn.Sequential(*layers)
        self.adds = row.stride == 1 and inputs == block.out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(x)
        return x + out if self.adds else out


class DilatedMobileNet(nn.Sequential):
    """(n, 3, S, S) to (n, last, S/16, S/16), or S/8 where the spec says so."""

    def __init__(self, spec: MobileNetSpec) -> None:
        layers: list[nn.Module] = [
            _unit(nn.Conv2d(3, spec.stem, 3, 2, 1, bias=False), nn.Hardswish)
        ]
        inputs, shrunk, dilation = spec.stem, 2, 1
        for number, (row, block) in enumerate(zip(TABLE, spec.blocks, strict=True), 1):
            if row.stride > 1 and shrunk >= spec.stride:
                dilation *= row.stride
            else:
                shrunk *= row.stride
            hard = number >= HARD_FROM
            layers.append(Inverted(inputs, block, row, dilation=dilation, hard=hard))
            inputs = block.out
        layers.append(_unit(nn.Conv2d(inputs, spec.last, 1, bias=False), nn.Hardswish))
        super().__init__(*layers)


def _unit(convolution: nn.Conv2d, activation: type[nn.Module] | None) -> nn.Sequential:
    """Convolution, batch normalisation and, for all but a block's last, an activation."""
    layers: list[nn.Module] = [
        convolution,
        nn.BatchNorm2d(convolution.out_channels, eps=BATCH_NORM_EPS, momentum=0.01),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)
