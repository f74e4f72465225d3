"""ResNet trunks: the bottleneck form of DeepLabV3 and the basic form of BiSeNet.

Sources: He et al., "Deep Residual Learning" (CVPR 2016), with the stride on the middle
convolution, and dilated last stages, as torchvision's segmentation models have them. The names of
the parameters are those of the public checkpoints.
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
