"""Encoders, mappers, walks, ArcFace, CLIP and ResNets, rebuilt from the files people have.

Each function gives a module with the weights of a checkpoint, ready to be exported, and raises
ModelError, or KeyError for a tensor that is not there. Source of the names and of the scales that
are applied when the public code runs: encoder4editing, pixel2style2pixel, StyleCLIP, Latent2im,
InsightFace_Pytorch and CLIP on GitHub.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import groupby
from typing import Literal

import torch

from mien.engines.errors import ModelError
from mien.export.checkpoints.loading import load_strictly
from mien.export.checkpoints.reading import Checkpoint
from mien.export.checkpoints.stylegan2 import AVERAGE, generator_of, mapping_of
from mien.export.models.clip import ClipImage, ClipText, TowerSpec, causal_mask
from mien.export.models.irse import FACE, ArcFace, EncoderSpec, LatentEncoder, crop_shares
from mien.export.models.latent_edits import LEVELS, LatentMapper, Walk
from mien.export.models.resnet_outputs import ResNetOutputs, ResNetOutputsSpec
from mien.export.models.trunks import Shapes

State = Mapping[str, torch.Tensor]
Heads = Literal["e4e", "psp"]

HEADS: Mapping[str, Heads] = {"Encoder4Editing": "e4e", "GradualStyleEncoder": "psp"}
STYLE_LINEAR = re.compile(r"^styles\.\d+\.linear\.weight$")
MAPPER_WEIGHT = re.compile(r"\.mapping\.\d+\.(weight|bias)$")
MAPPER_RATE = 0.01
MOST_LAYERS, MOST_BLOCKS, MOST_DEPTH = 64, 256, 32
USUAL_LAYERS, CELEBA_ATTRIBUTES = 18, 40
LANDMARK_NUMBERS = 212
SKIPPED = {"course_mapping": "no_coarse_mapper", "medium_mapping": "no_medium_mapper",
           "fine_mapping": "no_fine_mapper"}  # fmt: skip
TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
MASK = re.compile(r"(^|\.)attn_mask$")


def is_encoder(shapes: Shapes) -> bool:
    """Whether the names are those of an e4e or pSp encoder."""
    return any(key.startswith("encoder.styles.") for key in shapes)


def encoder_of(
    checkpoint: Checkpoint, heads: Heads | None, where: str
) -> tuple[LatentEncoder, dict[str, str]]:
    """The encoder, and facts: what its heads give, and where the average code is from.

    heads: as asked for, None for what the file says of itself.
    """
    own = {
        key.removeprefix("encoder."): tensor
        for key, tensor in checkpoint.state.items()
        if key.startswith("encoder.")
    }
    kind = heads or _heads(checkpoint, where)
    for key in [key for key in own if STYLE_LINEAR.match(key)]:
        own[key] = own[key] / math.sqrt(own[key].shape[-1])
    layers = _count(own, "styles.{}.linear.weight", MOST_LAYERS)
    halvings = sum(key.startswith("styles.0.convs.") and key.endswith("weight") for key in own)
    spec = EncoderSpec(layers, kind == "e4e", _stages(own), 16 << min(halvings, 8))
    average, source = _encoder_average(checkpoint, spec, where)
    own["latent_avg"] = average
    facts = {"heads": kind, "average": source}
    return load_strictly(lambda: LatentEncoder(spec), own, where), facts


def _heads(checkpoint: Checkpoint, where: str) -> Heads:
    """What the heads of an encoder give, as the file's own options say."""
    said = checkpoint.facts.get("encoder_type")
    if said is not None and said in HEADS:
        return HEADS[said]
    told = "does not say" if said is None else f"says {said!r}, and not"
    raise ModelError(
        f"{where}, but its opts.encoder_type {told} whether its heads give deltas (e4e) or codes "
        "(pSp); add --encoder e4e or --encoder psp"
    )


def _stages(state: State, prefix: str = "body.") -> tuple[tuple[int, int], ...]:
    """Channels and blocks of each stage of an IR-SE trunk."""
    count = _count(state, prefix + "{}.res_layer.1.weight", MOST_BLOCKS)
    widths = [state[f"{prefix}{i}.res_layer.1.weight"].shape[0] for i in range(count)]
    stages = tuple((width, len(list(same))) for width, same in groupby(widths))
    if len(stages) != 4:
        raise ModelError(f"its trunk has {len(stages)} stages, where IR-SE50 has 4")
    return stages


def _encoder_average(
    checkpoint: Checkpoint, spec: EncoderSpec, where: str
) -> tuple[torch.Tensor, str]:
    """The code (layers, style) that is added to what the heads give, and where it is from."""
    shape = (spec.layers, spec.style)
    if checkpoint.facts.get("start_from_latent_avg", "True") == "False":
        return torch.zeros(shape), "none"
    stored = checkpoint.state.get(AVERAGE)
    if stored is not None:
        if stored.shape not in ((spec.style,), (1, spec.style), shape):
            raise ModelError(f"{where}, but its {AVERAGE} is {tuple(stored.shape)}, not {shape}")
        return stored.expand(shape).clone(), "stored"
    if not any(key.startswith("decoder.style.") for key in checkpoint.state):
        raise ModelError(
            f"{where}, but it holds no {AVERAGE}, to which its codes are added, and no generator "
            "to work it out from; take the whole file, with latent_avg"
        )
    mapping, source = mapping_of(generator_of(checkpoint, where))
    return mapping.average.expand(shape).clone(), source


def is_arcface(shapes: Shapes) -> bool:
    """Whether the names are those of an ArcFace IR-SE50."""
    return "input_layer.0.weight" in shapes and "output_layer.3.weight" in shapes


def arcface_of(checkpoint: Checkpoint, size: int, where: str) -> ArcFace:
    """The network for pictures of `size` pixels: 112, or 256 with the crop in the graph."""
    state: State = checkpoint.state
    stages, length = _stages(state), state["output_layer.3.weight"].shape[0]
    affine = "output_layer.4.weight" in state
    if size != FACE:
        state = dict(state) | crop_shares()
    return load_strictly(lambda: ArcFace(size, stages, length=length, affine=affine), state, where)


def is_mapper(shapes: Shapes) -> bool:
    """Whether the names are those of a StyleCLIP mapper."""
    return any(key.startswith("mapper.") for key in shapes)


def mapper_of(checkpoint: Checkpoint, where: str) -> LatentMapper:
    """A mapper with levels or without."""
    own = {
        key.removeprefix("mapper."): tensor * MAPPER_RATE
        / (math.sqrt(tensor.shape[-1]) if key.endswith("weight") else 1)
        for key, tensor in checkpoint.state.items()
        if key.startswith("mapper.") and MAPPER_WEIGHT.search(key)
    }  # fmt: skip
    if any(key.startswith("mapper_") for key in own):
        raise ModelError(
            f"{where} of style space, which edits 26 style vectors; mien export takes those of W+"
        )
    parts = {key.split(".", maxsplit=1)[0] for key in own}
    levels = tuple(name for name in LEVELS if name in parts)
    for name in levels:
        if checkpoint.facts.get(SKIPPED[name]) == "True":
            raise ModelError(f"{where}, but it holds {name} and its opts say {SKIPPED[name]}")
    first = next(iter(sorted(own)), None)
    if first is None or not (levels or "mapping" in parts):
        raise KeyError("mapper.mapping.mapping.1.weight")
    style = own[first].shape[-1]
    rgbs = _count(checkpoint.state, "decoder.to_rgbs.{}.conv.weight", MOST_DEPTH, least=0)
    layers = 2 * rgbs + 2 if rgbs else USUAL_LAYERS
    return load_strictly(lambda: LatentMapper(style, layers, levels), own, where)


def is_walk(shapes: Shapes) -> bool:
    """Whether there is nothing but the directions of a Latent2im walk."""
    return set(shapes) == {"w"} and len(shapes["w"]) == 3


def walk_of(checkpoint: Checkpoint, where: str) -> Walk:
    """The directions."""
    attributes, layers, style = checkpoint.state["w"].shape
    return load_strictly(lambda: Walk(attributes, layers, style), checkpoint.state, where)


def is_clip(shapes: Shapes) -> bool:
    """Whether the names are those of OpenAI's CLIP."""
    return "token_embedding.weight" in shapes or "visual.class_embedding" in shapes


def clip_text_of(checkpoint: Checkpoint, where: str) -> ClipText:
    """The tower of texts."""
    own = {
        key: tensor
        for key, tensor in checkpoint.state.items()
        if key.startswith(TEXT) and not MASK.search(key)
    }
    vocabulary, width = own["token_embedding.weight"].shape
    spec = TowerSpec(width, _blocks(own, ""), own["text_projection"].shape[1])
    context = own["positional_embedding"].shape[0]
    own["mask"] = causal_mask(context)
    return load_strictly(lambda: ClipText(spec, context=context, vocabulary=vocabulary), own, where)


def clip_image_of(checkpoint: Checkpoint, where: str) -> ClipImage:
    """The tower of pictures, in the ViT form."""
    own = {
        key.removeprefix("visual."): tensor
        for key, tensor in checkpoint.state.items()
        if key.startswith("visual.") and not MASK.search(key)
    }
    if "layer1.0.conv1.weight" in own:
        raise ModelError(f"{where} whose pictures go through a ResNet; mien export takes ViT forms")
    width, _, patch, _ = own["conv1.weight"].shape
    places = own["positional_embedding"].shape[0] - 1
    size = patch * math.isqrt(max(0, places))
    spec = TowerSpec(width, _blocks(own, ""), own["proj"].shape[1])
    return load_strictly(lambda: ClipImage(spec, patch=patch, size=size), own, where)


def _blocks(state: State, prefix: str) -> int:
    return _count(state, prefix + "transformer.resblocks.{}.ln_1.weight", MOST_BLOCKS)


def is_resnet(shapes: Shapes) -> bool:
    """Whether a ResNet gives as many numbers as 106 landmarks or CelebA's attributes have."""
    numbers = shapes.get("fc.weight", (0,))[0]
    return "layer1.0.conv1.weight" in shapes and numbers in (LANDMARK_NUMBERS, CELEBA_ATTRIBUTES)


def resnet_of(checkpoint: Checkpoint, where: str) -> ResNetOutputs:
    """A ResNet of torchvision's names."""
    spec = ResNetOutputsSpec.from_shapes(checkpoint.shapes)
    return load_strictly(lambda: ResNetOutputs(spec), checkpoint.state, where)


def _count(state: State, pattern: str, most: int, *, least: int = 1) -> int:
    """How many numbers from 0 give a name that is there. Raises KeyError for fewer than `least`."""
    count = 0
    while pattern.format(count) in state and count < most:
        count += 1
    if count < least:
        raise KeyError(pattern.format(0))
    return count
