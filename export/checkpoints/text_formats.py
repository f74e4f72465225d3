"""The networks that draw a face from a sentence, in the files people have.

`text_encoder*.pth`, `image_encoder*.pth` and `netG_epoch_*.pth` of FaceCLIP, ControlGAN and
AttnGAN; the sizes are read from the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch

from mien.engines.errors import ModelError, UsageError
from mien.engines.network import Network
from mien.engines.text_faces import (
    ENCODER,
    FIRST,
    GENERATOR,
    IMAGE_ENCODER,
    VOCABULARY_KEY,
    WORDS,
    encoder_network,
    generator_network,
    image_encoder_network,
    stage_sizes,
)
from mien.export.checkpoints.captions import read_vocabulary
from mien.export.checkpoints.latent_formats import CODES, IMAGES, LatentFormat, Prepared, no_size
from mien.export.checkpoints.loading import load_strictly, without
from mien.export.checkpoints.reading import Checkpoint
from mien.export.models.inception import CODE_WIDTH, InceptionEncoder
from mien.export.models.text_faces import GeneratorSpec, TextEncoder, TextGenerator, merged
from mien.export.models.trunks import Shapes
from mien.export.options import Options
from mien.export.parity import Example, generator_examples

MOST_STAGES, MOST_RESIDUALS = 3, 16
# What the public code makes in every stage and never uses.
UNUSED = re.compile(
    r"^h_net[23]\.att\.conv_context[23]\."
    r"|^h_net2\.channel_att\.conv_context3\.|^h_net3\.channel_att\.conv_context2\."
)
LENGTHS = (1, 7, WORDS)  # of the sentences that a generator is compared with


def is_encoder(shapes: Shapes) -> bool:
    """Whether the names are those of DAMSM's text encoder."""
    return "rnn.weight_ih_l0" in shapes and "encoder.weight" in shapes


def build_encoder(checkpoint: Checkpoint, options: Options, _: str, where: str) -> Prepared:
    """A text encoder with its vocabulary. Raises UsageError, ModelError, KeyError."""
    no_size(options)
    count, embedding = checkpoint.state["encoder.weight"].shape
    gates, hidden = checkpoint.state["rnn.weight_hh_l0"].shape
    if gates != 4 * hidden:
        raise ModelError(f"{where}, but it is a GRU; mien export takes LSTMs, the public default")
    encoder = load_strictly(lambda: TextEncoder(count, embedding, hidden), checkpoint.state, where)
    if options.vocabulary is None:
        raise UsageError(
            f"{where}, whose file does not say which words its {count} tokens are; add "
            "--vocabulary captions.pickle, the file it was trained with"
        )
    words = read_vocabulary(options.vocabulary, limit=options.max_memory)
    if len(words) + FIRST != count:
        raise UsageError(
            f"{options.vocabulary} has {len(words) + FIRST} tokens and {options.checkpoint} has "
            f"{count}; give the captions.pickle that it was trained with"
        )
    network = encoder_network(count, width=encoder.width, batch=options.batch or 1)
    facts = {VOCABULARY_KEY.removeprefix("mien."): " ".join(words)}
    return Prepared(encoder, network, facts, CODES, [_tokens(network, n) for n in LENGTHS])


def is_generator(shapes: Shapes) -> bool:
    """Whether the names are those of the generator of FaceCLIP, ControlGAN or AttnGAN."""
    return any(key.startswith("h_net1.") for key in shapes) and "ca_net.fc.weight" in shapes


def generator_spec(state: Mapping[str, torch.Tensor]) -> GeneratorSpec:
    """The sizes of a generator. Raises KeyError for a tensor that is missing."""
    is_single = "img_net.img.0.weight" in state
    head = state["img_net.img.0.weight" if is_single else "img_net1.img.0.weight"]
    four_times, nef = state["ca_net.fc.weight"].shape
    condition = four_times // 4
    stages = 1
    while f"h_net{stages + 1}.att.conv_context.weight" in state and stages < MOST_STAGES:
        stages += 1
    residuals = 0
    while f"h_net2.residual.{residuals}.block.0.weight" in state and residuals < MOST_RESIDUALS:
        residuals += 1
    return GeneratorSpec(
        ngf=head.shape[1],
        nef=nef,
        condition=condition,
        noise=state["h_net1.fc.0.weight"].shape[1] - condition,
        residuals=residuals,
        stages=stages,
        has_channels=any(key.startswith("h_net2.channel_att.") for key in state),
        is_single=is_single,
    )


def build_generator(checkpoint: Checkpoint, options: Options, _: str, where: str) -> Prepared:
    """A generator without its unused weights. Raises UsageError, ModelError, KeyError."""
    no_size(options)
    state = without(UNUSED, checkpoint.state)
    spec = generator_spec(state)
    generator = merged(load_strictly(lambda: TextGenerator(spec), state, where))
    network = network_of(spec, batch=options.batch or 1)
    left = sum(checkpoint.state[key].numel() for key in checkpoint.state.keys() - state.keys())
    facts = {"unused_weights": f"{left} left out", "channel_attention": str(spec.has_channels)}
    return Prepared(generator, network, facts, IMAGES, sentence_examples(network))


def network_of(spec: GeneratorSpec, *, batch: int = 1) -> Network:
    """The declaration of a generator of these sizes."""
    return generator_network(
        spec.image_sizes,
        stage_sizes(spec.stages - 1),
        noise=spec.noise,
        condition=spec.condition,
        width=spec.nef,
        batch=batch,
    )


def is_image_encoder(shapes: Shapes) -> bool:
    """Whether the names are those of DAMSM's image encoder."""
    return "emb_cnn_code.weight" in shapes and any(key.startswith("Mixed_5b.") for key in shapes)


def build_image_encoder(checkpoint: Checkpoint, options: Options, _: str, where: str) -> Prepared:
    """An image encoder, for pictures of 256 pixels or what --size says."""
    width, inputs = checkpoint.state["emb_cnn_code.weight"].shape
    if inputs != CODE_WIDTH:
        raise ModelError(f"{where}, but it is no Inception v3; mien export takes the public form")
    encoder = load_strictly(lambda: InceptionEncoder(width), checkpoint.state, where)
    network = image_encoder_network(options.size or 256, width=width, batch=options.batch or 1)
    return Prepared(encoder, network, {}, CODES, generator_examples(network, "rgb")[:2])


def sentence_examples(network: Network) -> list[Example]:
    """Normal draws with words of a real size, for sentences of different lengths."""
    rng = np.random.default_rng(2)
    examples = []
    for length in LENGTHS:
        feeds = {s.name: rng.standard_normal(s.shape, np.float32) for s in network.inputs}
        feeds["present"] = (
            (np.arange(WORDS) < length).astype(np.float32)[None].repeat(len(feeds["z"]), 0)
        )
        feeds["words"] = 0.4 * feeds["words"] * feeds["present"][:, None]
        feeds["sentence"] = 0.4 * feeds["sentence"]
        examples.append(Example(f"a sentence of {length} words", feeds))
    return examples


def _tokens(network: Network, length: int) -> Example:
    """A sentence of `length` words, padded."""
    spec = network.inputs[0]
    assert spec.range is not None
    tokens = np.zeros(spec.shape, np.int64)
    rng = np.random.default_rng(length)
    tokens[:, :length] = rng.integers(FIRST, int(spec.range[1]) + 1, (len(tokens), length))
    return Example(f"a sentence of {length} words", {"tokens": tokens})


FACECLIP = "FaceCLIP (JCST 2025)"
TEXT_FORMATS: tuple[LatentFormat, ...] = (
    LatentFormat(
        "damsm_text", "a DAMSM text encoder", FACECLIP, (ENCODER,), is_encoder, build_encoder
    ),
    LatentFormat(
        "faceclip",
        "a FaceCLIP or AttnGAN generator",
        FACECLIP,
        (GENERATOR,),
        is_generator,
        build_generator,
    ),
    LatentFormat(
        "damsm_image",
        "a DAMSM image encoder",
        FACECLIP,
        (IMAGE_ENCODER,),
        is_image_encoder,
        build_image_encoder,
    ),
)
