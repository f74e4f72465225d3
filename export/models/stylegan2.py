"""StyleGAN2's synthesis network, in a form that trains on a processor and exports with any batch.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), section 2 and
figure 7; the layer order and the use of the codes are those of the public implementations.

Two things are written differently and compute the same. Modulation scales the activations and
demodulation the result, so one constant kernel serves a whole batch (a grouped convolution cannot
be exported with a dynamic batch). The upsampling convolution and its blur are one 3x3 convolution
to four phases and a pixel shuffle: a transposed convolution's bfloat16 gradient and the blur cost
more than twice as much here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

BLUR = (1.0, 3.0, 3.0, 1.0)
# Channels of each resolution of mien's own generator, 1/8 of the public ones: 128 pixels and luma
# want no more, and it has to train on two cores.
NARROW: Mapping[int, int] = {4: 256, 8: 192, 16: 128, 32: 64, 64: 32, 128: 24}


def public_channels(multiplier: int = 2) -> dict[int, int]:
    """The channels of each resolution in the public generators."""
    wide = {4: 512, 8: 512, 16: 512, 32: 512}
    return wide | {2 ** (6 + i): (256 >> i) * multiplier for i in range(5)}


def code_count(size: int) -> int:
    """How many codes of W+ a generator of `size` pixels takes."""
    return 2 * int(math.log2(size)) - 2


def phase_matrix() -> torch.Tensor:
    """The map from a 3x3 kernel to the four 3x3 kernels of upsampling and blur together: (9, 36).

    A transposed convolution of stride 2 followed by the [1, 3, 3, 1] blur is one transposed
    convolution with a 6x6 kernel. Each of the four output phases sees nine of its 36 taps.
    """
    taps = torch.tensor(BLUR)
    blur = torch.outer(taps, taps)
    blur = blur / blur.sum() * 4
    matrix = torch.zeros(9, 4, 9)
    for i in range(9):
        kernel = torch.zeros(1, 1, 3, 3)
        kernel.view(-1)[i] = 1
        # The full convolution of the kernel with the blur, as the transposed convolution lays it.
        wide = F.conv_transpose2d(kernel, blur[None, None])[0, 0]
        for phase in range(4):
            py, px = divmod(phase, 2)
            # Output 2y + py takes input y + d through tap 2 + py - 2d, d in -1, 0, 1.
            for k in range(9):
                dy, dx = k // 3 - 1, k % 3 - 1
                ty, tx = 2 + py - 2 * dy, 2 + px - 2 * dx
                if 0 <= ty < 6 and 0 <= tx < 6:
                    matrix[i, phase, k] = wide[ty, tx]
    return matrix.view(9, 36)


class Modulated(nn.Module):
    """A modulated and demodulated 3x3 convolution, bias, and leaky ReLU times the root of two.

    up: double the size. x: (n, inputs, h, w); code: (n, style_dim).
    """

    phases: torch.Tensor

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.up = up
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) / math.sqrt(inputs * 9))
        self.style = nn.Linear(style_dim, inputs)
        nn.init.normal_(self.style.weight, std=1 / math.sqrt(style_dim))
        nn.init.ones_(self.style.bias)
        self.bias = nn.Parameter(torch.zeros(outputs))
        if up:
            self.register_buffer("phases", phase_matrix(), persistent=False)

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """(n, outputs, h, w), or twice as high and wide."""
        with torch.autocast(x.device.type, enabled=False):
            style = self.style(code.float())
            power = self.weight.float().square().sum((2, 3))
            scale = torch.rsqrt(style.square() @ power.T + 1e-8) * math.sqrt(2)
        y = F.conv2d(x * style[:, :, None, None].to(x.dtype), self.kernel(), padding=1)
        if self.up:
            y = F.pixel_shuffle(y, 2)
        bias = (self.bias * math.sqrt(2))[:, None, None].to(y.dtype)
        return F.leaky_relu(y * scale[:, :, None, None].to(y.dtype) + bias, 0.2)

    def kernel(self) -> torch.Tensor:
        """The constant kernel of the convolution: (outputs or four times as many, inputs, 3, 3)."""
        if not self.up:
            return self.weight
        outputs, inputs = self.weight.shape[:2]
        phased = (self.weight.flatten(2) @ self.phases).view(outputs, inputs, 4, 9)
        return phased.transpose(1, 2).reshape(outputs * 4, inputs, 3, 3)


class ToImage(nn.Module):
    """A modulated 1x1 convolution to the image, without demodulation, in single precision."""

    def __init__(self, inputs: int, outputs: int, style_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.style = nn.Linear(style_dim, inputs)
        nn.init.normal_(self.style.weight, std=1 / math.sqrt(style_dim))
        nn.init.ones_(self.style.bias)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """The image's part at this size: (n, outputs, h, w)."""
        with torch.autocast(x.device.type, enabled=False):
            style = self.style(code.float())
            kernel = self.weight[:, :, None, None]
            return F.conv2d(x.float() * style[:, :, None, None], kernel, self.bias)


class Synthesis(nn.Module):
    """Codes to an image of `size` pixels; nominally in [-1, 1], not clamped."""

    constant: nn.Parameter
    upsample: torch.Tensor

    def __init__(
        self,
        size: int,
        channels: Mapping[int, int] = NARROW,
        *,
        style_dim: int = 512,
        colours: int = 1,
    ) -> None:
        super().__init__()
        self.size = size
        self.constant = nn.Parameter(torch.randn(1, channels[4], 4, 4))
        self.convs = nn.ModuleList([Modulated(channels[4], channels[4], style_dim)])
        self.images = nn.ModuleList([ToImage(channels[4], colours, style_dim)])
        for level in range(3, int(math.log2(size)) + 1):
            low, high = channels[2 ** (level - 1)], channels[2**level]
            self.convs.append(Modulated(low, high, style_dim, up=True))
            self.convs.append(Modulated(high, high, style_dim))
            self.images.append(ToImage(high, colours, style_dim))
        taps = torch.tensor(BLUR) / 4
        kernel = torch.outer(taps, taps).expand(colours, 1, 4, 4).clone()
        self.register_buffer("upsample", kernel, persistent=False)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """codes: float32 (n, code_count(size), style_dim) to images (n, colours, size, size)."""
        x = self.constant.expand(len(codes), -1, -1, -1)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.bfloat16)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, codes[:, 0])
        image: torch.Tensor = self.images[0](x, codes[:, 1])
        for i in range(1, len(self.images)):
            x = self.convs[2 * i - 1](x, codes[:, 2 * i - 1])
            x = self.convs[2 * i](x, codes[:, 2 * i])
            groups = self.upsample.shape[0]
            image = F.conv_transpose2d(image, self.upsample, stride=2, padding=1, groups=groups)
            image = image + self.images[i](x, codes[:, 2 * i + 1])
        return image
