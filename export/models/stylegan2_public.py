"""StyleGAN2 of the public layout, for inference: mapping and synthesis in a form that exports.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2 and
figure 7; the layer order, the use of the codes and the constants are those of the public code.

The parameters have the names of `mien.export.models.stylegan2.Synthesis`, which trains; what
differs is prepared once, by `prepared`. Modulation scales the activations and demodulation the
result, so that kernels are constant and the batch is free. Kernels are divided by their largest
value and by the root of their fan-in, styles by their largest value: demodulation cancels both, and
what a convolution adds up stays within FP16. Demodulation, the image and its sums are FP32 always.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from mien.export.models.stylegan2 import BLUR, Synthesis, code_count

GAIN = math.sqrt(2)  # of the leaky ReLU
LEAK = 0.2
EPSILON = 1e-8
LEAST_STYLE = 1e-6  # a style is divided by its largest value, but by no less than this
MAPPING_RATE = 0.01  # of learning, which scales the mapping's weights
# Which rows and columns of a doubled picture a phase makes: 0 the even ones, 1 the odd ones. And
# the taps of the kernel that these see, in the order of what lies below them.
PHASES: Mapping[str, tuple[int, int]] = {
    "even_even": (0, 0),
    "even_odd": (0, 1),
    "odd_even": (1, 0),
    "odd_odd": (1, 1),
}
TAPS_OF = ([2, 0], [1])
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class SynthesisSpec:
    """The sizes of a synthesis network.

    channels: of each resolution, 4 pixels first. colours: of the image. noise: whether its layers
    add constant noise. clamp: the largest magnitude of activations, None without limit (NVIDIA's
    conv_clamp). half: whether the convolutions compute in FP16.
    """

    channels: tuple[int, ...]
    style_dim: int = 512
    colours: int = 3
    noise: bool = True
    clamp: float | None = None
    half: bool = False

    @property
    def size(self) -> int:
        """Pixels a side."""
        return 4 << (len(self.channels) - 1)

    @property
    def codes(self) -> int:
        """How many codes of W+ it takes."""
        return code_count(self.size)


class Doubled(nn.Module):
    """A transposed 3x3 convolution of stride 2, and a blur: (n, inputs, h, w) to twice as high.

    The convolution is written by its phases: an even row of the result sees two rows below it, an
    odd one sees one, and so do columns. These are four convolutions of together nine taps, and a
    pixel shuffle. ONNX Runtime has no fast transposed convolution: of StyleGAN2's 256 pixels its
    six took 0.38 of the time on one thread for 0.28 of the multiplications.
    """

    blur: torch.Tensor
    odd_odd: torch.Tensor

    def __init__(self, inputs: int, outputs: int, kind: torch.dtype) -> None:
        super().__init__()
        for name, (rows, columns) in PHASES.items():
            kernel = (outputs, inputs, len(TAPS_OF[rows]), len(TAPS_OF[columns]))
            self.register_buffer(name, torch.zeros(kernel, dtype=kind))
        self.register_buffer("blur", torch.zeros(outputs, 1, 4, 4, dtype=kind))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, outputs, 2 h, 2 w)."""
        padded = F.pad(x, (1, 1, 1, 1))
        phases = [
            F.conv2d(padded[:, :, rows:, columns:], self.get_buffer(name))
            for name, (rows, columns) in PHASES.items()
        ]
        # One row and one column more than the convolution has, of zeros: the blur's own padding.
        wide = F.pixel_shuffle(torch.stack(phases, 2).flatten(1, 2), 2)
        return F.conv2d(F.pad(wide, (1, 0, 1, 0)), self.blur, groups=self.blur.shape[0])


class TransposedDoubled(nn.Module):
    """What `Doubled` computes, by the transposed convolution that it was made of.

    PyTorch eager is faster with this: 1.03 against 1.22 seconds for 256 pixels on one thread.
    """

    def __init__(self, doubled: Doubled) -> None:
        super().__init__()
        kernel = doubled.odd_odd
        weight = kernel.new_zeros(kernel.shape[0], kernel.shape[1], 3, 3)
        for name, (rows, columns) in PHASES.items():
            down, across = torch.tensor(TAPS_OF[rows]), torch.tensor(TAPS_OF[columns])
            weight[:, :, down[:, None], across] = doubled.get_buffer(name)
        self.register_buffer("weight", weight.transpose(0, 1).contiguous())
        self.register_buffer("blur", doubled.blur)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, outputs, 2 h, 2 w)."""
        wide = F.conv_transpose2d(x, self.get_buffer("weight"), stride=2)
        blur = self.get_buffer("blur")
        return F.conv2d(wide, blur, padding=1, groups=len(blur))


def transposed(network: nn.Module) -> nn.Module:
    """A network with its doublings as transposed convolutions; it is changed."""
    for module in list(network.modules()):
        if isinstance(module, StyledConv) and isinstance(module.doubled, Doubled):
            module.doubled = TransposedDoubled(module.doubled)
    return network


def phase_kernels(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The kernels of `Doubled` from that of the convolution (outputs, inputs, 3, 3), by name."""
    return {
        name: weight[:, :, TAPS_OF[rows]][:, :, :, TAPS_OF[columns]].contiguous()
        for name, (rows, columns) in PHASES.items()
    }


class StyledConv(nn.Module):
    """A modulated 3x3 convolution, demodulated, with noise, bias and leaky ReLU.

    up: double the size, by a transposed convolution and a blur. size: of the result, in pixels.
    """

    weight: torch.Tensor
    power: torch.Tensor
    limit: torch.Tensor
    bias: torch.Tensor
    noise: torch.Tensor

    def __init__(
        self, inputs: int, outputs: int, spec: SynthesisSpec, *, size: int, up: bool = False
    ) -> None:
        super().__init__()
        self.clamp = spec.clamp
        kind = torch.float16 if spec.half else torch.float32
        self.doubled: nn.Module | None = Doubled(inputs, outputs, kind) if up else None
        if not up:
            self.register_buffer("weight", torch.zeros(outputs, inputs, 3, 3, dtype=kind))
        self.register_buffer("power", torch.zeros(inputs, outputs))
        self.register_buffer("limit", torch.zeros(outputs))
        self.register_buffer("bias", torch.zeros(outputs, 1, 1, dtype=kind))
        self.style = nn.Linear(spec.style_dim, inputs)
        self.has_noise = spec.noise
        if spec.noise:
            self.register_buffer("noise", torch.zeros(1, 1, size, size, dtype=kind))

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """x: (n or 1, inputs, h, w); code: float32 (n, style_dim). Gives (n, outputs, ...)."""
        style = self.style(code)
        largest = style.abs().amax(1, keepdim=True).clamp(min=LEAST_STYLE)
        style = style / largest
        # The published epsilon, in units of the kernel and the style as they are divided here.
        epsilon = self.limit / largest.square()
        scale = torch.rsqrt(style.square() @ self.power + epsilon) * GAIN
        x = x * style.to(x.dtype)[:, :, None, None]
        x = F.conv2d(x, self.weight, padding=1) if self.doubled is None else self.doubled(x)
        x = x * scale.to(x.dtype)[:, :, None, None] + self.bias
        if self.has_noise:
            x = x + self.noise
        x = F.leaky_relu(x, LEAK)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRgb(nn.Module):
    """A modulated 1x1 convolution to the image, without demodulation, in FP32."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, inputs: int, spec: SynthesisSpec) -> None:
        super().__init__()
        self.clamp = spec.clamp
        self.register_buffer("weight", torch.zeros(spec.colours, inputs, 1, 1))
        self.register_buffer("bias", torch.zeros(spec.colours))
        self.style = nn.Linear(spec.style_dim, inputs)

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """The image's part at this size: float32 (n, colours, h, w)."""
        style = self.style(code)
        x = F.conv2d(x.float() * style[:, :, None, None], self.weight, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class SynthesisNetwork(nn.Module):
    """Codes float32 (n, spec.codes, style_dim) to images (n, colours, size, size).

    Images are nominally in [-1, 1] and are not clamped.
    """

    constant: torch.Tensor
    upsample: torch.Tensor

    def __init__(self, spec: SynthesisSpec) -> None:
        super().__init__()
        self.spec = spec
        first = spec.channels[0]
        kind = torch.float16 if spec.half else torch.float32
        self.register_buffer("constant", torch.zeros(1, first, 4, 4, dtype=kind))
        self.convs = nn.ModuleList([StyledConv(first, first, spec, size=4)])
        self.images = nn.ModuleList([ToRgb(first, spec)])
        for level in range(1, len(spec.channels)):
            low, high = spec.channels[level - 1 : level + 1]
            size = 4 << level
            self.convs.append(StyledConv(low, high, spec, size=size, up=True))
            self.convs.append(StyledConv(high, high, spec, size=size))
            self.images.append(ToRgb(high, spec))
        self.register_buffer("upsample", torch.zeros(spec.colours, 1, 4, 4))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.images_of([codes[:, i] for i in range(self.spec.codes)])

    def images_of(self, codes: list[torch.Tensor]) -> torch.Tensor:
        """The images of one code (n, style_dim) for each layer."""
        x = self.convs[0](self.constant, codes[0])
        image: torch.Tensor = self.images[0](x, codes[1])
        for i in range(1, len(self.images)):
            x = self.convs[2 * i - 1](x, codes[2 * i - 1])
            x = self.convs[2 * i](x, codes[2 * i])
            image = F.conv_transpose2d(
                image, self.upsample, stride=2, padding=1, groups=self.spec.colours
            )
            image = image + self.images[i](x, codes[2 * i + 1])
        return image


class MappingNetwork(nn.Module):
    """Draws of a normal distribution to codes of W: z (n, z_dim) and psi (1,) to (n, style_dim).

    psi: how far from the average code, 1 without truncation (`average` is its centre).
    """

    average: torch.Tensor

    def __init__(self, layers: int, z_dim: int = 512, style_dim: int = 512) -> None:
        super().__init__()
        widths = [z_dim] + [style_dim] * layers
        self.z_dim, self.style_dim = z_dim, style_dim
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.register_buffer("average", torch.zeros(style_dim))

    def forward(self, z: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
        return self.average + psi * (self.mapped(z) - self.average)

    def mapped(self, z: torch.Tensor) -> torch.Tensor:
        """The codes without truncation."""
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + EPSILON)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LEAK) * GAIN
        return x


class ImageOfCode(nn.Module):
    """One code of W for all layers: w (n, style_dim) to images."""

    def __init__(self, synthesis: SynthesisNetwork) -> None:
        super().__init__()
        self.synthesis = synthesis

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return self.synthesis.images_of([w] * self.synthesis.spec.codes)


class ImageOfDraw(nn.Module):
    """The whole generator: z (n, z_dim) and psi (1,) to images."""

    def __init__(self, mapping: MappingNetwork, synthesis: SynthesisNetwork) -> None:
        super().__init__()
        self.mapping = mapping
        self.synthesis = synthesis

    def forward(self, z: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
        w = self.mapping(z, psi)
        return self.synthesis.images_of([w] * self.synthesis.spec.codes)


def prepared(state: State, spec: SynthesisSpec) -> dict[str, torch.Tensor]:
    """The state dict of a SynthesisNetwork from that of `mien.export.models.stylegan2.Synthesis`.

    state: with `convs.<i>.noise` (1, 1, s, s) beside it where `spec` has noise. Raises KeyError.
    """
    kind = torch.float16 if spec.half else torch.float32
    made = {"constant": state["constant"].to(kind), "upsample": _taps(spec.colours, 4.0)}
    for i in range(spec.codes - 1):
        made |= _prepared_conv(state, f"convs.{i}", spec, up=i % 2 == 1)
    for i in range(len(spec.channels)):
        name = f"images.{i}"
        weight = state[f"{name}.weight"]
        made[f"{name}.weight"] = weight.reshape(*weight.shape[:2], 1, 1)
        for key in ("bias", "style.weight", "style.bias"):
            made[f"{name}.{key}"] = state[f"{name}.{key}"]
    return made


def random_synthesis(spec: SynthesisSpec) -> SynthesisNetwork:
    """A network of weights of chance, to be timed; those of one that trains, before it does."""
    sides = [4 << level for level in range(len(spec.channels))]
    channels = dict(zip(sides, spec.channels, strict=True))
    trained = Synthesis(spec.size, channels, style_dim=spec.style_dim, colours=spec.colours)
    state = dict(trained.state_dict())
    for i in range(spec.codes - 1 if spec.noise else 0):
        side = sides[(i + 1) // 2]
        state[f"convs.{i}.noise"] = torch.randn(1, 1, side, side) / 10
    network = SynthesisNetwork(spec)
    network.load_state_dict(prepared(state, spec))
    return network.eval()


def _prepared_conv(
    state: State, name: str, spec: SynthesisSpec, *, up: bool
) -> dict[str, torch.Tensor]:
    kind = torch.float16 if spec.half else torch.float32
    weight = state[f"{name}.weight"].float()
    unit = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=LEAST_STYLE)
    unit = unit * math.sqrt(weight[0].numel())
    weight = (weight / unit).to(kind)
    made = {
        f"{name}.power": weight.float().square().sum((2, 3)).T.contiguous(),
        f"{name}.limit": EPSILON / unit.flatten().square(),
        f"{name}.bias": (state[f"{name}.bias"] * GAIN)[:, None, None].to(kind),
        f"{name}.style.weight": state[f"{name}.style.weight"],
        f"{name}.style.bias": state[f"{name}.style.bias"],
    }
    if spec.noise:
        made[f"{name}.noise"] = (state[f"{name}.noise"] * GAIN).to(kind)
    if not up:
        return made | {f"{name}.weight": weight}
    made[f"{name}.doubled.blur"] = _taps(weight.shape[0], 4.0).to(kind)
    kernels = phase_kernels(weight)
    return made | {f"{name}.doubled.{phase}": kernel for phase, kernel in kernels.items()}


def _taps(channels: int, gain: float) -> torch.Tensor:
    """The blur's kernel for each channel: (channels, 1, 4, 4), of sum `gain`."""
    taps = torch.tensor(BLUR)
    kernel = torch.outer(taps, taps)
    return (kernel / kernel.sum() * gain).expand(channels, 1, 4, 4).clone()
