"""The networks that come with mien, declared: every network that its catalog can hold.

All are float32 with batch 1. The default filter's take pictures as luma in [0, 1]; `target` is one
weight per emotion of `mien.runtime.target.EMOTIONS`; crop units run from 0 to 1 along a side of the
aligned crop. Beside them stand the emotion classifier that edits are measured with, which is no
part of the filter, and the networks of the parts paper: generators that restyle a picture, and the
face parser. Those of the face space are declared in `mien.engines.face_space`.

A user's own generators and parsers may have other sizes, labels and classes, so the filter opens
them by name and reads what they are from what their graphs state: the declaration, and facts under
`mien.<key>`, which the exporter writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mien.engines.diffusion import ENCODERS, UNETS
from mien.engines.engine import Engine
from mien.engines.errors import ModelError
from mien.engines.face_space import FACE_SPACE
from mien.engines.network import Network, TensorSpec
from mien.engines.text_faces import TEXT_FACES

UNIT = (0.0, 1.0)
TARGET = TensorSpec("target", (1, 8), range=UNIT)

# A letterboxed frame (content at the left top, the rest 0) to a face per cell: 40*40 cells of
# stride 8, then 20*20 of 16, then 10*10 of 32, row major. Boxes (x0, y0, x1, y1) hug the 106
# landmarks; points are the left eye, the right eye (viewer's left first) and the mouth. Both in
# input pixels.
DETECTOR = Network(
    "detector",
    inputs=(TensorSpec("image", (1, 1, 320, 320), range=UNIT, colour="luma"),),
    outputs=(
        TensorSpec("scores", (1, 2100), range=UNIT),
        TensorSpec("boxes", (1, 2100, 4), most=1e5),
        TensorSpec("points", (1, 2100, 3, 2), most=1e5),
    ),
)

# A crop by `roi_matrix` to the landmarks in its crop units (they may lie outside) and how well
# they can be seen: 1 a plain face, 0 none, or one mostly covered or turned away.
LANDMARKS = Network(
    "landmarks",
    inputs=(TensorSpec("face", (1, 1, 112, 112), range=UNIT, colour="luma"),),
    outputs=(
        TensorSpec("landmarks", (1, 106, 2), most=16.0),
        TensorSpec("score", (1, 1), range=UNIT),
    ),
)

# An aligned face to the way its landmarks move, in crop units, and its skin's brightness changes.
WARP = Network(
    "warp",
    inputs=(
        TensorSpec("face", (1, 1, 64, 64), range=UNIT, colour="luma"),
        TensorSpec("landmarks", (1, 106, 2)),
        TARGET,
    ),
    outputs=(
        TensorSpec("displacement", (1, 106, 2), most=4.0),
        TensorSpec("light", (1, 1, 64, 64), range=(-4.0, 4.0)),
    ),
)

# An aligned face to what lies in front of its skin: glasses (rims and reflections), other covers.
OCCLUSION = Network(
    "occlusion",
    inputs=(TensorSpec("face", (1, 1, 128, 128), range=UNIT, colour="luma"),),
    outputs=(TensorSpec("covered", (1, 2, 128, 128), range=UNIT),),
)

NETWORKS = (DETECTOR, LANDMARKS, WARP, OCCLUSION)


FER_CLASSES = ("neutral", "happy", "sad", "surprised", "fearful", "disgusted", "angry")
FER_SIZE = 48

# A face cropped as FER-2013 crops it to one probability per emotion of FER_CLASSES.
EMOTION_CLASSIFIER = Network(
    "judge",
    inputs=(TensorSpec("face", (1, 1, FER_SIZE, FER_SIZE), range=(0.0, 1.0), colour="luma"),),
    outputs=(TensorSpec("probabilities", (1, len(FER_CLASSES)), range=(0.0, 1.0)),),
)


GANS = ("stargan", "cyclegan")
MODES = ("image", "face", "parts")
SIZE = 64  # pixels a side, as in the paper
PARSER_SIZE = 256
PARTS = 4  # crops at once in parts mode: left eye, right eye mirrored, nose, mouth
SHIPPED_EMOTIONS = ("neutral", "happy", "sad")
SHIPPED_PART_LABELS = (*SHIPPED_EMOTIONS, "eye", "nose", "mouth")
SHIPPED_CLASSES = (
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip",
)  # fmt: skip
FACE_PARSER_NAME = "face_parser"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGNED = (-1.0, 1.0)
MAX_AMOUNT = 4.0
MOST_CLASSES = 256  # a class map has a byte for each pixel
MOST_MEAN, LEAST_STD = 1000.0, 1e-3

Colour = Literal["luma", "rgb"]


def stargan_network(name: str, *, labels: int, batch: int = 1, size: int = SIZE) -> Network:
    """The declaration of a StarGAN generator: pictures and labels in, restyled pictures out."""
    image = TensorSpec("image", (batch, 3, size, size), range=SIGNED, colour="rgb")
    label = TensorSpec("label", (batch, labels), range=(0.0, 1.0))
    edited = TensorSpec("edited", (batch, 3, size, size), range=SIGNED, colour="rgb")
    return Network(name, (image, label), (edited,))


def cyclegan_network(name: str, *, batch: int = 1, size: int = SIZE) -> Network:
    """The declaration of a CycleGAN generator: pictures in, pictures of the other domain out."""
    image = TensorSpec("image", (batch, 3, size, size), range=SIGNED, colour="rgb")
    edited = TensorSpec("edited", (batch, 3, size, size), range=SIGNED, colour="rgb")
    return Network(name, (image,), (edited,))


def parser_network(*, classes: int, size: int = PARSER_SIZE) -> Network:
    """The declaration of a face parser: a normalised picture in, a logit per class out."""
    image = TensorSpec("image", (1, 3, size, size), colour="rgb")
    logits = TensorSpec("logits", (1, classes, size, size))
    return Network(FACE_PARSER_NAME, (image,), (logits,))


STARGAN_IMAGE = stargan_network("stargan_image", labels=len(SHIPPED_EMOTIONS))
STARGAN_FACE = stargan_network("stargan_face", labels=len(SHIPPED_EMOTIONS))
STARGAN_PARTS = stargan_network("stargan_parts", labels=len(SHIPPED_PART_LABELS), batch=PARTS)
CYCLEGAN_IMAGE = cyclegan_network("cyclegan_image")
CYCLEGAN_FACE = cyclegan_network("cyclegan_face")
CYCLEGAN_PARTS = cyclegan_network("cyclegan_parts", batch=PARTS)
FACE_PARSER = parser_network(classes=len(SHIPPED_CLASSES))

GENERATORS = (
    STARGAN_IMAGE,
    STARGAN_FACE,
    STARGAN_PARTS,
    CYCLEGAN_IMAGE,
    CYCLEGAN_FACE,
    CYCLEGAN_PARTS,
)


def generator_name(gan: str, mode: str) -> str:
    """The name of a network by its kind (of GANS) and what it looks at (of MODES)."""
    return f"{gan}_{mode}"


@dataclass(frozen=True, slots=True)
class GeneratorFacts:
    """What a generator takes.

    size: pixels a side. batch: pictures at once. labels: what the numbers of its label mean, or
    the one `source->target` of a network without a label. is_conditional: whether it has one.
    colour: `luma` where it was trained on grey pictures and takes luma three times.
    amount: how much of its change to show at full strength. A student that learned to be right on
    average changes less than it should, and says here by how much.
    """

    size: int
    batch: int
    labels: tuple[str, ...]
    is_conditional: bool
    colour: Colour
    amount: float = 1.0


@dataclass(frozen=True, slots=True)
class ParserFacts:
    """What a face parser takes and tells apart.

    size: pixels a side. classes: the words of its channels. colour: as of a generator.
    mean, std: what pixels in [0, 1] are normalised by, one number a channel.
    """

    size: int
    classes: tuple[str, ...]
    colour: Colour
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def generator_facts(engine: Engine) -> GeneratorFacts:
    """What the generator in an engine takes. Raises ModelError where it is none."""
    network = engine.network
    inputs = {spec.name: spec.shape for spec in network.inputs}
    outputs = {spec.name: spec.shape for spec in network.outputs}
    image = inputs.get("image", ())
    label = inputs.get("label", (image[:1] and image[0], 1))
    fits = (
        _is_single(network)
        and inputs.keys() <= {"image", "label"}
        and outputs == {"edited": image}
        and len(image) == 4
        and image[1] == 3
        and image[2] == image[3]
        and len(label) == 2
        and label[0] == image[0]
    )
    if not fits:
        raise ModelError(
            f"{network.name}: received inputs {inputs} and outputs {outputs}, expected image "
            "(B, 3, S, S), label (B, c) and edited (B, 3, S, S), in float32; export it with mien "
            "export"
        )
    labels = _words(engine.metadata, "labels")
    expected = label[1]
    if len(labels) != expected:
        raise ModelError(
            f"{network.name}: received {len(labels)} label names, expected {expected}; "
            "export it again with mien export --labels"
        )
    colour = _colour(network.name, engine.metadata)
    amount = _amount(network.name, engine.metadata)
    return GeneratorFacts(image[2], image[0], labels, "label" in inputs, colour, amount)


def parser_facts(engine: Engine) -> ParserFacts:
    """What the face parser in an engine takes. Raises ModelError where it is none."""
    network = engine.network
    inputs = {spec.name: spec.shape for spec in network.inputs}
    outputs = {spec.name: spec.shape for spec in network.outputs}
    image, logits = inputs.get("image", ()), outputs.get("logits", ())
    fits = (
        _is_single(network)
        and len(inputs) == len(outputs) == 1
        and len(image) == len(logits) == 4
        and image[:2] == (1, 3)
        and image[2] == image[3]
        and logits[2:] == image[2:]
        and logits[1] <= MOST_CLASSES
    )
    if not fits:
        raise ModelError(
            f"{network.name}: received inputs {inputs} and outputs {outputs}, expected image "
            f"(1, 3, S, S) and logits (1, N, S, S) with N up to {MOST_CLASSES}, in float32; export "
            "it with mien export"
        )
    classes = _words(engine.metadata, "classes")
    if len(classes) != logits[1]:
        raise ModelError(
            f"{network.name}: received {len(classes)} class names, expected {logits[1]}; "
            "export it again with mien export --classes"
        )
    return ParserFacts(
        image[2],
        classes,
        _colour(network.name, engine.metadata),
        _three(network.name, engine.metadata, "mean", IMAGENET_MEAN),
        _three(network.name, engine.metadata, "std", IMAGENET_STD, least=LEAST_STD),
    )


def _is_single(network: Network) -> bool:
    """Whether all that it takes and gives is float32."""
    return all(spec.dtype == "float32" for spec in (*network.inputs, *network.outputs))


def _words(metadata: Mapping[str, str], key: str) -> tuple[str, ...]:
    text = metadata.get(f"mien.{key}", "")
    return tuple(word.strip() for word in text.split(",")) if text.strip() else ()


def _colour(name: str, metadata: Mapping[str, str]) -> Colour:
    colour = metadata.get("mien.colour", "rgb")
    if colour == "luma":
        return "luma"
    if colour == "rgb":
        return "rgb"
    raise ModelError(f"{name}: its colour is stated as {colour!r}, expected luma or rgb")


def _amount(name: str, metadata: Mapping[str, str]) -> float:
    text = metadata.get("mien.amount", "1")
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount <= MAX_AMOUNT:
        raise ModelError(
            f"{name}: its amount is stated as {text!r}, expected a number up to {MAX_AMOUNT:g}"
        )
    return amount


def _three(
    name: str,
    metadata: Mapping[str, str],
    key: str,
    default: tuple[float, float, float],
    *,
    least: float = -MOST_MEAN,
) -> tuple[float, float, float]:
    words = _words(metadata, key)
    if not words:
        return default
    try:
        red, green, blue = (float(word) for word in words)
    except ValueError:
        red = green = blue = math.nan
    if not all(least <= number <= MOST_MEAN for number in (red, green, blue)):
        raise ModelError(
            f"{name}: its {key} is stated as {','.join(words)!r}, expected three numbers in "
            f"{least:g}..{MOST_MEAN:g}"
        )
    return red, green, blue


SHIPPED = (
    *NETWORKS,
    FACE_PARSER,
    *GENERATORS,
    EMOTION_CLASSIFIER,
    *FACE_SPACE,
    *UNETS,
    *ENCODERS,
    *TEXT_FACES,
)
