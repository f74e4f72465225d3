"""The Emotion Manipulation Mapper, and the dual auxiliary classifier that guides its training.

Source: Guo and Gu, "A StyleCLIP-based Facial Emotion Manipulation Method for Discrepant Emotion
Transitions" (ACCV 2024), sections 3.1 and 3.2. No implementation of the authors is public. What the
paper leaves open is read as follows: the first circled plus (equation 4) is a concatenation for
each layer, the second (equation 6) a residual sum with the step of StyleCLIP's mapper, for the
generator takes as many numbers as before, and equation 12 subtracts both.

Without a condition the mapper is StyleCLIP's (Patashnik et al., 2021), which the paper compares to.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

EMOTIONS = 8
STEP = 0.1  # of StyleCLIP's mapper: what a code moves by for an answer of 1

Condition = Literal["global", "local", "none"]
Norm = Literal["layers", "channels", "statistics"]


@dataclass(frozen=True, slots=True)
class MapperSpec:
    """The sizes of a mapper; the defaults are the paper's, for a generator of 1024 pixels.

    layers: codes of W+. style_dim: numbers of a code. condition: `global` conditions all layers,
    `local` the coarse and the middle ones only, `none` is StyleCLIP's mapper. norm: what a code is
    divided by first: its root mean square over the `layers` of a level, as StyleCLIP's PixelNorm
    does, or over its `channels`; with `statistics` it is standardised by mean and deviation of the
    training codes. levels: where layers divide into levels with an editor each; empty for one
    editor. targets: 0 for a mapper of one emotion, as the paper has one for each text; 8 for one
    that is told which.
    """

    layers: int = 18
    style_dim: int = 512
    depth: int = 4
    condition: Condition = "global"
    norm: Norm = "layers"
    levels: tuple[int, ...] = ()
    targets: int = 0

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """First and last (exclusive) layer of each level."""
        cuts = (0, *self.levels, self.layers)
        return tuple(itertools.pairwise(cuts))

    def conditioned(self, level: int) -> bool:
        """Whether the editor of a level sees the condition."""
        fine = level == len(self.bounds) - 1 and len(self.bounds) > 1
        return self.condition == "global" or (self.condition == "local" and not fine)


def start_linear(module: nn.Module) -> None:
    """Draw a linear layer's weights so that values keep their size; others are left as they are."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
        nn.init.zeros_(module.bias)


class EmotionEditor(nn.Module):
    """A truncated mapping network: `depth` linear layers, each with a leaky ReLU.

    Every layer of the level goes through the same weights; `place` (layers, style_dim) tells them
    apart and is zero in an untrained editor.
    """

    def __init__(self, layers: int, inputs: int, style_dim: int, depth: int) -> None:
        super().__init__()
        widths = [inputs, *[style_dim] * depth]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.linears.apply(start_linear)
        self.place = nn.Parameter(torch.zeros(layers, style_dim))

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """(n, layers, inputs) to (n, layers, style_dim)."""
        x = self.linears[0](fused) + self.place
        for linear in self.linears[1:]:
            x = linear(F.leaky_relu(x, 0.2) * math.sqrt(2))
        return F.leaky_relu(x, 0.2) * math.sqrt(2)


class EmotionMapper(nn.Module):
    """codes (n, layers, style_dim) and a condition (n, 8) to codes that show the target.

    With `targets` a third input (n, targets) says which emotion. `mean` and `deviation`
    (layers, style_dim) are those of the training codes.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, spec: MapperSpec) -> None:
        super().__init__()
        self.spec = spec
        shape = (spec.layers, spec.style_dim)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))
        editors = []
        for level, (first, last) in enumerate(spec.bounds):
            inputs = spec.style_dim + spec.targets + EMOTIONS * spec.conditioned(level)
            editors.append(EmotionEditor(last - first, inputs, spec.style_dim, spec.depth))
        self.editors = nn.ModuleList(editors)

    def forward(
        self, codes: torch.Tensor, condition: torch.Tensor, target: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Equations 4 to 6."""
        moves = []
        for level, (first, last) in enumerate(self.spec.bounds):
            fused = [self._normalised(codes, first, last)]
            if self.spec.conditioned(level):
                fused.append(condition[:, None].expand(-1, last - first, -1))
            if target is not None:
                fused.append(target[:, None].expand(-1, last - first, -1))
            moves.append(self.editors[level](torch.cat(fused, 2)))
        move = torch.cat(moves, 1)
        if self.spec.norm == "statistics":
            move = move * self.deviation
        moved = codes + STEP * move
        if self.spec.condition == "none":
            # A tensor that no node takes would be missing from the graph.
            moved = moved + 0 * condition.sum()
        return moved

    def _normalised(self, codes: torch.Tensor, first: int, last: int) -> torch.Tensor:
        part = codes[:, first:last]
        if self.spec.norm == "statistics":
            return (part - self.mean[first:last]) / self.deviation[first:last]
        over = 1 if self.spec.norm == "layers" else 2
        return part * torch.rsqrt(part.square().mean(over, keepdim=True) + 1e-8)


class LatentClassifier(nn.Module):
    """codes (n, layers, style_dim) to logits (n, 8), each emotion on its own. Equation 7."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self, layers: int = 18, style_dim: int = 512, hidden: int = 512, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(layers, style_dim))
        self.register_buffer("deviation", torch.ones(layers, style_dim))
        self.fc = nn.Linear(layers * style_dim, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, EMOTIONS)
        self.norm2 = nn.LayerNorm(EMOTIONS)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        x = ((codes - self.mean) / self.deviation).flatten(1)
        x = self.dropout(self.norm(self.fc(x)))
        # The paper drops logits as well; a dropped logit would be a verdict, so none is here.
        logits: torch.Tensor = self.norm2(self.fc2(x))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added; keys as in torchvision."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + skip)


@dataclass(frozen=True, slots=True)
class TrunkSpec:
    """A ResNet of basic blocks: its widths, what it looks at, and how it halves the picture.

    The defaults are ResNet-18 on RGB, with torchvision's keys. folded: halve by space to depth and
    a 1x1 convolution, the picture once before the first stage: the bfloat16 gradient of a strided
    convolution is many times slower on a processor.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    colours: int = 3
    folded: bool = False


SMALL_TRUNK = TrunkSpec((32, 64, 128, 192), (1, 1, 2, 1), 1, folded=True)


def make_trunk(spec: TrunkSpec) -> nn.Module:
    """Pictures (n, colours, s, s) in [-1, 1] to features (n, widths[-1])."""
    return FoldedTrunk(spec) if spec.folded else ResNetTrunk(spec)


class ResNetTrunk(nn.Module):
    """ResNet with a 7x7 stem and max-pooling."""

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(spec.colours, spec.widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(spec.widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], spec.widths[0]
        for number, (width, count) in enumerate(zip(spec.widths, spec.blocks, strict=True)):
            blocks = [BasicBlock(inputs, width, 1 if number == 0 else 2)]
            blocks += [BasicBlock(width, width, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            inputs = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(face))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        features: torch.Tensor = x.mean((2, 3)).float()
        return features


class FoldedTrunk(nn.Module):
    """The same depth without a strided convolution; a stage begins at half the size."""

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        stages, inputs = [], spec.colours
        for width, count in zip(spec.widths, spec.blocks, strict=True):
            halved = nn.Sequential(
                nn.PixelUnshuffle(2),
                nn.Conv2d(inputs * 4, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            blocks = [BasicBlock(width, width, 1) for _ in range(count)]
            stages.append(nn.Sequential(halved, *blocks))
            inputs = width
        self.stages = nn.Sequential(*stages)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.stages(face)
        return x.mean((2, 3)).float()


class ImageClassifier(nn.Module):
    """Pictures (n, colours, s, s) in [-1, 1] to logits (n, 8). Equation 8.

    Each picture is brought to zero mean and unit deviation first, so that light does not matter.
    """

    def __init__(self, spec: TrunkSpec | None = None, hidden: int = 1000) -> None:
        super().__init__()
        spec = spec or TrunkSpec()
        self.trunk = make_trunk(spec)
        self.linear = nn.Linear(spec.widths[-1], hidden)
        self.fc = nn.Linear(hidden, EMOTIONS)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        mean = face.mean((1, 2, 3), keepdim=True)
        centred = face - mean
        deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
        features = self.trunk(centred / (deviation + 0.05))
        logits: torch.Tensor = self.fc(self.linear(F.dropout(features, 0.3, self.training)))
        return logits
