"""What `mien export` takes. Nothing here imports torch, so that --help answers without it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from mien.engines.diffusion import NETWORK_NAMES as DIFFUSION_NAMES
from mien.engines.errors import UsageError
from mien.engines.face_space import PUBLIC_NAMES
from mien.engines.networks import FACE_PARSER_NAME, GENERATORS
from mien.engines.system.limits import MAX_MEMORY, parse_memory
from mien.engines.text_faces import TEXT_FACE_NAMES

NETWORK_NAMES = (
    *(network.name for network in GENERATORS),
    FACE_PARSER_NAME,
    *PUBLIC_NAMES,
    *DIFFUSION_NAMES,
    *TEXT_FACE_NAMES,
)
NOT_STATED = "not stated"
SUFFIX = ".onnx"
MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Options:
    """One export.

    output: the file to write, or None. into: a folder of models to add the result to, or None.
    network: the name of the network it becomes, None for the usual one of its kind. size: pixels a
    side, batch: pictures at once, None for the usual. labels, classes: the names in the network's
    order, None where they are to be known otherwise. class_order: a public order of classes.
    max_memory: the most bytes that reading the checkpoint may take. noise: of a StyleGAN2, None for
    what its file holds. precision: in which its convolutions compute. attributes: what the
    directions of a walk change, in order. encoder: what the heads of an encoder give, deltas or
    codes, where its file does not say. vocabulary: the captions that a text encoder was trained
    with.
    """

    checkpoint: Path
    output: Path | None = None
    into: Path | None = None
    network: str | None = None
    size: int | None = None
    batch: int | None = None
    labels: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    class_order: str | None = None
    colour: Literal["rgb", "luma"] = "rgb"
    activation: Literal["relu", "leaky"] | None = None
    licence: str = NOT_STATED
    trained_on: str = NOT_STATED
    overwrite: bool = False
    max_memory: int = MAX_MEMORY
    noise: Literal["stored", "zero", "seeded"] | None = None
    precision: Literal["fp32", "fp16"] = "fp32"
    attributes: tuple[str, ...] | None = None
    encoder: Literal["e4e", "psp"] | None = None
    vocabulary: Path | None = None


class _Parser(argparse.ArgumentParser):
    """Raises what a command line lacks, where argparse prints two lines and ends the program."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see mien export --help")


def parse_options(arguments: list[str]) -> Options:
    """The options of a command line. Raises UsageError."""
    given = _parser().parse_args(arguments)
    if given.output is None and given.into is None:
        raise UsageError("where to? add -o MODEL.onnx, or --into DIR for a folder of models")
    if given.output is not None and given.output.suffix != SUFFIX:
        raise UsageError(f"-o {given.output}: a model's name ends in {SUFFIX}")
    if given.classes is not None and given.class_order is not None:
        raise UsageError("give either --classes or --class-order, not both")
    return Options(**vars(given))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mien export",
        description="Write a PyTorch checkpoint as an ONNX model that mien runs: StarGAN and "
        "CycleGAN generators, DeepLabV3 and BiSeNet face parsers, the networks of latent editing "
        "(StyleGAN2, e4e and pSp, StyleCLIP mappers, Latent2im walks, ArcFace, CLIP), and the "
        "UNet and encoders of the diffusion paper, and the generator and encoders of FaceCLIP, "
        "ControlGAN and AttnGAN. The "
        "form is recognised by the names in the checkpoint; nothing in it is run.",
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a .ckpt, .pth, .pt or .pkl"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="MODEL.onnx", help="the model")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="DIR",
        help="add the model to a folder of models, which mien edit --models DIR takes",
    )
    parser.add_argument(
        "--network",
        "--as",
        choices=NETWORK_NAMES,
        metavar="NAME",
        help=f"which network of mien it becomes: {', '.join(NETWORK_NAMES)}; by default "
        "the one for whole pictures, and of a generator in latent space its synthesis",
    )
    parser.add_argument(
        "--size",
        type=_count,
        metavar="S",
        help="pixels a side: by default 64 with bilinear upsampling (the parts paper's form), "
        "128 for a public StarGAN, 256 for a public CycleGAN, 256 for a parser, 48 for diffusion",
    )
    parser.add_argument(
        "--batch",
        type=_count,
        metavar="N",
        help="pictures at once; by default 4 for parts (eyes, nose, mouth), 2 for a diffusion UNet "
        "(with and without the condition), else 1",
    )
    _add_facts(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a model that exists")
    parser.add_argument(
        "--max-memory",
        type=parse_memory,
        default=MAX_MEMORY,
        metavar="SIZE",
        help="refuse a checkpoint that would take more, by the sizes it states: 2G, 800M; "
        "by default 1G",
    )
    return parser


def _add_facts(parser: argparse.ArgumentParser) -> None:
    """Add the options for what no tensor tells."""
    parser.add_argument(
        "--labels",
        type=_names,
        metavar="A,B,C",
        help="what the numbers of a StarGAN's label mean, in order: emotions, then eye,nose,mouth "
        "where it was trained on parts; of a CycleGAN its direction, such as 'neutral->happy'",
    )
    parser.add_argument(
        "--classes", type=_names, metavar="A,B,C", help="a parser's classes, in order"
    )
    parser.add_argument(
        "--class-order",
        choices=("celebamask", "zllrunning"),
        help="a public order of 19 classes: of CelebAMask-HQ's own script, or of 79999_iter.pth",
    )
    parser.add_argument(
        "--colour",
        choices=("rgb", "luma"),
        default="rgb",
        help="luma where the network was trained on grey pictures",
    )
    parser.add_argument(
        "--activation",
        choices=("relu", "leaky"),
        help="of a generator's hidden layers: by default relu with deconvolution, leaky with "
        "upsampling",
    )
    parser.add_argument(
        "--noise",
        choices=("stored", "zero", "seeded"),
        help="of a StyleGAN2, constant in the graph: as stored in the file (the default where it "
        "is there), none, or drawn with seed 0",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="of a StyleGAN2's convolutions; styles, demodulation and the image stay FP32",
    )
    parser.add_argument(
        "--encoder",
        choices=("e4e", "psp"),
        help="what the heads of an encoder give, deltas (e4e) or codes (psp), where its file does "
        "not say",
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        metavar="captions.pickle",
        help="the captions that a text encoder was trained with: they say which words it knows",
    )
    parser.add_argument(
        "--attributes",
        type=_names,
        metavar="A,B,C",
        help="what the directions of a Latent2im walk change, in order; by default CelebA's 40",
    )
    parser.add_argument(
        "--licence", default=NOT_STATED, metavar="NAME", help="of the weights, for --into"
    )
    parser.add_argument(
        "--trained-on", default=NOT_STATED, metavar="TEXT", help="the data, for --into"
    )


def _count(text: str) -> int:
    # Python refuses to read a number of thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, not {text[:40]!r}")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"expected different names and commas, not {text!r}")
    return names
