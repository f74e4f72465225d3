"""What the numbers of labels and the channels of parsers mean, where public files agree on it.

What a checkpoint's network is declared to be: its name, its tensors, and the facts beside them.

The declaration and the facts are written into the graph, and the filter reads them there.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mien.engines.errors import UsageError
from mien.engines.network import Network
from mien.engines.networks import (
    FACE_PARSER_NAME,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MODES,
    PARSER_SIZE,
    PARTS,
    SHIPPED_CLASSES,
    SIZE,
    cyclegan_network,
    parser_network,
    stargan_network,
)
from mien.export.checkpoints.formats import Source
from mien.export.checkpoints.names import class_names, direction, label_names
from mien.export.latent_formats import LatentFormat
from mien.export.models.gans import CycleGanGenerator, StarGanGenerator
from mien.export.models.parsers import BiSeNet, BiSeNetSpec, DeepLab, DeepLabSpec
from mien.export.options import NETWORK_NAMES, Options

PUBLIC_STARGAN_SIZE, PUBLIC_CYCLEGAN_SIZE = 128, 256
LEAST_SIZE, MOST_SIZE, MOST_BATCH = 16, 2048, 64
# What a side must be a multiple of: the generators halve twice, the parsers up to five times.
GENERATOR_STEP, PARSER_STEP = 4, 32
PART_LABELS = {"eye", "nose", "mouth"}
PAPER_OF_KIND = {
    "stargan": "StarGAN (CVPR 2018)",
    "cyclegan": "CycleGAN (ICCV 2017)",
    "deeplabv3": "DeepLabV3 (arXiv 1706.05587)",
    "bisenet": "BiSeNet (ECCV 2018)",
}


@dataclass(frozen=True, slots=True)
class Declaration:
    """A network with the facts that go into its graph."""

    network: Network
    facts: dict[str, str]


def declare(source: Source, options: Options) -> Declaration:
    """The network that a checkpoint becomes. Raises UsageError for options that do not fit it."""
    if source.prepared is not None:
        assert isinstance(source.format, LatentFormat)
        said = {"source": source.format.name, "paper": source.format.paper, "colour": "rgb"}
        return Declaration(source.prepared.network, said | source.prepared.facts)
    for option, value in (
        ("--noise", options.noise),
        ("--attributes", options.attributes),
        ("--encoder", options.encoder),
    ):
        _refuse(options, option, value)
    _refuse(options, "--precision", options.precision != "fp32")
    name = _name(source, options)
    facts = {
        "source": source.format.name,
        "paper": PAPER_OF_KIND[source.format.name],
        "colour": options.colour,
    }
    if isinstance(source.module, StarGanGenerator):
        network, own = _stargan(name, source.module, options)
    elif isinstance(source.module, CycleGanGenerator):
        network, own = _cyclegan(name, source.module, options)
    else:
        network, own = _parser(source.module, options)
    return Declaration(network, facts | own)


def _stargan(
    name: str, module: StarGanGenerator, options: Options
) -> tuple[Network, dict[str, str]]:
    _refuse(options, "--classes", options.classes or options.class_order)
    labels = label_names(options.labels, module.spec.labels)
    usual = PUBLIC_STARGAN_SIZE if module.spec.upsampling == "deconv" else SIZE
    network = stargan_network(
        name,
        labels=module.spec.labels,
        batch=_batch(name, options),
        size=_side(options.size or usual, GENERATOR_STEP),
    )
    return network, {"labels": ",".join(labels), "norm": "instance"}


def _cyclegan(
    name: str, module: CycleGanGenerator, options: Options
) -> tuple[Network, dict[str, str]]:
    _refuse(options, "--classes", options.classes or options.class_order)
    usual = PUBLIC_CYCLEGAN_SIZE if module.spec.upsampling == "deconv" else SIZE
    network = cyclegan_network(
        name,
        batch=_batch(name, options),
        size=_side(options.size or usual, GENERATOR_STEP),
    )
    return network, {"labels": direction(options.labels), "norm": "instance"}


def _parser(module: nn.Module, options: Options) -> tuple[Network, dict[str, str]]:
    _refuse(options, "--labels", options.labels)
    _refuse(options, "--activation", options.activation)
    if options.batch not in (None, 1):
        raise UsageError(f"a face parser takes one picture at once, not {options.batch}")
    assert isinstance(module, (DeepLab, BiSeNet))
    given = options.classes
    if given is None and options.class_order is None and _is_student(module.spec):
        given = SHIPPED_CLASSES
    default = "zllrunning" if isinstance(module, BiSeNet) else None
    names = class_names(given, options.class_order, default, module.spec.classes)
    network = parser_network(
        classes=len(names), size=_side(options.size or PARSER_SIZE, PARSER_STEP)
    )
    return network, {
        "classes": ",".join(names),
        "mean": ",".join(map(str, IMAGENET_MEAN)),
        "std": ",".join(map(str, IMAGENET_STD)),
    }


def _is_student(spec: DeepLabSpec | BiSeNetSpec) -> bool:
    """Whether a parser is of the recipe that makes the shipped one: only its files hold a plan."""
    return (
        isinstance(spec, DeepLabSpec) and bool(spec.plan) and spec.classes == len(SHIPPED_CLASSES)
    )


def _name(source: Source, options: Options) -> str:
    """The name of the network, as asked for or the usual one of its kind."""
    kind = source.format.kind
    fitting = [name for name in NETWORK_NAMES if name.startswith(kind)]
    if options.network is not None:
        if options.network not in fitting:
            raise UsageError(
                f"{options.checkpoint} looks like {source.format.words}, which cannot become "
                f"{options.network}; leave --network out, or give {' or '.join(fitting)}"
            )
        return options.network
    if kind == "face_parser":
        return FACE_PARSER_NAME
    mode = "parts" if set(options.labels or ()) >= PART_LABELS else MODES[0]
    return f"{kind}_{mode}"


def _batch(name: str, options: Options) -> int:
    batch = options.batch or (PARTS if name.endswith("_parts") else 1)
    if batch > MOST_BATCH:
        raise UsageError(f"--batch must lie in 1..{MOST_BATCH}, not {batch}")
    return batch


def _side(size: int, step: int) -> int:
    if size % step or not LEAST_SIZE <= size <= MOST_SIZE:
        raise UsageError(
            f"--size {size}: this network takes multiples of {step} in {LEAST_SIZE}..{MOST_SIZE}"
        )
    return size


def _refuse(options: Options, option: str, value: object) -> None:
    if value:
        raise UsageError(f"{option} says nothing about {options.checkpoint}; leave it out")
