"""BiSeNet on a ResNet-18, the face parser most used in public.

Source: Yu et al., "BiSeNet" (ECCV 2018), in the form of the face-parsing checkpoint
`79999_iter.pth`, where the trunk's own features stand in for the spatial path. The names of the
parameters are those of that checkpoint; its two outputs for training only are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mien.export.resnet import Shapes

TRUNK = (64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class BiSeNetSpec:
    """The sizes of a parser.

    classes: channels of the logits. trunk: channels of the four stages. reach: channels of the
    refined features, half of those that the fusion gives.
    """

    classes: int
    trunk: tuple[int, ...] = TRUNK
    reach: int = 128

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> BiSeNetSpec:
        """The sizes of a state dict's tensors. Raises KeyError for one that is not there."""
        return cls(
            shapes["conv_out.conv_out.weight"][0],
            tuple(shapes[f"cp.resnet.layer{n}.0.conv1.weight"][0] for n in range(1, 5)),
            shapes["cp.arm16.conv.conv.weight"][0],
        )


class BiSeNet(nn.Module):
    """Class scores of each pixel.

    Call it with `image` float32 (n, 3, H, W), RGB by DeepLabV3's MEAN and STD, H and W multiples
    of 32; it gives logits (n, classes, H, W).
    """

    def __init__(self, spec: BiSeNetSpec) -> None:
        super().__init__()
        self.spec = spec
        fused = spec.trunk[1] + spec.reach
        self.cp = ContextPath(spec)
        self.ffm = Fusion(fused)
        self.conv_out = Output(fused, spec.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        fine, refined = self.cp(image)
        logits = self.conv_out(self.ffm(torch.cat([fine, refined], 1)))
        return nn.functional.interpolate(
            logits, size=image.shape[2:], mode="bilinear", align_corners=True
        )


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, out, kernel, 1, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added."""

    def __init__(self, inputs: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + skip)


class Trunk(nn.Module):
    """A ResNet-18: the maps at an eighth, a sixteenth and a thirty-second of the picture."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], widths[0]
        for index, out in enumerate(widths):
            stride = 1 if index == 0 else 2
            stages.append(nn.Sequential(BasicBlock(inputs, out, stride), BasicBlock(out, out, 1)))
            inputs = out
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.layer1(self.maxpool(torch.relu(self.bn1(self.conv1(x)))))
        eighth = self.layer2(x)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class Refinement(nn.Module):
    """Channels weighed by what the whole map holds."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.conv = Unit(inputs, out)
        self.conv_atten = nn.Conv2d(out, out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        weights = self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(weights)


class ContextPath(nn.Module):
    """The trunk's map at an eighth, and what the coarser maps say at that size."""

    def __init__(self, spec: BiSeNetSpec) -> None:
        super().__init__()
        reach = spec.reach
        self.resnet = Trunk(spec.trunk)
        self.arm16 = Refinement(spec.trunk[2], reach)
        self.arm32 = Refinement(spec.trunk[3], reach)
        self.conv_head32 = Unit(reach, reach)
        self.conv_head16 = Unit(reach, reach)
        self.conv_avg = Unit(spec.trunk[3], reach, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        eighth, sixteenth, coarse = self.resnet(x)
        whole = self.conv_avg(coarse.mean((2, 3), keepdim=True))
        x = self.conv_head32(_doubled(self.arm32(coarse) + whole))
        return eighth, self.conv_head16(_doubled(self.arm16(sixteenth) + x))


class Fusion(nn.Module):
    """Both paths joined, with channels weighed by what the whole map holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convblk = Unit(channels, channels, 1)
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convblk(x)
        weights = self.conv2(torch.relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(weights) + x


class Output(nn.Module):
    """Features to class scores."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = Unit(channels, channels)
        self.conv_out = nn.Conv2d(channels, classes, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv_out(self.conv(x))
        return out


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
