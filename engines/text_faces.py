"""The networks that draw a face from a sentence, as they are declared.

Source: Fu et al., "Facial Expression Generation from Text with FaceCLIP", JCST 2025, and the family
it comes from: AttnGAN (CVPR 2018) and ControlGAN (NeurIPS 2019). A sentence has up to WORDS words;
`present` is 1 for each of them and 0 for what follows, and no word that is missing takes part in
any softmax, so a graph of one length says for every sentence what one of its own length would.
Pictures are RGB, float32 (n, 3, S, S), in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

from mien.engines.errors import ModelError
from mien.engines.network import Network, TensorSpec

ENCODER, GENERATOR, IMAGE_ENCODER = "text_encoder", "text_generator", "text_image_encoder"
TEXT_FACE_NAMES = (ENCODER, GENERATOR, IMAGE_ENCODER)
WORDS, WIDTH, NOISE = 25, 256, 100
SMALLEST = 64  # pixels a side of the first stage; each further one has twice as many
VOCABULARY_KEY = "mien.vocabulary"  # of the metadata: the words in the order of their tokens
PADDING, FIRST = 0, 1  # tokens; the words of a vocabulary are numbered from FIRST on
OWN_WORDS = 100  # tokens of mien's own recipe
SIGNED, UNIT = (-1.0, 1.0), (0.0, 1.0)


def encoder_network(
    vocabulary: int, *, length: int = WORDS, width: int = WIDTH, batch: int = 1
) -> Network:
    """Tokens, int64 (n, length) and PADDING after the last, to words and the sentence."""
    tokens = TensorSpec("tokens", (batch, length), "int64", (0.0, vocabulary - 1.0))
    return Network(ENCODER, (tokens,), _sentence(batch, width, length, SIGNED))


def generator_network(
    sizes: tuple[int, ...],
    attended: tuple[int, ...],
    *,
    noise: int = NOISE,
    condition: int = NOISE,
    width: int = WIDTH,
    batch: int = 1,
) -> Network:
    """Noise, the noise of the conditioning augmentation, and a sentence to pictures.

    sizes: of the pictures that it gives, `image_<size>`. attended: where its attention maps are
    from, `attention_<size>`: for each word where it is looked for, over all words 1.
    """
    inputs = (
        TensorSpec("z", (batch, noise)),
        TensorSpec("eps", (batch, condition)),
        *_sentence(batch, width, WORDS, None),
    )
    images = [TensorSpec(f"image_{s}", (batch, 3, s, s), range=SIGNED, colour="rgb") for s in sizes]
    maps = [TensorSpec(f"attention_{s}", (batch, WORDS, s, s), range=UNIT) for s in attended]
    return Network(GENERATOR, inputs, (*images, *maps))


def image_encoder_network(
    size: int = 256, *, regions: int = 17, width: int = WIDTH, batch: int = 1
) -> Network:
    """Pictures to codes near those of their sentences, and to features of their regions."""
    image = TensorSpec("image", (batch, 3, size, size), range=SIGNED, colour="rgb")
    outputs = (
        TensorSpec("code", (batch, width)),
        TensorSpec("regions", (batch, width, regions, regions)),
    )
    return Network(IMAGE_ENCODER, (image,), outputs)


def stage_sizes(stages: int) -> tuple[int, ...]:
    """Pixels a side of the picture of each stage."""
    return tuple(SMALLEST << stage for stage in range(stages))


def picture_name(network: Network) -> str:
    """The name of the largest picture that a generator gives. Raises ModelError."""
    images = [spec for spec in network.outputs if spec.name.startswith("image_")]
    if not images:
        raise ModelError(f"{network.name} gives no picture; export it again with mien export")
    return max(images, key=lambda spec: spec.shape[-1]).name


def shapes_of(network: Network) -> Mapping[str, tuple[int, ...]]:
    """The shapes of all that a network takes and gives, by name."""
    return {spec.name: spec.shape for spec in (*network.inputs, *network.outputs)}


def _sentence(
    batch: int, width: int, length: int, limits: tuple[float, float] | None
) -> tuple[TensorSpec, TensorSpec, TensorSpec]:
    return (
        TensorSpec("words", (batch, width, length), range=limits),
        TensorSpec("sentence", (batch, width), range=limits),
        TensorSpec("present", (batch, length), range=UNIT),
    )


# The recipe's usual sizes; a graph states its own.
TEXT_FACES = (
    encoder_network(OWN_WORDS),
    generator_network(stage_sizes(3), stage_sizes(2)),
    image_encoder_network(regions=8),
)
