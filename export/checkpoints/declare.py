"""What a checkpoint's network is declared to be: its name, its tensors, and the facts beside them.

The declaration and the facts are written into the graph, and the filter reads them there. What the
numbers of labels and the channels of parsers mean is known where public files agree on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mien.engines.diffusion import (
    CONDITIONS,
    FER2013_LABELS,
    UNetFacts,
    encoder_name,
    encoder_network,
    unet_name,
    unet_network,
)
from mien.engines.diffusion import SIZE as DIFFUSION_SIZE
from mien.engines.errors import ModelError, UsageError
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
from mien.export.checkpoints.diffusion import condition_of
from mien.export.checkpoints.formats import Source
from mien.export.checkpoints.latent_formats import LatentFormat
from mien.export.checkpoints.names import class_names, direction, label_names
from mien.export.models.diffusion import LABELS, PaperUNet
from mien.export.models.diffusion_encoders import CnnEncoder, VaeEncoder
from mien.export.models.gans import CycleGanGenerator, StarGanGenerator
from mien.export.models.parsers import BiSeNet, BiSeNetSpec, DeepLab, DeepLabSpec
from mien.export.models.small_unet import SmallUNet
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
} | dict.fromkeys(
    ("paper_unet", "small_unet", "diffusion_vae", "diffusion_cnn"),
    "Facial Expression Manipulation with Conditional Diffusion Model",
)
GUIDED = 2  # rows of a UNet: with and without the condition
UNET_STEP = 8  # it halves three times
VAE_SIZES, CNN_SIZE = range(33, 65), 48


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
        ("--vocabulary", options.vocabulary),
    ):
        _refuse(options, option, value)
    _refuse(options, "--precision", options.precision != "fp32")
    facts = {
        "source": source.format.name,
        "paper": PAPER_OF_KIND[source.format.name],
        "colour": options.colour,
    }
    if isinstance(source.module, (PaperUNet, SmallUNet)):
        network, own = _unet(source.module, options)
    elif isinstance(source.module, (VaeEncoder, CnnEncoder)):
        network, own = _encoder(source.module, options)
    elif isinstance(source.module, StarGanGenerator):
        network, own = _stargan(_name(source, options), source.module, options)
    elif isinstance(source.module, CycleGanGenerator):
        network, own = _cyclegan(_name(source, options), source.module, options)
    else:
        _name(source, options)
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


def _unet(module: PaperUNet | SmallUNet, options: Options) -> tuple[Network, dict[str, str]]:
    _refuse(options, "--classes", options.classes or options.class_order)
    _refuse(options, "--activation", options.activation)
    steps = module.spec.steps if isinstance(module, SmallUNet) else 0
    names = {unet_name(condition, steps): condition for condition in CONDITIONS}
    wanted = options.network
    if wanted is not None and wanted not in names:
        wanted = {
            unet_name(condition): unet_name(condition, steps) for condition in CONDITIONS
        }.get(wanted, wanted)
    if wanted is not None and wanted not in names:
        raise UsageError(_cannot_become(options, "a diffusion UNet", list(names)))
    try:
        condition = condition_of(module, None if wanted is None else names[wanted])
    except ModelError as error:
        raise ModelError(f"{options.checkpoint}: {error}") from error
    count = LABELS if isinstance(module, PaperUNet) else module.spec.labels
    facts = unet_facts_of(module, condition, label_names(options.labels or FER2013_LABELS, count))
    batch = options.batch or (GUIDED if facts.guidance == 1 else 1)
    network = unet_network(
        unet_name(condition, steps),
        facts.form,
        labels=count,
        semantic=module.spec.semantic,
        batch=_checked_batch(batch),
        size=_side(options.size or DIFFUSION_SIZE, UNET_STEP),
    )
    return network, facts.words | {"colour": "luma"}


def unet_facts_of(
    module: PaperUNet | SmallUNet, condition: str, labels: tuple[str, ...]
) -> UNetFacts:
    """What a UNet's graph states of it."""
    size, semantic = DIFFUSION_SIZE, module.spec.semantic
    if isinstance(module, PaperUNet):
        return UNetFacts("t", size, GUIDED, labels, semantic, condition, "all")
    sigmas = tuple(map(float, module.sigmas.tolist())) or None
    guidance = float(module.guidance)
    return UNetFacts("sigma", size, GUIDED, labels, semantic, condition, "label", sigmas, guidance)


def _encoder(module: VaeEncoder | CnnEncoder, options: Options) -> tuple[Network, dict[str, str]]:
    for option, value in (
        ("--classes", options.classes or options.class_order),
        ("--activation", options.activation),
        ("--labels", options.labels),
    ):
        _refuse(options, option, value)
    name = encoder_name("vae" if isinstance(module, VaeEncoder) else "cnn")
    if options.network not in (None, name):
        raise UsageError(_cannot_become(options, "an encoder of the diffusion paper", [name]))
    size = options.size or DIFFUSION_SIZE
    if isinstance(module, CnnEncoder) and size != CNN_SIZE:
        raise UsageError(f"--size {size}: this classifier takes {CNN_SIZE} pixels a side")
    if size not in VAE_SIZES:
        raise UsageError(
            f"--size {size}: this VAE takes {VAE_SIZES.start}..{VAE_SIZES.stop - 1} pixels a side"
        )
    batch = _checked_batch(options.batch or 1)
    network = encoder_network(name, code=module.spec.code, batch=batch, size=size)
    is_projected = str(module.spec.is_projected).lower()
    return network, {"projected": is_projected, "colour": "luma"}


def _cannot_become(options: Options, words: str, names: list[str]) -> str:
    return (
        f"{options.checkpoint} looks like {words}, which cannot become {options.network}; leave "
        f"--network out, or give {' or '.join(names)}"
    )


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
            raise UsageError(_cannot_become(options, source.format.words, fitting))
        return options.network
    if kind == "face_parser":
        return FACE_PARSER_NAME
    mode = "parts" if set(options.labels or ()) >= PART_LABELS else MODES[0]
    return f"{kind}_{mode}"


def _batch(name: str, options: Options) -> int:
    return _checked_batch(options.batch or (PARTS if name.endswith("_parts") else 1))


def _checked_batch(batch: int) -> int:
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
