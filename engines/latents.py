"""The networks of the papers that edit in a latent space, as they are declared.

Their sizes are those of the user's own checkpoints, so whoever opens one gives its name and reads
the rest from what its graph states. Codes are float32 (n, layers, 512), in W+, the average added;
pictures are RGB, float32 (n, 3, S, S), in [-1, 1] unless a function says otherwise.
"""

from __future__ import annotations

from mien.engines.network import Network, TensorSpec

SYNTHESIS, MAPPING = "stylegan2_synthesis", "stylegan2_mapping"
IMAGE_OF_CODE, IMAGE_OF_DRAW = "stylegan2_w", "stylegan2_z"
ENCODER = "latent_encoder"
MAPPER = "latent_mapper"
WALK = "latent_walk"
ARCFACE = "arcface"
LANDMARKS_106 = "landmarks_resnet"
ATTRIBUTES = "attribute_regressor"
CLIP_TEXT, CLIP_IMAGE = "clip_text", "clip_image"
LATENT_NAMES = (
    *(SYNTHESIS, MAPPING, IMAGE_OF_CODE, IMAGE_OF_DRAW, ENCODER, MAPPER, WALK),
    *(ARCFACE, LANDMARKS_106, ATTRIBUTES, CLIP_TEXT, CLIP_IMAGE),
)
SIGNED = (-1.0, 1.0)
PSI = (0.0, 1.0)  # the truncations that were meant; others extrapolate
STRENGTH = (-2.0, 2.0)
VOCABULARY = 49408  # of CLIP; the last two tokens are the beginning and the end of a text


def synthesis_network(size: int, *, layers: int, style_dim: int = 512, batch: int = 1) -> Network:
    """Codes to images; images are nominally in [-1, 1] and not clamped."""
    codes = TensorSpec("codes", (batch, layers, style_dim))
    return Network(SYNTHESIS, (codes,), (_generated(size, batch),))


def mapping_network(*, z_dim: int = 512, style_dim: int = 512, batch: int = 1) -> Network:
    """Draws of a normal distribution to codes of W, drawn towards the average by psi (1,)."""
    w = TensorSpec("w", (batch, style_dim))
    return Network(MAPPING, _draw(z_dim, batch), (w,))


def image_of_code_network(size: int, *, style_dim: int = 512, batch: int = 1) -> Network:
    """One code of W for all layers to images."""
    w = TensorSpec("w", (batch, style_dim))
    return Network(IMAGE_OF_CODE, (w,), (_generated(size, batch),))


def image_of_draw_network(size: int, *, z_dim: int = 512, batch: int = 1) -> Network:
    """Draws of a normal distribution, truncated by psi, to images."""
    return Network(IMAGE_OF_DRAW, _draw(z_dim, batch), (_generated(size, batch),))


def encoder_network(
    *, layers: int, size: int = 256, style_dim: int = 512, batch: int = 1
) -> Network:
    """Aligned faces to codes."""
    return Network(
        ENCODER, (_picture(size, batch),), (TensorSpec("codes", (batch, layers, style_dim)),)
    )


def mapper_network(*, layers: int, style_dim: int = 512, batch: int = 1) -> Network:
    """Codes to edited codes; strength (1,), 1 as published."""
    codes = TensorSpec("codes", (batch, layers, style_dim))
    strength = TensorSpec("strength", (1,), range=STRENGTH)
    edited = TensorSpec("edited", (batch, layers, style_dim))
    return Network(MAPPER, (codes, strength), (edited,))


def walk_network(*, attributes: int, layers: int, style_dim: int = 512, batch: int = 1) -> Network:
    """Codes to codes moved by steps (n, attributes) along a direction for each attribute.

    mask: (layers,), how much of the move each layer takes, ones for all of it.
    """
    codes = TensorSpec("codes", (batch, layers, style_dim))
    steps = TensorSpec("steps", (batch, attributes), range=SIGNED)
    mask = TensorSpec("mask", (layers,), range=(0.0, 1.0))
    edited = TensorSpec("edited", (batch, layers, style_dim))
    return Network(WALK, (codes, steps, mask), (edited,))


def arcface_network(size: int, *, length: int = 512, batch: int = 1) -> Network:
    """Faces to embeddings of unit length: of 112 pixels, or FFHQ-aligned ones of 256."""
    embedding = TensorSpec("embedding", (batch, length), range=SIGNED)
    return Network(ARCFACE, (_picture(size, batch),), (embedding,))


def numbers_network(name: str, count: int, *, size: int = 256, batch: int = 1) -> Network:
    """Faces to numbers: LANDMARKS_106 or ATTRIBUTES."""
    output = "landmarks" if name == LANDMARKS_106 else "attributes"
    return Network(name, (_picture(size, batch),), (TensorSpec(output, (batch, count)),))


def clip_text_network(
    *, context: int = 77, width: int = 512, vocabulary: int = VOCABULARY, batch: int = 1
) -> Network:
    """Tokens int64 (n, context) to features, not of unit length."""
    most = float(vocabulary - 1)
    tokens = TensorSpec("tokens", (batch, context), dtype="int64", range=(0.0, most))
    return Network(CLIP_TEXT, (tokens,), (TensorSpec("features", (batch, width)),))


def clip_image_network(*, size: int = 224, width: int = 512, batch: int = 1) -> Network:
    """Pictures normalised by CLIP's mean and deviation to features, not of unit length."""
    image = TensorSpec("image", (batch, 3, size, size), colour="rgb")
    return Network(CLIP_IMAGE, (image,), (TensorSpec("features", (batch, width)),))


def _picture(size: int, batch: int) -> TensorSpec:
    return TensorSpec("image", (batch, 3, size, size), range=SIGNED, colour="rgb")


def _generated(size: int, batch: int) -> TensorSpec:
    return TensorSpec("image", (batch, 3, size, size), colour="rgb")


def _draw(z_dim: int, batch: int) -> tuple[TensorSpec, TensorSpec]:
    return TensorSpec("z", (batch, z_dim)), TensorSpec("psi", (1,), range=PSI)
