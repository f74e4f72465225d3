"""What network a checkpoint holds, told by the names of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from mien.engines.errors import ModelError
from mien.export.checkpoint import Checkpoint
from mien.export.generator_formats import (
    build_cyclegan,
    build_stargan,
    is_cyclegan,
    is_stargan,
)
from mien.export.loading import listed
from mien.export.other_formats import other_format
from mien.export.parser_formats import build_bisenet, build_deeplab, is_bisenet, is_deeplab
from mien.export.resnet import Shapes
from mien.export.stargan import Activation

Kind = Literal["stargan", "cyclegan", "face_parser"]


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
)


@dataclass(frozen=True, slots=True)
class Source:
    """A network read from a checkpoint: its form and its module, ready to be exported."""

    format: Format
    module: nn.Module


def recognise(checkpoint: Checkpoint, activation: Activation | None = None) -> Source:
    """The network in a checkpoint.

    activation: of a generator's hidden layers, where it is not the one its form has by default.

    Raises ModelError for another network, and for one that is not whole.
    """
    shapes = checkpoint.shapes
    form = next((form for form in FORMATS if form.fits(shapes)), None)
    if form is None:
        raise ModelError(_stranger(checkpoint))
    where = f"{checkpoint.path} looks like {form.words}"
    options = () if form.kind == "face_parser" else (activation,)
    try:
        return Source(form, form.build(checkpoint.state, where, *options))
    except KeyError as error:
        raise ModelError(f"{where}, but it lacks {error.args[0]}; is the file whole?") from error
    except ModelError as error:
        told = str(error)
        raise ModelError(told if told.startswith(where) else f"{where}, but {told}") from error
    except Exception as error:  # of torch, which may stumble over any size that a file states
        raise ModelError(f"{where}, but its first tensors have other shapes") from error


def _stranger(checkpoint: Checkpoint) -> str:
    """What to say about a checkpoint that is none of FORMATS."""
    takes = ", ".join(form.words for form in FORMATS)
    known = other_format(checkpoint.shapes)
    if known is not None:
        return f"{checkpoint.path} looks like {known}; mien export takes {takes}"
    return (
        f"{checkpoint.path} is no network that mien export knows (it has "
        f"{listed(list(checkpoint.state))}); it takes {takes}"
    )
