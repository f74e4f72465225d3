"""FaceCLIP's text encoder and generator, by the names of their public files.

Source: Fu et al., "Facial Expression Generation from Text with FaceCLIP", JCST 2025, Figures 4 and
6; the generator is that of ControlGAN (NeurIPS 2019), which is AttnGAN's (CVPR 2018) with a channel
attention beside the spatial one. Two things are as the papers mean them and not as their code has
them. The mask of missing words belongs to its own sentence, also in a batch, and the channel
attention has it as well, so that what pads a sentence changes nothing. The weights that the public
code makes and never uses are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from mien.engines.text_faces import PADDING, SMALLEST, stage_sizes

ABSENT = -1e4  # added to the scores of words that are missing; FP16 holds it


class TextEncoder(nn.Module):
    """The bi-directional LSTM of DAMSM: tokens int64 (n, length) to a sentence's codes.

    The words (n, width, length), each with what stands around it; the whole sentence (n, width);
    and which words are present (n, length). The steps are written out: they are plain nodes in
    every engine, and a backward direction that begins at the last word needs no lengths.
    """

    def __init__(self, vocabulary: int, embedding: int = 300, hidden: int = 128) -> None:
        super().__init__()
        self.vocabulary, self.width = vocabulary, 2 * hidden
        self.encoder = nn.Embedding(vocabulary, embedding)
        self.rnn = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.5)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count, length = tokens.shape
        present = (tokens != PADDING).float()
        chosen = self.encoder.weight.index_select(0, tokens.flatten())
        x = self.drop(chosen.view(count, length, -1))
        ahead = self._gates(x, "")
        back = self._gates(x, "_reverse")
        weight = torch.stack(
            [getattr(self.rnn, f"weight_hh_l0{direction}").T for direction in ("", "_reverse")]
        )
        outputs: list[torch.Tensor] = []
        for step in range(length):
            last = length - 1 - step
            there = torch.stack([present[:, step], present[:, last]])[..., None]
            gates = torch.stack([ahead[:, step], back[:, last]])
            if not outputs:  # from a state of zeros, which FP16 graphs cannot have as a node
                take, _, new, give = gates.chunk(4, 2)
                cell = there * take.sigmoid() * new.tanh()
                hidden = there * give.sigmoid() * cell.tanh()
            else:
                take, keep, new, give = (gates + hidden @ weight).chunk(4, 2)
                made = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
                cell = cell + there * (made - cell)
                hidden = hidden + there * (give.sigmoid() * made.tanh() - hidden)
            outputs.append(hidden * there)
        stacked = torch.stack(outputs, 3)  # direction, sentence, unit, step
        words = torch.cat([stacked[0], torch.stack([o[1] for o in reversed(outputs)], 2)], 1)
        return words, torch.cat([hidden[0], hidden[1]], 1), present

    def _gates(self, x: torch.Tensor, direction: str) -> torch.Tensor:
        """What the words bring into the gates of every step of a direction: (n, length, 4h)."""
        taken, *biases = (
            getattr(self.rnn, f"{name}_l0{direction}")
            for name in ("weight_ih", "bias_ih", "bias_hh")
        )
        brought: torch.Tensor = x @ taken.T + (biases[0] + biases[1])
        return brought


@dataclass(frozen=True, slots=True)
class GeneratorSpec:
    """Sizes of a generator, by the names of its papers.

    ngf: channels of each picture's features. nef: of words and sentence. condition, noise: of the
    augmented sentence and of z. residuals: blocks a stage. stages: 1 to 3, 64 to 256 pixels.
    has_channels: with channel attention, as ControlGAN and FaceCLIP; AttnGAN is without.
    is_single: only the last stage has a picture, AttnGAN's DCGAN form.
    """

    ngf: int = 32
    nef: int = 256
    condition: int = 100
    noise: int = 100
    residuals: int = 2
    stages: int = 3
    has_channels: bool = True
    is_single: bool = False

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Pixels a side of the pictures that it gives."""
        sizes = stage_sizes(self.stages)
        return sizes[-1:] if self.is_single else sizes


class GatedUnit(nn.Module):
    """The first half of the channels times the sigmoid of the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, gate = x.chunk(2, 1)
        return kept * gate.sigmoid()


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def up_block(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        conv3x3(inputs, outputs * 2),
        nn.BatchNorm2d(outputs * 2),
        GatedUnit(),
    )


class ResBlock(nn.Module):
    """A change of features, added to them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            conv3x3(channels, channels * 2),
            nn.BatchNorm2d(channels * 2),
            GatedUnit(),
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = x + self.block(x)
        return changed


class Augmentation(nn.Module):
    """The conditioning augmentation: a sentence to mean and logarithmic variance, (n, c) each."""

    def __init__(self, nef: int, condition: int) -> None:
        super().__init__()
        self.fc = nn.Linear(nef, condition * 4)
        self.gate = GatedUnit()

    def forward(self, sentence: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = self.gate(self.fc(sentence)).chunk(2, 1)
        return mean, log_variance


class FirstStage(nn.Module):
    """The augmented sentence and noise to features (n, ngf, 64, 64): the paper's FRU block 1."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.channels = spec.ngf * 16
        units = self.channels * 32
        self.fc = nn.Sequential(
            nn.Linear(spec.condition + spec.noise, units, bias=False),
            nn.BatchNorm1d(units),
            GatedUnit(),
        )
        self.upsample1 = up_block(spec.ngf * 16, spec.ngf * 8)
        self.upsample2 = up_block(spec.ngf * 8, spec.ngf * 4)
        self.upsample3 = up_block(spec.ngf * 4, spec.ngf * 2)
        self.upsample4 = up_block(spec.ngf * 2, spec.ngf)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        x = self.fc(code).view(-1, self.channels, 4, 4)
        made: torch.Tensor = self.upsample4(self.upsample3(self.upsample2(self.upsample1(x))))
        return made


class SpatialAttention(nn.Module):
    """For each place the words that it looks at, mixed: (n, ngf, H * W), and how much of each."""

    def __init__(self, ngf: int, nef: int) -> None:
        super().__init__()
        self.conv_context = nn.Conv2d(nef, ngf, 1, bias=False)

    def forward(
        self, features: torch.Tensor, words: torch.Tensor, absent: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """absent: (n, 1, length), what is added to the scores of each word."""
        brought = self.conv_context(words[..., None])[..., 0]
        scores = features.flatten(2).transpose(1, 2) @ brought + absent
        shares = scores.softmax(2).transpose(1, 2)
        return brought @ shares, shares


class ChannelAttention(nn.Module):
    """For each channel the words that it looks at, mixed: (n, ngf, H * W).

    Its weights belong to one size, `places` = H * W; by the public name, stage 2 has conv_context2
    and stage 3 conv_context3.
    """

    def __init__(self, nef: int, places: int, stage: int) -> None:
        super().__init__()
        self.name = f"conv_context{stage}"
        self.add_module(self.name, nn.Conv2d(nef, places, 1, bias=False))

    def forward(
        self, mixed: torch.Tensor, words: torch.Tensor, absent: torch.Tensor
    ) -> torch.Tensor:
        brought = self.get_submodule(self.name)(words[..., None])[..., 0]
        shares = (mixed @ brought + absent).softmax(2)
        looked: torch.Tensor = shares @ brought.transpose(1, 2)
        return looked


class NextStage(nn.Module):
    """Features and words to features of twice the size: attention, and the paper's FRU block."""

    def __init__(self, spec: GeneratorSpec, stage: int) -> None:
        super().__init__()
        side = SMALLEST << (stage - 2)
        self.att = SpatialAttention(spec.ngf, spec.nef)
        if spec.has_channels:
            self.channel_att = ChannelAttention(spec.nef, side * side, stage)
        self.has_channels = spec.has_channels
        width = spec.ngf * (3 if spec.has_channels else 2)
        self.residual = nn.Sequential(*(ResBlock(width) for _ in range(spec.residuals)))
        self.upsample = up_block(width, spec.ngf)

    def forward(
        self, features: torch.Tensor, words: torch.Tensor, absent: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count, channels, height, width = features.shape
        mixed, shares = self.att(features, words, absent)
        parts = [features, mixed.view(count, channels, height, width)]
        if self.has_channels:
            looked = self.channel_att(mixed, words, absent)
            parts.append(looked.view(count, channels, height, width))
        made = self.upsample(self.residual(torch.cat(parts, 1)))
        return made, shares.reshape(count, -1, height, width)


class ImageHead(nn.Module):
    """Features to a picture in [-1, 1]."""

    def __init__(self, ngf: int) -> None:
        super().__init__()
        self.img = nn.Sequential(conv3x3(ngf, 3), nn.Tanh())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        picture: torch.Tensor = self.img(features)
        return picture


class TextGenerator(nn.Module):
    """Noise and a sentence to pictures of 64, 128 and 256 pixels, and its attention maps.

    z (n, noise), eps (n, condition), words (n, nef, length), sentence (n, nef), present (n, length)
    to the pictures of `spec.image_sizes`, then an attention map (n, length, s, s) for each stage
    after the first. eps of zero takes the mean of the augmentation.
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.ca_net = Augmentation(spec.nef, spec.condition)
        self.h_net1 = FirstStage(spec)
        for stage in range(2, spec.stages + 1):
            self.add_module(f"h_net{stage}", NextStage(spec, stage))
        if spec.is_single:
            self.img_net = ImageHead(spec.ngf)
        else:
            for stage in range(1, spec.stages + 1):
                self.add_module(f"img_net{stage}", ImageHead(spec.ngf))

    def forward(
        self,
        z: torch.Tensor,
        eps: torch.Tensor,
        words: torch.Tensor,
        sentence: torch.Tensor,
        present: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        mean, log_variance = self.ca_net(sentence)
        code = torch.cat([mean + eps * (log_variance / 2).exp(), z], 1)
        return self.stages(code, words, present, self.spec.stages)

    def stages(
        self, code: torch.Tensor, words: torch.Tensor, present: torch.Tensor, count: int
    ) -> tuple[torch.Tensor, ...]:
        """Pictures and maps of the first `count` stages, from an augmented sentence with noise."""
        absent = ((1 - present) * ABSENT)[:, None]
        features = self.h_net1(code)
        pictures = [] if self.spec.is_single else [self.get_submodule("img_net1")(features)]
        maps = []
        for stage in range(2, count + 1):
            features, shares = self.get_submodule(f"h_net{stage}")(features, words, absent)
            maps.append(shares)
            if not self.spec.is_single:
                pictures.append(self.get_submodule(f"img_net{stage}")(features))
        if self.spec.is_single:
            pictures.append(self.img_net(features))
        return (*pictures, *maps)


def merged(generator: TextGenerator) -> TextGenerator:
    """The generator with the normalisation of its one linear layer merged into that layer."""
    linear, normalisation = generator.h_net1.fc[0], generator.h_net1.fc[1]
    if isinstance(normalisation, nn.BatchNorm1d):
        assert isinstance(linear, nn.Linear)
        generator.h_net1.fc[0] = fuse_linear_bn_eval(linear, normalisation)
        generator.h_net1.fc[1] = nn.Identity()
    return generator.eval()
