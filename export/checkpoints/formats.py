"""What network a checkpoint holds, recognised by the names of its tensors, and rebuilt from them.

Known are the face parsers, the generators of the parts paper, and checkpoints that are often met
beside them, which are named and refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mien.engines.errors import ModelError, UsageError
from mien.engines.networks import GANS
from mien.export.checkpoints.diffusion import (
    build_cnn,
    build_paper_unet,
    build_small_unet,
    build_vae,
    is_cnn,
    is_paper_unet,
    is_small_unet,
    is_vae,
)
from mien.export.checkpoints.latent_formats import LATENT_FORMATS, LatentFormat, Prepared, prepare
from mien.export.checkpoints.loading import listed, load_strictly, without
from mien.export.checkpoints.reading import Checkpoint
from mien.export.checkpoints.text_formats import TEXT_FORMATS
from mien.export.models.gans import (
    Activation,
    CycleGanGenerator,
    CycleGanSpec,
    StarGanGenerator,
    StarGanSpec,
)
from mien.export.models.parsers import BiSeNet, BiSeNetSpec, DeepLab, DeepLabSpec
from mien.export.models.trunks import Shapes
from mien.export.options import Options

State = Mapping[str, torch.Tensor]

# Outputs that are for training only.
AUXILIARY = re.compile(r"^(aux_classifier\.|conv_out16\.|conv_out32\.)")


def is_deeplab(shapes: Shapes) -> bool:
    """Whether the names are those of torchvision's DeepLabV3."""
    return any(key.startswith("classifier.0.convs.") for key in shapes)


def build_deeplab(state: State, where: str) -> DeepLab:
    """A DeepLabV3 with the weights of a state dict. Raises ModelError, KeyError."""
    state = without(AUXILIARY, state)
    spec = DeepLabSpec.from_state(state)
    return load_strictly(lambda: DeepLab(spec), state, where)


def is_bisenet(shapes: Shapes) -> bool:
    """Whether the names are those of the public BiSeNet face parser."""
    return any(key.startswith(("cp.resnet.", "ffm.")) for key in shapes)


def build_bisenet(state: State, where: str) -> BiSeNet:
    """A BiSeNet with the weights of a state dict. Raises ModelError, KeyError."""
    state = without(AUXILIARY, state)
    spec = BiSeNetSpec.from_shapes({key: tuple(tensor.shape) for key, tensor in state.items()})
    return load_strictly(lambda: BiSeNet(spec), state, where)


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


NOT_YET = "which mien export does not take yet"


def other_format(shapes: Shapes) -> str | None:
    """What a checkpoint looks like that mien does not export, or None."""
    return next((words for fits, words in OTHERS if fits(shapes)), None)


def _begins(*starts: str) -> Callable[[Shapes], bool]:
    """Whether for each of `starts` a name begins with it."""
    return lambda shapes: all(any(key.startswith(start) for key in shapes) for start in starts)


def _sides(key: str, *sides: int | None) -> Callable[[Shapes], bool]:
    """Whether a tensor has these sides; None stands for any."""

    def fits(shapes: Shapes) -> bool:
        shape = shapes.get(key, ())
        return len(shape) == len(sides) and all(
            wanted in (None, side) for wanted, side in zip(sides, shape, strict=True)
        )

    return fits


# First match; the names inside a file that holds several networks begin with the network's.
OTHERS: tuple[tuple[Callable[[Shapes], bool], str], ...] = (
    (_begins("plfd_backbone."), f"a PFLD landmark network, {NOT_YET}"),
    (_begins("text_model."), f"a CLIP of Hugging Face, {NOT_YET}"),
    (_begins("vision_model."), f"a CLIP of Hugging Face, {NOT_YET}"),
    (
        _sides("main.0.weight", None, 3, 4, 4),
        "the discriminator of a StarGAN, which is for training only: give the file *-G.ckpt",
    ),
    (
        _sides("model.0.weight", None, None, 4, 4),
        "the discriminator of a CycleGAN, which is for training only: give the file *_net_G*.pth",
    ),
    (_begins("model.model."), "the U-Net of pix2pix; train with --netG resnet_9blocks"),
    (_begins("backbone.", "classifier.cbr."), "the LR-ASPP of torchvision"),
    (_begins("backbone.", "classifier.0.weight"), "the FCN of torchvision"),
    (_sides("fc.weight", 40, None), f"a regressor of 40 attributes, {NOT_YET}"),
    (_begins("layer1.0.conv1.", "fc."), "a ResNet classifier"),
    (_begins("stem.0.", "body.0.path."), "the emotion classifier of mien.training emotions"),
)


Kind = Literal["stargan", "cyclegan", "face_parser", "diffusion"]


@dataclass(frozen=True, slots=True)
class Format:
    """A form of checkpoint that mien exports.

    name: for the metadata. words: for people. kind: which networks it may become. fits: tells it by
    names and shapes. build: makes the module from state dict, a beginning for messages, and the
    activation asked for.
    """

    name: str
    words: str
    kind: Kind
    fits: Callable[[Shapes], bool]
    build: Callable[..., nn.Module]


FORMATS = (
    Format("stargan", "a StarGAN generator", "stargan", is_stargan, build_stargan),
    Format("cyclegan", "a CycleGAN generator", "cyclegan", is_cyclegan, build_cyclegan),
    Format("deeplabv3", "a DeepLabV3 of torchvision", "face_parser", is_deeplab, build_deeplab),
    Format("bisenet", "a BiSeNet face parser", "face_parser", is_bisenet, build_bisenet),
    Format(
        "paper_unet",
        "the UNet of the diffusion paper",
        "diffusion",
        is_paper_unet,
        build_paper_unet,
    ),
    Format("small_unet", "a diffusion UNet of mien", "diffusion", is_small_unet, build_small_unet),
    Format("diffusion_vae", "the VAE of the diffusion paper", "diffusion", is_vae, build_vae),
    Format(
        "diffusion_cnn", "the classifier of the diffusion paper", "diffusion", is_cnn, build_cnn
    ),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A network read from a checkpoint: its form and its module, ready to be exported.

    prepared: what is declared of a network of the latent papers, None of any other.
    """

    format: Format | LatentFormat
    module: nn.Module
    prepared: Prepared | None = None


def recognise(
    checkpoint: Checkpoint,
    activation: Activation | None = None,
    options: Options | None = None,
) -> Source:
    """The network in a checkpoint.

    activation: of a generator's hidden layers, where it is not the one its form has by default.
    options: of the export, which choose among several networks in one file.

    Raises ModelError for another network, and for one that is not whole.
    """
    shapes = checkpoint.shapes
    every: tuple[Format | LatentFormat, ...] = (*FORMATS, *LATENT_FORMATS, *TEXT_FORMATS)
    form = next((form for form in every if form.fits(shapes)), None)
    if form is None:
        raise ModelError(_stranger(checkpoint))
    where = f"{checkpoint.path} looks like {form.words}"
    try:
        if isinstance(form, LatentFormat):
            prepared = prepare(form, checkpoint, options or Options(checkpoint.path), where)
            return Source(form, prepared.module, prepared)
        given = (activation,) if form.kind in GANS else ()
        return Source(form, form.build(checkpoint.state, where, *given))
    except UsageError:
        raise
    except KeyError as error:
        raise ModelError(f"{where}, but it lacks {error.args[0]}; is the file whole?") from error
    except ModelError as error:
        told = str(error)
        raise ModelError(told if told.startswith(where) else f"{where}, but {told}") from error
    except Exception as error:  # of torch, which may stumble over any size that a file states
        raise ModelError(f"{where}, but its first tensors have other shapes") from error


def _stranger(checkpoint: Checkpoint) -> str:
    """What to say about a checkpoint that is none of FORMATS."""
    every: tuple[Format | LatentFormat, ...] = (*FORMATS, *LATENT_FORMATS, *TEXT_FORMATS)
    takes = ", ".join(form.words for form in every)
    known = other_format(checkpoint.shapes)
    if known is not None:
        return f"{checkpoint.path} looks like {known}; mien export takes {takes}"
    return (
        f"{checkpoint.path} is no network that mien export knows (it has "
        f"{listed(list(checkpoint.state))}); it takes {takes}"
    )
