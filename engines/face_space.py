"""The networks of the papers that edit in a latent space: mien's own, and public ones.

A public network has the name of mien's own that it can stand for, so a user's own generator,
encoder or directions take its place. Sizes are those of the checkpoint that was exported: whoever
opens a network gives its name and reads the rest from what its graph states.

Codes are those of W+, float32 (n, layers, style_dim), a public encoder's with the average added.
Pictures are float32 (n, colours, S, S) in [-1, 1]: luma, in tight crops by the runtime's alignment,
for mien's own; RGB, in FFHQ's alignment, for public ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from mien.engines.errors import ModelError
from mien.engines.network import Colour, Network, TensorSpec

# Of either kind:
GENERATOR, ENCODER, DIRECTIONS = "stylegan2_synthesis", "latent_encoder", "latent_walk"
REGRESSOR = "attribute_regressor"
# Of mien's own face space alone:
PRIOR, EMM, LATENT_CLASSIFIER = "latent_prior", "emm", "latent_classifier"
TEXT_TOWER, IMAGE_TOWER = "text_tower", "image_tower"
# Of public checkpoints alone:
MAPPING, IMAGE_OF_CODE, IMAGE_OF_DRAW = "stylegan2_mapping", "stylegan2_w", "stylegan2_z"
MAPPER, ARCFACE, LANDMARKS_106 = "latent_mapper", "arcface", "landmarks_resnet"
CLIP_TEXT, CLIP_IMAGE = "clip_text", "clip_image"
PUBLIC_NAMES = (
    *(GENERATOR, MAPPING, IMAGE_OF_CODE, IMAGE_OF_DRAW, ENCODER, MAPPER, DIRECTIONS),
    *(ARCFACE, LANDMARKS_106, REGRESSOR, CLIP_TEXT, CLIP_IMAGE),
)
SIGNED, UNIT = (-1.0, 1.0), (0.0, 1.0)
STRENGTH = (-2.0, 2.0)
EMOTIONS, STYLE_DIM, EMBEDDING = 8, 512, 128
SIZE, SEEN = 128, 64  # what mien's generator makes, and what its other networks look at
COLOUR_OF: Mapping[int, Colour] = MappingProxyType({1: "luma", 3: "rgb"})
VOCABULARY = 49408  # of CLIP; the last two tokens are the beginning and the end of a text
CONDITION_KEY = "mien.condition"  # the mapper's inverse distribution functions


def layer_count(size: int) -> int:
    """How many codes a generator of `size` pixels takes."""
    return 2 * int(math.log2(size)) - 2


def layer_levels(layers: int) -> tuple[int, int]:
    """Where coarse layers end and where middle ones do: StyleCLIP's at 18 layers."""
    return 4, min(8, math.ceil(0.65 * layers))


def generator_network(
    size: int = SIZE, *, colours: int = 1, style_dim: int = STYLE_DIM, batch: int = 1
) -> Network:
    """Codes to pictures, nominally in [-1, 1] and not clamped."""
    codes = _codes("codes", layer_count(size), style_dim, batch)
    return Network(GENERATOR, (codes,), (_generated(size, colours, batch),))


def mapping_network(*, z_dim: int = 512, style_dim: int = STYLE_DIM, batch: int = 1) -> Network:
    """Draws of a normal distribution to codes of W, drawn towards the average by psi (1,)."""
    return Network(MAPPING, _draw(z_dim, batch), (TensorSpec("w", (batch, style_dim)),))


def image_of_code_network(size: int, *, style_dim: int = STYLE_DIM, batch: int = 1) -> Network:
    """One code of W for all layers to pictures in RGB."""
    w = TensorSpec("w", (batch, style_dim))
    return Network(IMAGE_OF_CODE, (w,), (_generated(size, 3, batch),))


def image_of_draw_network(size: int, *, z_dim: int = 512, batch: int = 1) -> Network:
    """Draws of a normal distribution, truncated by psi, to pictures in RGB."""
    return Network(IMAGE_OF_DRAW, _draw(z_dim, batch), (_generated(size, 3, batch),))


def encoder_network(
    layers: int, *, seen: int = SEEN, colours: int = 1, style_dim: int = STYLE_DIM, batch: int = 1
) -> Network:
    """Aligned faces of `seen` pixels to codes."""
    codes = _codes("codes", layers, style_dim, batch)
    return Network(ENCODER, (_picture(seen, colours, batch),), (codes,))


def prior_network(size: int = SIZE, *, style_dim: int = STYLE_DIM, batch: int = 1) -> Network:
    """Draws of a normal distribution to codes for `size` pixels; psi (1,) is the truncation."""
    codes = _codes("codes", layer_count(size), style_dim, batch)
    return Network(PRIOR, _draw(512, batch), (codes,))


def emm_network(
    layers: int, *, style_dim: int = STYLE_DIM, targets: int = EMOTIONS, batch: int = 1
) -> Network:
    """Codes, the source's condition and the weights of the target to codes.

    targets: 0 for a mapper of one emotion, which takes no target.
    """
    inputs = (
        _codes("codes", layers, style_dim, batch),
        TensorSpec("condition", (batch, EMOTIONS)),
        TensorSpec("target", (batch, max(targets, 1)), range=UNIT),
    )
    edited = _codes("edited", layers, style_dim, batch)
    return Network(EMM, inputs if targets else inputs[:2], (edited,))


def mapper_network(layers: int, *, style_dim: int = STYLE_DIM, batch: int = 1) -> Network:
    """Codes to codes edited as StyleCLIP's mappers do; strength (1,), 1 as published."""
    strength = TensorSpec("strength", (1,), range=STRENGTH)
    inputs = (_codes("codes", layers, style_dim, batch), strength)
    return Network(MAPPER, inputs, (_codes("edited", layers, style_dim, batch),))


def directions_network(
    attributes: int, layers: int, *, style_dim: int = STYLE_DIM, batch: int = 1
) -> Network:
    """Codes to codes moved by steps (n, attributes), each layer by its share of mask (layers,)."""
    inputs = (
        _codes("codes", layers, style_dim, batch),
        TensorSpec("steps", (batch, attributes), range=SIGNED),
        TensorSpec("mask", (layers,), range=UNIT),
    )
    return Network(DIRECTIONS, inputs, (_codes("edited", layers, style_dim, batch),))


def latent_classifier_network(
    layers: int, *, style_dim: int = STYLE_DIM, batch: int = 1
) -> Network:
    """Codes to how surely each emotion is there; each is its own yes or no."""
    probabilities = TensorSpec("probabilities", (batch, EMOTIONS), range=UNIT)
    return Network(
        LATENT_CLASSIFIER, (_codes("codes", layers, style_dim, batch),), (probabilities,)
    )


def regressor_network(
    attributes: int, *, seen: int = SEEN, colours: int = 1, batch: int = 1
) -> Network:
    """Pictures to attributes, trained to lie in [0, 1]; not clamped."""
    found = TensorSpec("attributes", (batch, attributes))
    return Network(REGRESSOR, (_picture(seen, colours, batch),), (found,))


def landmarks_106_network(numbers: int, *, size: int, batch: int = 1) -> Network:
    """Faces in RGB to the numbers of 106 landmarks, x and y in turn."""
    found = TensorSpec("landmarks", (batch, numbers))
    return Network(LANDMARKS_106, (_picture(size, 3, batch),), (found,))


def arcface_network(size: int, *, length: int = 512, batch: int = 1) -> Network:
    """Faces in RGB to embeddings of unit length: of 112 pixels, or FFHQ-aligned ones of 256."""
    embedding = TensorSpec("embedding", (batch, length), range=SIGNED)
    return Network(ARCFACE, (_picture(size, 3, batch),), (embedding,))


def text_network(vocabulary: int, length: int, *, out: int = EMBEDDING, batch: int = 1) -> Network:
    """Tokens of a vocabulary, int64 (n, length), to embeddings of unit length."""
    tokens = TensorSpec("tokens", (batch, length), "int64", (0.0, vocabulary - 1.0))
    return Network(TEXT_TOWER, (tokens,), (TensorSpec("embedding", (batch, out), range=SIGNED),))


def image_network(*, out: int = EMBEDDING, batch: int = 1) -> Network:
    """Pictures to embeddings of unit length."""
    embedding = TensorSpec("embedding", (batch, out), range=SIGNED)
    return Network(IMAGE_TOWER, (_picture(SEEN, 1, batch),), (embedding,))


def clip_text_network(
    *, context: int = 77, width: int = 512, vocabulary: int = VOCABULARY, batch: int = 1
) -> Network:
    """Tokens of CLIP, int64 (n, context), to features, not of unit length."""
    most = float(vocabulary - 1)
    tokens = TensorSpec("tokens", (batch, context), dtype="int64", range=(0.0, most))
    return Network(CLIP_TEXT, (tokens,), (TensorSpec("features", (batch, width)),))


def clip_image_network(*, size: int = 224, width: int = 512, batch: int = 1) -> Network:
    """Pictures normalised by CLIP's mean and deviation to features, not of unit length."""
    image = TensorSpec("image", (batch, 3, size, size), colour="rgb")
    return Network(CLIP_IMAGE, (image,), (TensorSpec("features", (batch, width)),))


def condition_text(table: np.ndarray) -> str:
    """The mapper's inverse distribution functions, (8, 8, k), as metadata for CONDITION_KEY."""
    return json.dumps(np.round(table.astype(float), 4).tolist(), separators=(",", ":"))


def stated_condition(metadata: Mapping[str, str]) -> np.ndarray:
    """What `condition_text` wrote: float32 (8, 8, k), k quantiles from the least to the largest.

    Row s, e is how surely emotion e is seen in faces of emotion s. Raises ModelError.
    """
    try:
        table = np.array(json.loads(metadata[CONDITION_KEY]), np.float32)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(_without_condition("states no table")) from error
    fits = table.ndim == 3 and table.shape[:2] == (EMOTIONS, EMOTIONS) and table.shape[2] >= 2
    if not fits or not np.isfinite(table).all():
        raise ModelError(_without_condition(f"states a table of shape {table.shape}"))
    return table


def condition(table: np.ndarray, source: int, drawn: np.ndarray | None = None) -> np.ndarray:
    """The condition of a source emotion, float32 (1, 8): equations 1 to 3 of the paper.

    table: as of `stated_condition`. drawn: (8,), draws of a normal distribution; None gives each
    function's median.
    """
    count = table.shape[2] - 1
    draws = np.zeros(EMOTIONS) if drawn is None else drawn
    uniform = [0.5 * (1 + math.erf(float(r) / math.sqrt(2))) for r in draws]
    knots = np.arange(count + 1)
    values = [np.interp(u * count, knots, table[source, e]) for e, u in enumerate(uniform)]
    return np.array([values], np.float32)


def _without_condition(found: str) -> str:
    return (
        f"the mapper {found} for its condition, expected {EMOTIONS} x {EMOTIONS} functions; export "
        "it again"
    )


def _codes(name: str, layers: int, style_dim: int, batch: int) -> TensorSpec:
    return TensorSpec(name, (batch, layers, style_dim))


def _picture(size: int, colours: int, batch: int) -> TensorSpec:
    shape = (batch, colours, size, size)
    return TensorSpec("image", shape, range=SIGNED, colour=COLOUR_OF[colours])


def _generated(size: int, colours: int, batch: int) -> TensorSpec:
    return TensorSpec("image", (batch, colours, size, size), colour=COLOUR_OF[colours])


def _draw(z_dim: int, batch: int) -> tuple[TensorSpec, TensorSpec]:
    # The truncations that were meant; others extrapolate.
    return TensorSpec("z", (batch, z_dim)), TensorSpec("psi", (1,), range=UNIT)


# The recipes' usual sizes; a graph states its own.
FACE_SPACE = (
    generator_network(),
    encoder_network(layer_count(SIZE)),
    prior_network(),
    emm_network(layer_count(SIZE)),
    directions_network(8, layer_count(SIZE)),
    latent_classifier_network(layer_count(SIZE)),
    regressor_network(8),
    text_network(96, 24),
    image_network(),
)
