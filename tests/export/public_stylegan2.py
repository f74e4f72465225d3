"""StyleGAN2 by the paper's text, slowly, on weights by the public names, and such weights."""

from __future__ import annotations

import itertools
import math

import torch
from torch.nn import functional as F

State = dict[str, torch.Tensor]
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])


def public_channels(size: int, multiplier: float) -> list[int]:
    """The channels of each resolution from 4 pixels to `size`."""
    table = {4: 512, 8: 512, 16: 512, 32: 512}
    table |= {2 ** (6 + i): int((256 >> i) * multiplier) for i in range(5)}
    return [table[2**level] for level in range(2, int(math.log2(size)) + 1)]


def public_state(channels: list[int], *, style: int = 512, layers: int = 8, seed: int = 0) -> State:
    """Weights as the public code draws them, with noise and biases that are not zero."""
    chance = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance)

    state = {"input.input": draw(1, channels[0], 4, 4)}
    for i in range(1, layers + 1):
        state |= {f"style.{i}.weight": draw(style, style) * 100, f"style.{i}.bias": draw(style)}

    def modulated(name: str, inputs: int, outputs: int, kernel: int) -> None:
        state[f"{name}.weight"] = draw(1, outputs, inputs, kernel, kernel)
        state[f"{name}.modulation.weight"] = draw(inputs, style)
        state[f"{name}.modulation.bias"] = torch.ones(inputs)

    def layer(name: str, inputs: int, outputs: int) -> None:
        modulated(f"{name}.conv", inputs, outputs, 3)
        state[f"{name}.noise.weight"] = draw(1) * 0.2
        state[f"{name}.activate.bias"] = draw(outputs) * 0.2

    def picture(name: str, inputs: int) -> None:
        modulated(f"{name}.conv", inputs, 3, 1)
        state[f"{name}.bias"] = draw(1, 3, 1, 1) * 0.1

    layer("conv1", channels[0], channels[0])
    picture("to_rgb1", channels[0])
    state["noises.noise_0"] = draw(1, 1, 4, 4)
    for level, (low, high) in enumerate(itertools.pairwise(channels)):
        layer(f"convs.{2 * level}", low, high)
        layer(f"convs.{2 * level + 1}", high, high)
        picture(f"to_rgbs.{level}", high)
        size = 8 << level
        state[f"convs.{2 * level}.conv.blur.kernel"] = torch.outer(TAPS, TAPS) / 16
        state[f"to_rgbs.{level}.upsample.kernel"] = torch.outer(TAPS, TAPS) / 16
        for k in (1, 2):
            state[f"noises.noise_{2 * level + k}"] = draw(1, 1, size, size)
    return state


def upfirdn(x: torch.Tensor, up: int, before: int, after: int) -> torch.Tensor:
    """Zeros put between pixels, padding, and a filter of sum up**2, by their definitions."""
    n, c, h, w = x.shape
    wide = torch.zeros(n, c, h * up, w * up)
    wide[:, :, ::up, ::up] = x
    wide = F.pad(wide, (before, after, before, after))
    taps = TAPS / TAPS.sum() * up
    kernel = torch.outer(taps, taps)
    result = torch.zeros(n, c, wide.shape[2] - 3, wide.shape[3] - 3)
    for i in range(4):
        for j in range(4):
            rows, columns = result.shape[2:]
            result += kernel[3 - i, 3 - j] * wide[:, :, i : i + rows, j : j + columns]
    return result


def linear(state: State, name: str, x: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
    """The public code's linear layer, which scales when it runs."""
    weight = state[f"{name}.weight"]
    return x @ (weight * rate / math.sqrt(weight.shape[1])).T + state[f"{name}.bias"] * rate


def modulated(
    state: State, name: str, x: torch.Tensor, code: torch.Tensor, *, up: bool, demodulate: bool
) -> torch.Tensor:
    """Weights modulated for each sample, in one convolution with a group for each."""
    weight = state[f"{name}.weight"]
    weight = weight / math.sqrt(weight[0, 0].numel())
    style = linear(state, f"{name}.modulation", code)
    weight = weight * style[:, None, :, None, None]
    if demodulate:
        weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    n, outputs, inputs, k, _ = weight.shape
    x = x.reshape(1, n * inputs, *x.shape[2:])
    if up:
        kernel = weight.transpose(1, 2).reshape(n * inputs, outputs, k, k)
        x = F.conv_transpose2d(x, kernel, stride=2, groups=n)
        x = x.view(n, outputs, *x.shape[2:])
        x = F.pad(x, (0, 0, 0, 0))
        return upfirdn(x, 1, 1, 1) * 4  # the filter of a doubled picture has the sum 4
    x = F.conv2d(x, weight.view(n * outputs, inputs, k, k), padding=k // 2, groups=n)
    return x.view(n, outputs, *x.shape[2:])


def slow_mapping(state: State, z: torch.Tensor) -> torch.Tensor:
    """Draws to codes of W."""
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    count = sum(key.startswith("style.") and key.endswith(".weight") for key in state)
    for i in range(1, count + 1):
        x = F.leaky_relu(linear(state, f"style.{i}", x, 0.01), 0.2) * math.sqrt(2)
    return x


def code_layers(state: State) -> int:
    """How many codes a generator takes."""
    return 1 + sum(key.startswith("noises.") for key in state)


def slow_images(
    state: State, codes: torch.Tensor, *, noise: bool = True, levels: int = 99
) -> torch.Tensor:
    """Codes (n, layers, style) to images; levels: how often the size is doubled, at most."""

    def layer(name: str, k: int, x: torch.Tensor, *, up: bool) -> torch.Tensor:
        x = modulated(state, f"{name}.conv", x, codes[:, k], up=up, demodulate=True)
        if noise:
            x = x + state[f"{name}.noise.weight"] * state[f"noises.noise_{k}"]
        x = x + state[f"{name}.activate.bias"][:, None, None]
        return F.leaky_relu(x, 0.2) * math.sqrt(2)

    def picture(name: str, k: int, x: torch.Tensor) -> torch.Tensor:
        image = modulated(state, f"{name}.conv", x, codes[:, k], up=False, demodulate=False)
        return image + state[f"{name}.bias"]

    x = layer("conv1", 0, state["input.input"].repeat(len(codes), 1, 1, 1), up=False)
    image = picture("to_rgb1", 1, x)
    for level in range(min(levels, codes.shape[1] // 2 - 1)):
        x = layer(f"convs.{2 * level}", 2 * level + 1, x, up=True)
        x = layer(f"convs.{2 * level + 1}", 2 * level + 2, x, up=False)
        image = upfirdn(image, 2, 2, 1) + picture(f"to_rgbs.{level}", 2 * level + 3, x)
    return image


def trained_like(state: State, seed: int = 0) -> State:
    """Weights whose sizes spread as they do after long training, on images in [-1, 1].

    Kernels and styles differ between channels by an order of magnitude and more, with outliers, so
    that a convolution that adds them up as they are leaves FP16.
    """
    chance = torch.Generator().manual_seed(seed)
    made = dict(state)
    for key, tensor in state.items():
        if key.endswith(".conv.weight") and "rgb" not in key:
            spread = torch.randn(tensor.shape[1], 1, 1, 1, generator=chance)
            made[key] = tensor * torch.exp(0.7 * spread) * 3
        elif key.endswith("modulation.weight"):
            spread = torch.randn(tensor.shape[0], 1, generator=chance)
            made[key] = tensor * torch.exp(spread)
            made[key][:: max(1, len(tensor) // 4)] *= 20
        elif key.endswith("activate.bias"):
            made[key] = tensor * 5
    with torch.inference_mode():
        layers, style = code_layers(made), made["conv1.conv.modulation.weight"].shape[1]
        small = slow_images(made, torch.randn(1, layers, style, generator=chance), levels=3)
    for key in [key for key in made if "rgb" in key and not key.endswith("kernel")]:
        if key.endswith((".conv.weight", ".bias")) and "modulation" not in key:
            made[key] = made[key] / (4 * small.std())
    return made


def psnr_db(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The peak signal-to-noise ratio of images whose values span [-1, 1]."""
    return (10 * torch.log10(4 / (found - expected).square().mean())).item()
