"""A face space that is easy to see through, as ONNX files: a code is the picture itself.

A picture of 64 pixels has 4096 values, a code of 8 layers as many, so the encoder and the generator
only change the shape, and what is added to a code is seen in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import NodeProto, helper

from mien.engines import Network, TensorSpec
from mien.engines.face_space import (
    CONDITION_KEY,
    DIRECTIONS,
    EMM,
    EMOTIONS,
    ENCODER,
    GENERATOR,
    condition_text,
    directions_network,
    emm_network,
    image_network,
    latent_classifier_network,
    regressor_network,
    text_network,
)
from mien.runtime.target import EMOTIONS as NAMES
from mien.runtime.words import FIRST
from tests.runtime.methods.gan.networks import write_network

SIDE, WIDTH = 64, 512
LAYERS = SIDE * SIDE // WIDTH
COLOUR_LAYERS = 3 * LAYERS
ATTRIBUTES = ("smiling", "brows_raised", "male")
VOCABULARY = (*NAMES, "a", "face", "surprise", "glasses")
# What each emotion and attribute adds to a picture in [-1, 1]; the last emotion adds nothing.
STEPS = np.array([0.02, 0.3, -0.3, 0.25, -0.2, 0.15, -0.15, 0.0], np.float32)


def blot(step: float, x: float = 0.5, y: float = 0.6) -> np.ndarray:
    """A soft blot of a picture: float32 (4096,)."""
    axis = (np.arange(SIDE) + 0.5) / SIDE
    down, across = (np.exp(-0.5 * ((axis - at) / 0.12) ** 2) for at in (y, x))
    return (step * down[:, None] * across[None]).ravel().astype(np.float32)


def condition_table() -> np.ndarray:
    """How surely emotion e is seen in faces of emotion s, evenly spread: float32 (8, 8, 5)."""
    spread = np.linspace(0, 0.4, 5, dtype=np.float32)
    return (
        np.tile(spread, (EMOTIONS, EMOTIONS, 1))
        + 0.5 * np.eye(EMOTIONS, dtype=np.float32)[..., None]
    )


def write_space(folder: Path, *, channels: int = 1, batch: int = 2, layers: int = 0) -> Path:
    """`folder`, with an encoder and a generator; layers: of a generator that does not fit."""
    folder.mkdir(exist_ok=True)
    colour = "luma" if channels == 1 else "rgb"
    own = channels * LAYERS
    image = TensorSpec("image", (1, channels, SIDE, SIDE), range=(-1.0, 1.0), colour=colour)
    encoder = Network(ENCODER, (image,), (TensorSpec("codes", (1, own, WIDTH)),))
    write_network(folder, encoder, *reshaped("image", "codes", (1, own, WIDTH)), {"colour": colour})
    shape = (batch, channels, SIDE, SIDE * (layers or own) // own)
    codes = TensorSpec("codes", (batch, layers or own, WIDTH))
    picture = TensorSpec("image", shape, colour=colour)
    generator = Network(GENERATOR, (codes,), (picture,))
    write_network(folder, generator, *reshaped("codes", "image", shape), {"colour": colour})
    return folder


def reshaped(
    source: str, target: str, shape: Sequence[int]
) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """The nodes and constants of a graph that gives another shape to what it takes."""
    nodes = [helper.make_node("Reshape", [source, "shape"], [target])]
    return nodes, {"shape": np.array(shape, np.int64)}


def write_emm(
    folder: Path,
    *,
    layers: int = LAYERS,
    targets: Sequence[str] = NAMES,
    source: str = "neutral",
    conditioned: float = 0.0,
) -> Path:
    """Adds the mapper and the classifier, which sees `source` in every code.

    conditioned: what the mapper adds to a blot for each unit of its condition's first number, how
    surely the face is neutral.
    """
    flat = layers * WIDTH
    moves = np.stack([np.resize(blot(float(STEPS[NAMES.index(name)])), flat) for name in targets])
    under = np.zeros((EMOTIONS, flat), np.float32)
    under[0] = np.resize(blot(conditioned, y=0.3), flat)
    nodes = [
        helper.make_node("MatMul", ["target", "moves"], ["by_target"]),
        helper.make_node("MatMul", ["condition", "under"], ["by_condition"]),
        helper.make_node("Add", ["by_target", "by_condition"], ["both"]),
        helper.make_node("Reshape", ["both", "shape"], ["step"]),
        helper.make_node("Add", ["codes", "step"], ["edited"]),
    ]
    shape = np.array([1, layers, WIDTH], np.int64)
    facts = {"targets": ",".join(targets), CONDITION_KEY[5:]: condition_text(condition_table())}
    network = emm_network(layers, targets=len(targets))
    constants = {"moves": moves, "under": under, "shape": shape}
    write_network(folder, network, nodes, constants, facts)
    seen = np.eye(EMOTIONS, dtype=np.float32)[[NAMES.index(source)]]
    nodes = [
        helper.make_node("ReduceSum", ["codes", "axes"], ["all"], keepdims=0),
        helper.make_node("Mul", ["all", "zero"], ["none"]),
        helper.make_node("Reshape", ["none", "one"], ["column"]),
        helper.make_node("Add", ["column", "seen"], ["probabilities"]),
    ]
    constants = {
        "axes": np.array([1, 2], np.int64),
        "zero": np.zeros(1, np.float32),
        "one": np.array([1, 1], np.int64),
        "seen": seen,
    }
    facts = {"classes": ",".join(NAMES)}
    write_network(folder, latent_classifier_network(layers), nodes, constants, facts)
    assert network.name == EMM
    return folder


def write_directions(folder: Path, names: Sequence[str] = ATTRIBUTES, *, leak: float = 0.0) -> Path:
    """Adds directions: each attribute is a blot at another height.

    leak: how much of the first attribute moves with each other one.
    """
    moves = direction_moves(len(names))
    moves[1:] += leak * moves[0]
    nodes = [
        helper.make_node("MatMul", ["steps", "moves"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["step"]),
        helper.make_node("Reshape", ["mask", "column"], ["of_layers"]),
        helper.make_node("Mul", ["step", "of_layers"], ["masked"]),
        helper.make_node("Add", ["codes", "masked"], ["edited"]),
    ]
    constants = {
        "moves": moves,
        "shape": np.array([1, LAYERS, WIDTH], np.int64),
        "column": np.array([LAYERS, 1], np.int64),
    }
    network = directions_network(len(names), LAYERS)
    write_network(folder, network, nodes, constants, {"attributes": ",".join(names)})
    assert network.name == DIRECTIONS
    return folder


def direction_moves(count: int) -> np.ndarray:
    """What each attribute adds to a picture: float32 (count, 4096)."""
    return np.stack([blot(0.3, y=0.3 + 0.2 * place) for place in range(count)])


def write_regressor(folder: Path, picture: np.ndarray, names: Sequence[str] = ATTRIBUTES) -> Path:
    """Adds a regressor that reads how far each attribute was moved; `picture` has 0.5 of each.

    picture: float32 (64, 64) in [-1, 1].
    """
    reads = np.linalg.pinv(direction_moves(len(names))).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "reads"], ["read"]),
        helper.make_node("Add", ["read", "bias"], ["attributes"]),
    ]
    constants = {"reads": reads, "bias": 0.5 - picture.reshape(1, -1) @ reads}
    network = regressor_network(len(names))
    write_network(folder, network, nodes, constants, {"attributes": ",".join(names)})
    return folder


def write_image_tower(folder: Path) -> Path:
    """Adds an image tower that takes every picture for a surprised one."""
    embedding = np.eye(EMOTIONS, dtype=np.float32)[[NAMES.index("surprised")]]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Reshape", ["none", "one"], ["column"]),
        helper.make_node("Add", ["column", "surprised"], ["embedding"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "zero": np.zeros(1, np.float32),
        "one": np.array([1, 1], np.int64),
        "surprised": embedding,
    }
    write_network(folder, image_network(out=EMOTIONS), nodes, constants, {})
    return folder


def write_text(folder: Path, vocabulary: Sequence[str] = VOCABULARY) -> Path:
    """Adds a text tower: the sum of a vector for each word, emotions at right angles."""
    table = np.zeros((FIRST + len(vocabulary), EMOTIONS), np.float32)
    for place, word in enumerate(vocabulary):
        emotion = "surprised" if word == "surprise" else word
        if emotion in NAMES:
            table[FIRST + place, NAMES.index(emotion)] = 1
        else:
            table[FIRST + place] = 1e-3
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["words"], axis=0),
        helper.make_node("ReduceSum", ["words", "axes"], ["embedding"], keepdims=0),
    ]
    network = text_network(FIRST + len(vocabulary), 12, out=EMOTIONS)
    constants = {"table": table, "axes": np.array([1], np.int64)}
    write_network(folder, network, nodes, constants, {"vocabulary": " ".join(vocabulary)})
    return folder
