"""The generators of the parts paper, rebuilt from the tensors of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from mien.engines.errors import ModelError
from mien.export.cyclegan import CycleGanGenerator, CycleGanSpec
from mien.export.loading import load_strictly, without
from mien.export.resnet import Shapes
from mien.export.stargan import Activation, StarGanGenerator, StarGanSpec

State = Mapping[str, torch.Tensor]

# Statistics that old files hold and whose users never used: the public code tests its generators
# without eval(), that is by each picture's own statistics.
RUNNING = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
STARGAN_BLOCK = re.compile(r"main\.(\d+)\.main\.0\.weight$")
CYCLEGAN_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.1\.weight$")
STARGAN_FIRST_BLOCK, CYCLEGAN_FIRST_BLOCK = 9, 10
AT_MOST_BLOCKS = 64


def is_stargan(shapes: Shapes) -> bool:
    """Whether the names are those of a StarGAN generator."""
    first = shapes.get("main.0.weight", ())
    return any(map(STARGAN_BLOCK.match, shapes)) or (len(first) == 4 and first[2:] == (7, 7))


def stargan_spec(shapes: Shapes, activation: Activation | None) -> StarGanSpec:
    """The sizes of a StarGAN generator. Raises KeyError for a tensor that is not there."""
    width, inputs = shapes["main.0.weight"][:2]
    blocks = _count(STARGAN_BLOCK, shapes, STARGAN_FIRST_BLOCK, "main.{}.main.0.weight")
    is_deconv = f"main.{STARGAN_FIRST_BLOCK + blocks}.weight" in shapes
    if inputs <= 3:
        raise ModelError(
            f"main.0.weight takes {inputs} channels, expected three and one for each label"
        )
    return StarGanSpec(inputs - 3, width, blocks, "deconv" if is_deconv else "bilinear", activation)


def build_stargan(state: State, where: str, activation: Activation | None) -> StarGanGenerator:
    """A StarGAN generator with the weights of a state dict. Raises ModelError, KeyError."""
    state = without(RUNNING, state)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    spec = stargan_spec(shapes, activation)
    return load_strictly(lambda: StarGanGenerator(spec), state, where)


def is_cyclegan(shapes: Shapes) -> bool:
    """Whether the names are those of a CycleGAN generator of residual blocks."""
    first = shapes.get("model.1.weight", ())
    return any(map(CYCLEGAN_BLOCK.match, shapes)) or (len(first) == 4 and first[2:] == (7, 7))


def cyclegan_spec(shapes: Shapes, activation: Activation | None) -> CycleGanSpec:
    """The sizes of a CycleGAN generator.

    Raises KeyError for a tensor that is not there, ModelError for batch normalisation.
    """
    width = shapes["model.1.weight"][0]
    affine = "model.2.weight" in shapes
    if affine and "model.1.bias" not in shapes:
        raise ModelError(
            "its normalisation is batch normalisation, whose statistics are those of other "
            "pictures; mien takes generators trained with --norm instance, the public default"
        )
    blocks = _count(CYCLEGAN_BLOCK, shapes, CYCLEGAN_FIRST_BLOCK, "model.{}.conv_block.1.weight")
    after = CYCLEGAN_FIRST_BLOCK + blocks
    return CycleGanSpec(
        ngf=width,
        blocks=blocks,
        upsampling="deconv" if f"model.{after}.weight" in shapes else "bilinear",
        affine=affine,
        # With dropout the second convolution stands there, without it a norm may.
        dropout=len(shapes.get(f"model.{CYCLEGAN_FIRST_BLOCK}.conv_block.6.weight", ())) == 4,
        activation=activation,
    )


def build_cyclegan(state: State, where: str, activation: Activation | None) -> CycleGanGenerator:
    """A CycleGAN generator with the weights of a state dict. Raises ModelError, KeyError."""
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    spec = cyclegan_spec(shapes, activation)
    return load_strictly(lambda: CycleGanGenerator(spec), without(RUNNING, state), where)


def _count(pattern: re.Pattern[str], shapes: Shapes, first: int, name: str) -> int:
    """How many blocks follow each other from index `first`."""
    found = {int(match.group(1)) for match in map(pattern.match, shapes) if match}
    count = 0
    while first + count in found and count < AT_MOST_BLOCKS:
        count += 1
    if count == 0:
        raise KeyError(name.format(first))
    return count
