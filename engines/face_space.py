"""The networks of mien's own face space: the latent papers at a size for the edge.

Pictures are luma, float32 (n, 1, S, S), in [-1, 1], tight crops by the runtime's alignment. Codes
are those of W+: float32 (n, layers, 512). A network has the name of the public one that it can
stand for, so a user's own generator, encoder or directions take its place; sizes may be others,
and are read from what a graph states.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from mien.engines.errors import ModelError
from mien.engines.network import Network, TensorSpec

GENERATOR, ENCODER, PRIOR = "stylegan2_synthesis", "latent_encoder", "latent_prior"
EMM, DIRECTIONS = "emm", "latent_walk"
TEXT_TOWER, IMAGE_TOWER = "text_tower", "image_tower"
LATENT_CLASSIFIER, REGRESSOR = "latent_classifier", "attribute_regressor"
SIGNED, UNIT = (-1.0, 1.0), (0.0, 1.0)
EMOTIONS, STYLE_DIM, EMBEDDING = 8, 512, 128
SIZE, SEEN = 128, 64  # what the generator makes, and what the other networks look at
CONDITION_KEY = "mien.condition"  # the mapper's inverse distribution functions


def layer_count(size: int) -> int:
    """How many codes a generator of `size` pixels takes."""
    return 2 * int(math.log2(size)) - 2


def layer_levels(layers: int) -> tuple[int, int]:
    """Where coarse layers end and where middle ones do: StyleCLIP's at 18 layers."""
    return 4, min(8, math.ceil(0.65 * layers))


def generator_network(size: int = SIZE, *, style_dim: int = STYLE_DIM, batch: int = 1) -> Network:
    """Codes to pictures, nominally in [-1, 1] and not clamped."""
    codes = _codes("codes", layer_count(size), style_dim, batch)
    return Network(
        GENERATOR, (codes,), (TensorSpec("image", (batch, 1, size, size), colour="luma"),)
    )


def encoder_network(size: int = SIZE, *, style_dim: int = STYLE_DIM, batch: int = 1) -> Network:
    """Pictures of SEEN pixels to codes for a generator of `size` pixels."""
    return Network(
        ENCODER, (_seen(batch),), (_codes("codes", layer_count(size), style_dim, batch),)
    )


def prior_network(size: int = SIZE, *, style_dim: int = STYLE_DIM, batch: int = 1) -> Network:
    """Draws of a normal distribution to codes; psi (1,) is the truncation."""
    z = TensorSpec("z", (batch, 512))
    psi = TensorSpec("psi", (1,), range=UNIT)
    return Network(PRIOR, (z, psi), (_codes("codes", layer_count(size), style_dim, batch),))


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


def regressor_network(attributes: int, *, batch: int = 1) -> Network:
    """Pictures to attributes, trained to lie in [0, 1]; not clamped."""
    return Network(REGRESSOR, (_seen(batch),), (TensorSpec("attributes", (batch, attributes)),))


def text_network(vocabulary: int, length: int, *, out: int = EMBEDDING, batch: int = 1) -> Network:
    """Tokens of a vocabulary, int64 (n, length), to embeddings of unit length."""
    tokens = TensorSpec("tokens", (batch, length), "int64", (0.0, vocabulary - 1.0))
    return Network(TEXT_TOWER, (tokens,), (TensorSpec("embedding", (batch, out), range=SIGNED),))


def image_network(*, out: int = EMBEDDING, batch: int = 1) -> Network:
    """Pictures to embeddings of unit length."""
    embedding = TensorSpec("embedding", (batch, out), range=SIGNED)
    return Network(IMAGE_TOWER, (_seen(batch),), (embedding,))


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


def _seen(batch: int) -> TensorSpec:
    return TensorSpec("image", (batch, 1, SEEN, SEEN), range=SIGNED, colour="luma")


# The recipes' usual sizes; a graph states its own.
FACE_SPACE = (
    generator_network(),
    encoder_network(),
    prior_network(),
    emm_network(layer_count(SIZE)),
    directions_network(8, layer_count(SIZE)),
    latent_classifier_network(layer_count(SIZE)),
    regressor_network(8),
    text_network(96, 24),
    image_network(),
)
