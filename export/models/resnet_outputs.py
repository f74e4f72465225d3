"""ResNets with a dense layer at their end, by torchvision's names: landmarks and attributes.

Source: He et al., "Deep Residual Learning" (CVPR 2016), with the stride on the middle convolution
of a bottleneck. The networks that end so here: the 106 landmarks that HFLD compares (ResNet-18, 212
numbers), and Latent2im's regressor of CelebA's attributes (ResNet-50, 40 numbers).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mien.export.models.parsers import BasicBlock
from mien.export.models.trunks import STRIDES, Bottleneck, ResNetStage, Shapes, count_blocks


@dataclass(frozen=True, slots=True)
class ResNetOutputsSpec:
    """The sizes of a network: of its trunk, and how many numbers it gives.

    basic: whether its blocks are two 3x3 convolutions or a bottleneck of three.
    """

    stem: int
    stages: tuple[ResNetStage, ...]
    outputs: int
    basic: bool

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> ResNetOutputsSpec:
        """The sizes that a state dict's tensors have. Raises KeyError for one not there."""
        basic = "layer1.0.conv3.weight" not in shapes
        stages = []
        for number in range(1, 5):
            last = "conv2" if basic else "conv3"
            stages.append(
                ResNetStage(
                    shapes[f"layer{number}.0.conv1.weight"][0],
                    shapes[f"layer{number}.0.{last}.weight"][0],
                    count_blocks(shapes, f"layer{number}."),
                )
            )
        return cls(shapes["conv1.weight"][0], tuple(stages), shapes["fc.weight"][0], basic)

    @property
    def name(self) -> str:
        """As the model is known: by its layers."""
        each = 2 if self.basic else 3
        return f"ResNet-{each * sum(stage.blocks for stage in self.stages) + 2}"


class ResNetOutputs(nn.Module):
    """Pictures (n, 3, S, S) to numbers (n, outputs), without limits."""

    def __init__(self, spec: ResNetOutputsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = nn.Conv2d(3, spec.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(spec.stem)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], spec.stem
        for stage, stride in zip(spec.stages, STRIDES, strict=True):
            blocks: list[nn.Module] = []
            for index in range(stage.blocks):
                step = stride if index == 0 else 1
                blocks.append(
                    BasicBlock(inputs, stage.out, step)
                    if spec.basic
                    else Bottleneck(inputs, stage, step, 1)
                )
                inputs = stage.out
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, spec.outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: torch.Tensor = self.fc(x.mean((2, 3)))
        return out
