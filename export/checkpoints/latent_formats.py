"""The networks of the latent papers in checkpoints: what each becomes, and how it is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import nn

from mien.engines.errors import UsageError
from mien.engines.face_space import (
    ARCFACE,
    CLIP_IMAGE,
    CLIP_TEXT,
    DIRECTIONS,
    ENCODER,
    GENERATOR,
    IMAGE_OF_CODE,
    IMAGE_OF_DRAW,
    LANDMARKS_106,
    MAPPER,
    MAPPING,
    REGRESSOR,
    arcface_network,
    clip_image_network,
    clip_text_network,
    directions_network,
    encoder_network,
    generator_network,
    image_of_code_network,
    image_of_draw_network,
    landmarks_106_network,
    mapper_network,
    mapping_network,
    regressor_network,
)
from mien.engines.network import Network
from mien.export.checkpoints.latents import (
    CELEBA_ATTRIBUTES,
    LANDMARK_NUMBERS,
    arcface_of,
    clip_image_of,
    clip_text_of,
    encoder_of,
    is_arcface,
    is_clip,
    is_encoder,
    is_mapper,
    is_resnet,
    is_walk,
    mapper_of,
    resnet_of,
    walk_of,
)
from mien.export.checkpoints.names import celeba_attributes
from mien.export.checkpoints.reading import Checkpoint
from mien.export.checkpoints.stylegan2 import (
    Generator,
    generator_of,
    is_stylegan2,
    mapping_of,
    synthesis_of,
)
from mien.export.models.irse import ALIGNED, FACE
from mien.export.models.stylegan2_public import ImageOfCode, ImageOfDraw
from mien.export.models.trunks import Shapes
from mien.export.options import Options
from mien.export.parity import Allowed, Example, generator_examples

# Images are compared by how far they are apart, codes by how far for their size.
IMAGES, CODES = Allowed(1e-4), Allowed(1e-3)
# FP16 rounds each of some twenty layers by 2**-11 of its values.
HALF_IMAGES = Allowed(0.1)
DRAWS = 2  # examples of codes as they are, beside the random inputs of every export
MOST_BATCH = 64


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network read from a checkpoint, with all that its export says of it.

    facts: for the graph's metadata. allowed: how far ONNX Runtime may be from it. examples: inputs
    to compare with beside random ones; `{name: array}` as they are fed.
    """

    module: nn.Module
    network: Network
    facts: dict[str, str]
    allowed: Allowed
    examples: Sequence[Example] = field(default=())


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """A form of checkpoint that becomes one of several networks.

    name: for the metadata. words: for people. paper: where the network is from. networks: the names
    of what it may become, the usual one first. fits: tells it by names and shapes. build: makes
    what is asked for, from the checkpoint, the options, the network's name and a beginning for
    messages.
    """

    name: str
    words: str
    paper: str
    networks: tuple[str, ...]
    fits: Callable[[Shapes], bool]
    build: Callable[[Checkpoint, Options, str, str], Prepared]
    kind: Literal["latent"] = "latent"


def prepare(form: LatentFormat, checkpoint: Checkpoint, options: Options, where: str) -> Prepared:
    """The network that a checkpoint becomes. Raises UsageError, ModelError, KeyError."""
    name = options.network or form.networks[0]
    if name not in form.networks:
        raise UsageError(
            f"{options.checkpoint} looks like {form.words}, which cannot become {name}; leave "
            f"--network out, or give {' or '.join(form.networks)}"
        )
    for option, value in (
        ("--labels", options.labels),
        ("--classes", options.classes or options.class_order),
        ("--activation", options.activation),
    ):
        if value:
            raise UsageError(f"{option} says nothing about {options.checkpoint}; leave it out")
    if options.vocabulary is not None and form.name != "damsm_text":
        raise UsageError(f"--vocabulary says nothing about {options.checkpoint}; leave it out")
    if (options.batch or 1) > MOST_BATCH:
        raise UsageError(f"--batch must lie in 1..{MOST_BATCH}, not {options.batch}")
    if options.precision == "fp16" and form.name != "stylegan2":
        raise UsageError("--precision fp16 is for StyleGAN2; calibrate the others: mien calibrate")
    return form.build(checkpoint, options, name, where)


def no_size(options: Options) -> None:
    """Raise UsageError where a size was asked for of a network that has its own."""
    if options.size is not None:
        raise UsageError(
            f"--size says nothing about {options.checkpoint}, whose network has its own; leave it "
            "out"
        )


def build_stylegan2(checkpoint: Checkpoint, options: Options, name: str, where: str) -> Prepared:
    """A generator or a part of it. Raises UsageError, ModelError, KeyError."""
    no_size(options)
    generator = generator_of(checkpoint, where)
    batch = options.batch or 1
    facts = {"container": checkpoint.facts.get("container", "rosinality")}
    if name == MAPPING:
        mapping, average = mapping_of(generator)
        network = mapping_network(z_dim=mapping.z_dim, style_dim=mapping.style_dim, batch=batch)
        return Prepared(mapping, network, facts | {"average": average}, CODES, _draws(network))
    return _with_images(generator, options, name, facts)


def _with_images(
    generator: Generator, options: Options, name: str, facts: dict[str, str]
) -> Prepared:
    half, batch = options.precision == "fp16", options.batch or 1
    synthesis, noise = synthesis_of(generator, options.noise, half=half)
    spec = synthesis.spec
    facts |= {"noise": noise, "precision": options.precision}
    if spec.clamp is not None:
        facts["clamp"] = f"{spec.clamp:g}"
    module: nn.Module = synthesis
    network = generator_network(spec.size, colours=3, style_dim=spec.style_dim, batch=batch)
    if name == IMAGE_OF_CODE:
        module = ImageOfCode(synthesis)
        network = image_of_code_network(spec.size, style_dim=spec.style_dim, batch=batch)
    elif name == IMAGE_OF_DRAW:
        mapping, facts["average"] = mapping_of(generator)
        module = ImageOfDraw(mapping, synthesis)
        network = image_of_draw_network(spec.size, z_dim=mapping.z_dim, batch=batch)
    return Prepared(module, network, facts, HALF_IMAGES if half else IMAGES, _draws(network))


def build_encoder(checkpoint: Checkpoint, options: Options, name: str, where: str) -> Prepared:
    """An e4e or pSp encoder, or the generator that its file also holds."""
    if name != ENCODER:
        return build_stylegan2(checkpoint, options, name, where)
    no_size(options)
    encoder, facts = encoder_of(checkpoint, options.encoder, where)
    spec = encoder.spec
    network = encoder_network(
        spec.layers, seen=spec.size, colours=3, style_dim=spec.style, batch=options.batch or 1
    )
    examples = generator_examples(network, "rgb")[:DRAWS]  # each takes seconds
    return Prepared(encoder, network, facts, CODES, examples)


def build_arcface(checkpoint: Checkpoint, options: Options, _: str, where: str) -> Prepared:
    """ArcFace, for FFHQ-aligned pictures unless `--size 112` asks for faces as it cuts them."""
    size = options.size or ALIGNED
    if size not in (FACE, ALIGNED):
        raise UsageError(
            f"--size {size}: an ArcFace takes {FACE}, or {ALIGNED} with the crop in it"
        )
    module = arcface_of(checkpoint, size, where)
    length = module.length
    network = arcface_network(size, length=length, batch=options.batch or 1)
    return Prepared(module, network, {}, IMAGES, generator_examples(network, "rgb"))


def build_mapper(checkpoint: Checkpoint, options: Options, name: str, where: str) -> Prepared:
    """A StyleCLIP mapper, or the generator that its file also holds."""
    if name != MAPPER:
        return build_stylegan2(checkpoint, options, name, where)
    no_size(options)
    mapper = mapper_of(checkpoint, where)
    network = mapper_network(mapper.layers, style_dim=mapper.style, batch=options.batch or 1)
    facts = {"levels": ",".join(mapper.levels) or "all", "norm": "over layers"}
    if "description" in checkpoint.facts:
        facts["prompt"] = checkpoint.facts["description"]
    return Prepared(mapper, network, facts, CODES, _draws(network))


def build_walk(checkpoint: Checkpoint, options: Options, _: str, where: str) -> Prepared:
    """The directions of a Latent2im walk."""
    no_size(options)
    walk = walk_of(checkpoint, where)
    names = celeba_attributes(options.attributes, walk.attributes)
    network = directions_network(
        walk.attributes, walk.layers, style_dim=walk.style, batch=options.batch or 1
    )
    return Prepared(walk, network, {"attributes": ",".join(names)}, CODES, _draws(network))


def build_clip(checkpoint: Checkpoint, options: Options, name: str, where: str) -> Prepared:
    """One of the two towers of CLIP."""
    no_size(options)
    batch = options.batch or 1
    if name == CLIP_TEXT:
        text = clip_text_of(checkpoint, where)
        network = clip_text_network(
            context=text.context,
            width=text.spec.embedding,
            vocabulary=text.vocabulary,
            batch=batch,
        )
        examples = [_tokens(network, text.vocabulary, seed) for seed in range(DRAWS)]
        return Prepared(text, network, {}, CODES, examples)
    image = clip_image_of(checkpoint, where)
    network = clip_image_network(size=image.size, width=image.spec.embedding, batch=batch)
    facts = {"mean": CLIP_MEAN, "std": CLIP_STD}
    return Prepared(image, network, facts, CODES, generator_examples(network, "rgb"))


def build_resnet(checkpoint: Checkpoint, options: Options, name: str, where: str) -> Prepared:
    """A ResNet that gives landmarks or attributes."""
    module = resnet_of(checkpoint, where)
    count = module.spec.outputs
    fitting = {LANDMARK_NUMBERS: LANDMARKS_106, CELEBA_ATTRIBUTES: REGRESSOR}[count]
    if options.network is not None and name != fitting:
        raise UsageError(
            f"{options.checkpoint} gives {count} numbers and cannot become {name}; leave --network "
            "out"
        )
    size, batch = options.size or ALIGNED, options.batch or 1
    if fitting == REGRESSOR:
        network = regressor_network(count, seen=size, colours=3, batch=batch)
    else:
        network = landmarks_106_network(count, size=size, batch=batch)
    facts = {"trunk": module.spec.name}
    if fitting == REGRESSOR:
        facts["attributes"] = ",".join(celeba_attributes(options.attributes, count))
    return Prepared(module, network, facts, CODES, generator_examples(network, "rgb"))


def _draws(network: Network) -> list[Example]:
    """Codes or draws as they are: normal, of deviation 1; other inputs within their range."""
    rng = np.random.default_rng(1)
    examples = []
    for number in range(DRAWS):
        feeds = {
            spec.name: rng.standard_normal(spec.shape, np.float32)
            if spec.range is None
            else np.full(spec.shape, spec.range[1], np.float32)
            for spec in network.inputs
        }
        examples.append(Example(f"normal draw {number}", feeds))
    return examples


def _tokens(network: Network, vocabulary: int, seed: int) -> Example:
    """Texts of different lengths: a beginning, words, an end, and zeros."""
    rng = np.random.default_rng(seed)
    tokens = np.zeros(network.inputs[0].shape, np.int64)
    for row in tokens:
        words = int(rng.integers(1, len(row) - 1))
        row[0], row[words + 1 :][:1] = vocabulary - 2, vocabulary - 1
        row[1 : words + 1] = rng.integers(1, vocabulary - 2, words)
    return Example(f"text {seed}", {"tokens": tokens})


GENERATOR_NETWORKS = (GENERATOR, MAPPING, IMAGE_OF_CODE, IMAGE_OF_DRAW)
CLIP_MEAN = "0.48145466,0.4578275,0.40821073"
CLIP_STD = "0.26862954,0.26130258,0.27577711"

# First match: the files of encoders and mappers hold a generator too.
LATENT_FORMATS: tuple[LatentFormat, ...] = (
    LatentFormat(
        "encoder",
        "an e4e or pSp encoder",
        "e4e (SIGGRAPH 2021), pSp (CVPR 2021)",
        (ENCODER, *GENERATOR_NETWORKS),
        is_encoder,
        build_encoder,
    ),
    LatentFormat(
        "styleclip",
        "a StyleCLIP mapper",
        "StyleCLIP (ICCV 2021)",
        (MAPPER, *GENERATOR_NETWORKS),
        is_mapper,
        build_mapper,
    ),
    LatentFormat(
        "stylegan2",
        "a StyleGAN2 generator",
        "StyleGAN2 (CVPR 2020)",
        GENERATOR_NETWORKS,
        is_stylegan2,
        build_stylegan2,
    ),
    LatentFormat(
        "arcface",
        "an ArcFace IR-SE50",
        "ArcFace (CVPR 2019)",
        (ARCFACE,),
        is_arcface,
        build_arcface,
    ),
    LatentFormat(
        "latent2im",
        "a walk of Latent2im",
        "Enjoy Your Editing (ICLR 2021)",
        (DIRECTIONS,),
        is_walk,
        build_walk,
    ),
    LatentFormat(
        "clip",
        "a CLIP of OpenAI",
        "CLIP (ICML 2021)",
        (CLIP_TEXT, CLIP_IMAGE),
        is_clip,
        build_clip,
    ),
    LatentFormat(
        "resnet",
        "a ResNet of landmarks or attributes",
        "ResNet (CVPR 2016)",
        (LANDMARKS_106, REGRESSOR),
        is_resnet,
        build_resnet,
    ),
)
