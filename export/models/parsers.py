"""The face parsers: DeepLabV3 on ResNet or MobileNetV3, and BiSeNet on a ResNet-18.

DeepLabV3 is the parts paper's. Sources: Chen et al., "Rethinking Atrous Convolution" (2017); "Let's
put a smile on your face" (AIxHMI 2022), section 3.1, which gives neither trunk nor classes. The
names of the parameters are those of torchvision's segmentation models, without torchvision.

BiSeNet is the parser most used in public. Source: Yu et al., "BiSeNet" (ECCV 2018), in the form of
the face-parsing checkpoint `79999_iter.pth`, where the trunk's own features stand in for the
spatial path. The names of the parameters are those of that checkpoint; its two outputs for training
only are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from mien.export.models.trunks import (
    DilatedMobileNet,
    DilatedResNet,
    MobileNetSpec,
    ResNetSpec,
    Shapes,
)

RATES = (12, 24, 36)
MOST_RATES, MOST_RATE = 16, 256
PLAN = "plan"  # the name of the tensor that holds a parser's own stride and rates
HEAD = 256
MEAN = (0.485, 0.456, 0.406)  # of what the trunks were trained on, RGB in [0, 1]
STD = (0.229, 0.224, 0.225)
RESNET_50 = (3, 4, 6, 3)
RESNET_101 = (3, 4, 23, 3)


@dataclass(frozen=True, slots=True)
class DeepLabSpec:
    """The sizes of a parser.

    trunk: what makes the features. classes: channels of the logits. head: channels of the pyramid
    of dilated convolutions. rates: their dilations. Stride and rates other than the published ones
    are kept in the state dict as the tensor `plan`.
    """

    trunk: ResNetSpec | MobileNetSpec
    classes: int
    head: int = HEAD
    rates: tuple[int, ...] = RATES

    @classmethod
    def mobilenet(
        cls,
        classes: int,
        *,
        width: float = 1.0,
        head: int = HEAD,
        stride: int = 16,
        rates: tuple[int, ...] = RATES,
    ) -> DeepLabSpec:
        """A parser on MobileNetV3-Large of `width` times the published channels.

        stride 8 gives finer masks at four times the head's cost. With small maps (a 256 px picture
        has 16 cells a side at stride 16) the published rates reach beyond the map; give lower ones.
        """
        return cls(MobileNetSpec.of(width, stride), classes, head, rates)

    @classmethod
    def from_state(cls, state: Mapping[str, torch.Tensor]) -> DeepLabSpec:
        """The sizes of a state dict. Raises KeyError for a tensor that is not there."""
        spec = cls.from_shapes({key: tuple(tensor.shape) for key, tensor in state.items()})
        if PLAN not in state:
            return spec
        stride, *rates = _plan(state[PLAN])
        if isinstance(spec.trunk, MobileNetSpec):
            spec = replace(spec, trunk=replace(spec.trunk, stride=stride))
        return replace(spec, rates=tuple(rates))

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> DeepLabSpec:
        """The sizes of a state dict's tensors, with the published stride and rates.

        Raises KeyError for a tensor that is not there.
        """
        trunk: ResNetSpec | MobileNetSpec
        if any(key.startswith("backbone.layer") for key in shapes):
            trunk = ResNetSpec.from_shapes(shapes, "backbone.")
        else:
            trunk = MobileNetSpec.from_shapes(shapes, "backbone.")
        return cls(
            trunk,
            shapes["classifier.4.weight"][0],
            shapes["classifier.0.convs.0.0.weight"][0],
        )

    @property
    def plan(self) -> list[int]:
        """What no weight shows: the trunk's stride, then the rates. Empty where as published."""
        mobile = isinstance(self.trunk, MobileNetSpec)
        published = 16 if mobile else 8
        stride = self.trunk.stride if isinstance(self.trunk, MobileNetSpec) else published
        return [] if (stride, self.rates) == (published, RATES) else [stride, *self.rates]


def _plan(tensor: torch.Tensor) -> list[int]:
    """The stride and the rates that a file states. Raises ValueError."""
    numbers = tensor.tolist() if tensor.ndim == 1 and len(tensor) <= MOST_RATES else []
    if not numbers or not all(isinstance(n, int) and 0 < n <= MOST_RATE for n in numbers):
        raise ValueError("the tensor `plan` is no stride with rates")
    return [int(number) for number in numbers]


class DeepLab(nn.Module):
    """Class scores of each pixel.

    Call it with `image` float32 (n, 3, H, W), RGB by MEAN and STD; it gives logits
    (n, classes, H, W).
    """

    def __init__(self, spec: DeepLabSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = (
            DilatedResNet(spec.trunk)
            if isinstance(spec.trunk, ResNetSpec)
            else DilatedMobileNet(spec.trunk)
        )
        head = spec.head
        self.classifier = nn.Sequential(
            Pyramid(spec.trunk.out, head, spec.rates),
            nn.Conv2d(head, head, 3, 1, 1, bias=False),
            nn.BatchNorm2d(head),
            nn.ReLU(inplace=True),
            nn.Conv2d(head, spec.classes, 1),
        )
        if spec.plan:
            self.register_buffer(PLAN, torch.tensor(spec.plan))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.classifier(self.backbone(image))
        return nn.functional.interpolate(
            logits, size=image.shape[2:], mode="bilinear", align_corners=False
        )


class Pyramid(nn.Module):
    """The features at several reaches: of the cell, of three rings around it, of the picture."""

    def __init__(self, inputs: int, head: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        branches: list[nn.Module] = [_branch(nn.Conv2d(inputs, head, 1, bias=False))]
        branches += [
            _branch(nn.Conv2d(inputs, head, 3, 1, rate, rate, bias=False)) for rate in rates
        ]
        branches.append(WholePicture(inputs, head))
        self.convs = nn.ModuleList(branches)
        joined = nn.Conv2d(len(branches) * head, head, 1, bias=False)
        self.project = nn.Sequential(*_branch(joined), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.project(torch.cat([branch(x) for branch in self.convs], 1))
        return out


class WholePicture(nn.Sequential):
    """The mean of the map, at every cell."""

    def __init__(self, inputs: int, head: int) -> None:
        # It is the same everywhere, so that no interpolation is needed to spread it.
        super().__init__(nn.AdaptiveAvgPool2d(1), *_branch(nn.Conv2d(inputs, head, 1, bias=False)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x
        for layer in self:
            mean = layer(mean)
        return mean.expand(-1, -1, x.shape[2], x.shape[3])


def _branch(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(
        convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)
    )


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
