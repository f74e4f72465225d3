"""StyleGAN2 generators read from the names of rosinality's PyTorch code.

These are also the names inside the files of e4e, pSp and StyleCLIP (under `decoder.`), and those
that `mien.export.checkpoints.nvidia` gives to NVIDIA's own. Source of the names, the scales that
the code applies when it runs and the defaults: github.com/rosinality/stylegan2-pytorch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from mien.engines.errors import ModelError
from mien.export.checkpoints.loading import check_names, listed, load_strictly
from mien.export.checkpoints.reading import Checkpoint
from mien.export.models.stylegan2 import BLUR
from mien.export.models.stylegan2_public import (
    MAPPING_RATE,
    MappingNetwork,
    SynthesisNetwork,
    SynthesisSpec,
    prepared,
)
from mien.export.models.trunks import Shapes

State = Mapping[str, torch.Tensor]
Noise = Literal["stored", "zero", "seeded"]

PREFIXES = ("g_ema.", "decoder.", "generator.", "", "g.")  # best first: an average, then no more
FIRST = "to_rgb1.conv.weight"
BUFFER = re.compile(r"^(noises\.noise_\d+|.*\.kernel)$")  # given or not, none is required
LEVELS = 9  # of the largest, 1024 pixels
MOST_MAPPING = 32  # layers; the published networks have 2 or 8
DRAWS, SEED = 4096, 0  # of the mapping, for an average that a file does not hold
AVERAGE = "latent_avg"
CLAMP = "conv_clamp"


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator's weights by public names, without prefix, and what is known beside them.

    noises: of each layer, those that the file holds. average: of W, (style_dim,), or None.
    clamp: of activations, or None.
    """

    state: State
    noises: Mapping[int, torch.Tensor]
    average: torch.Tensor | None
    clamp: float | None
    where: str

    @property
    def spec(self) -> SynthesisSpec:
        """The sizes of the synthesis network. Raises KeyError for a tensor that is not there."""
        levels = 1
        while levels < LEVELS and f"to_rgbs.{levels - 1}.conv.weight" in self.state:
            levels += 1
        first = self.state["conv1.conv.weight"].shape
        highs = [
            self.state[f"convs.{2 * level}.conv.weight"].shape[1] for level in range(levels - 1)
        ]
        return SynthesisSpec(
            channels=(first[1], *highs),
            style_dim=self.state["conv1.conv.modulation.weight"].shape[1],
            colours=self.state[FIRST].shape[1],
            clamp=self.clamp,
        )


def is_stylegan2(shapes: Shapes) -> bool:
    """Whether the names are those of a StyleGAN2 generator, alone or in a training checkpoint."""
    starts = ("g_ema.", "to_rgb1.conv.", "to_rgbs.", "g.to_rgb1.")
    return any(key.startswith(starts) for key in shapes)


def generator_of(checkpoint: Checkpoint, where: str) -> Generator:
    """The generator in a checkpoint. Raises ModelError, KeyError where it is not whole."""
    prefix = next((p for p in PREFIXES if f"{p}{FIRST}" in checkpoint.state), None)
    if prefix is None:
        found = listed(list(checkpoint.state))
        raise ModelError(f"{where}, but it lacks {FIRST} of a StyleGAN2 (it has {found})")
    own = {
        key.removeprefix(prefix): tensor
        for key, tensor in checkpoint.state.items()
        if key.startswith(prefix) and (prefix or key != AVERAGE)
    }
    buffers = {key: own.pop(key) for key in list(own) if BUFFER.match(key)}
    _check_kernels(buffers, where)
    clamp = float(checkpoint.facts[CLAMP]) if CLAMP in checkpoint.facts else None
    generator = Generator(own, _noises(buffers), _average(checkpoint.state, where), clamp, where)
    with torch.device("meta"):
        check_names(own, _needed(generator.spec, _mapping_layers(own), own), where)
    return generator


def synthesis_of(
    generator: Generator, noise: Noise | None = None, *, half: bool = False
) -> tuple[SynthesisNetwork, Noise]:
    """The synthesis network, and which noise it has.

    noise: `stored` in the file, `zero`, or `seeded`: drawn with SEED. None takes what is stored,
    zero where there is nothing. half: convolve in FP16. Raises ModelError.
    """
    spec = replace(generator.spec, half=half)
    chosen: Noise = noise or ("stored" if generator.noises else "zero")
    spec = replace(spec, noise=chosen != "zero")
    own = _synthesis_state(generator.state, spec)
    if spec.noise:
        for index, image in enumerate(_noise_images(generator, spec, chosen)):
            strength = generator.state[_conv_name(index) + ".noise.weight"]
            own[f"convs.{index}.noise"] = image * strength
    return load_strictly(
        lambda: SynthesisNetwork(spec), prepared(own, spec), generator.where
    ), chosen


def mapping_of(generator: Generator) -> tuple[MappingNetwork, str]:
    """The mapping network, and where its average is from: the file, or draws of its own."""
    state = generator.state
    own: dict[str, torch.Tensor] = {}
    count = _mapping_layers(state)
    for index in range(count):
        weight = state[f"style.{index + 1}.weight"]
        own[f"layers.{index}.weight"] = weight * (MAPPING_RATE / math.sqrt(weight.shape[1]))
        own[f"layers.{index}.bias"] = state[f"style.{index + 1}.bias"] * MAPPING_RATE
    z_dim, style_dim = own["layers.0.weight"].shape[1], own[f"layers.{count - 1}.weight"].shape[0]
    own["average"] = torch.zeros(style_dim) if generator.average is None else generator.average
    made = load_strictly(lambda: MappingNetwork(count, z_dim, style_dim), own, generator.where)
    if generator.average is not None:
        return made, "stored"
    with torch.inference_mode():
        draws = torch.randn(DRAWS, z_dim, generator=torch.Generator().manual_seed(SEED))
        average = made.mapped(draws).mean(0)
    made.average = average.clone()
    return made, f"mean of {DRAWS} draws, seed {SEED}"


def _synthesis_state(state: State, spec: SynthesisSpec) -> dict[str, torch.Tensor]:
    """The state by the names of the networks here, with the scales of the code in the weights."""
    own = {"constant": state["input.input"]}
    for index in range(spec.codes - 1):
        name, weight = _conv_name(index), state[_conv_name(index) + ".conv.weight"][0]
        own[f"convs.{index}.weight"] = weight / math.sqrt(weight[0].numel())
        own[f"convs.{index}.bias"] = state[f"{name}.activate.bias"]
        own |= _style(state, f"{name}.conv.modulation", f"convs.{index}.style")
    for index in range(len(spec.channels)):
        name = "to_rgb1" if index == 0 else f"to_rgbs.{index - 1}"
        weight = state[f"{name}.conv.weight"][0]
        own[f"images.{index}.weight"] = weight / math.sqrt(weight[0].numel())
        own[f"images.{index}.bias"] = state[f"{name}.bias"].flatten()
        own |= _style(state, f"{name}.conv.modulation", f"images.{index}.style")
    return own


def _style(state: State, name: str, own: str) -> State:
    weight = state[f"{name}.weight"]
    return {
        f"{own}.weight": weight / math.sqrt(weight.shape[1]),
        f"{own}.bias": state[f"{name}.bias"],
    }


def _noise_images(generator: Generator, spec: SynthesisSpec, noise: Noise) -> list[torch.Tensor]:
    """The noise of each layer, (1, 1, s, s). Raises ModelError where what is stored is not all."""
    sizes = [4 << ((index + 1) // 2) for index in range(spec.codes - 1)]
    if noise == "seeded":
        chance = torch.Generator().manual_seed(SEED)
        return [torch.randn(1, 1, size, size, generator=chance) for size in sizes]
    for index, size in enumerate(sizes):
        found = generator.noises.get(index)
        if found is None or found.shape != (1, 1, size, size):
            held = "none" if found is None else str(tuple(found.shape))
            raise ModelError(
                f"{generator.where}, but of the noise of layer {index}, (1, 1, {size}, {size}), it "
                f"has {held}; add --noise zero or --noise seeded"
            )
    return [generator.noises[index] for index in range(len(sizes))]


def _conv_name(index: int) -> str:
    return "conv1" if index == 0 else f"convs.{index - 1}"


def _mapping_layers(state: State) -> int:
    count = 0
    while f"style.{count + 1}.weight" in state and count < MOST_MAPPING:
        count += 1
    if count == 0:
        raise KeyError("style.1.weight")
    return count


def _needed(spec: SynthesisSpec, layers: int, state: State) -> dict[str, torch.Tensor]:
    """Tensors of the names and shapes of a public generator; to be made on `meta`."""
    style = spec.style_dim
    first, channels = spec.channels[0], spec.channels
    z_dim = state["style.1.weight"].shape[-1]
    shapes: dict[str, tuple[int, ...]] = {"input.input": (1, first, 4, 4)}
    for index in range(layers):
        shapes[f"style.{index + 1}.weight"] = (style, z_dim if index == 0 else style)
        shapes[f"style.{index + 1}.bias"] = (style,)
    for index in range(spec.codes - 1):
        name, level = _conv_name(index), (index + 1) // 2
        inputs = channels[level - 1] if index % 2 else channels[level]
        shapes[f"{name}.conv.weight"] = (1, channels[level], inputs, 3, 3)
        shapes[f"{name}.activate.bias"] = (channels[level],)
        shapes[f"{name}.noise.weight"] = (1,)
        shapes |= _style_shapes(f"{name}.conv.modulation", inputs, style)
    for level, inputs in enumerate(channels):
        name = "to_rgb1" if level == 0 else f"to_rgbs.{level - 1}"
        shapes[f"{name}.conv.weight"] = (1, spec.colours, inputs, 1, 1)
        shapes[f"{name}.bias"] = (1, spec.colours, 1, 1)
        shapes |= _style_shapes(f"{name}.conv.modulation", inputs, style)
    return {key: torch.empty(shape) for key, shape in shapes.items()}


def _style_shapes(name: str, inputs: int, style: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (inputs, style), f"{name}.bias": (inputs,)}


def _noises(buffers: State) -> dict[int, torch.Tensor]:
    return {
        int(key.rpartition("_")[2]): tensor
        for key, tensor in buffers.items()
        if key.startswith("noises.")
    }


def _check_kernels(buffers: State, where: str) -> None:
    """Check that the blurs that a file holds are those that all public generators have."""
    taps = torch.tensor(BLUR)
    usual = torch.outer(taps, taps) / 16  # of sum 4: they double the size
    for key, tensor in buffers.items():
        if key.endswith(".kernel") and (
            tensor.shape != usual.shape or not torch.allclose(tensor, usual, atol=1e-4)
        ):
            raise ModelError(
                f"{where}, but {key} is not the blur of the published generators, which is the "
                "only one mien exports"
            )


def _average(state: State, where: str) -> torch.Tensor | None:
    """The average of W, (style_dim,): stored once, or once for each layer. Raises ModelError."""
    found = state.get(AVERAGE)
    if found is None:
        return None
    rows = found.reshape(-1, found.shape[-1]) if found.dim() in (1, 2, 3) else found
    if rows.dim() != 2 or len(rows) == 0:
        raise ModelError(f"{where}, but its {AVERAGE} is {tuple(found.shape)}")
    return rows.mean(0)
