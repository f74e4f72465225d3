"""ONNX Runtime against PyTorch: `python -m mien.export.benchmark.speed`.

Both run the same weights in one process, with as many threads, in turns of a few calls, so that
whatever else the machine does slows both; what is told is the ratio of the medians. PyTorch runs in
inference mode with the memory format that is fastest for the network, and with one thread where
that is faster than all; the two must give the same answer before they are timed.

By default these are the generators and the parser that are shipped, then with weights of chance the
sizes of the paper, of the parsers most used, and of the latent methods' public networks (StyleGAN2
and e4e of 256 pixels). Where a module has a form that is faster in PyTorch, PyTorch runs that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from mien.engines import Catalog
from mien.engines.errors import MienError, UsageError
from mien.engines.face_space import encoder_network, generator_network
from mien.engines.graph.file import read_metadata, read_model
from mien.engines.network import Network
from mien.engines.networks import (
    FACE_PARSER,
    GENERATORS,
    PARTS,
    SHIPPED_EMOTIONS,
    SHIPPED_PART_LABELS,
    cyclegan_network,
    parser_network,
    stargan_network,
)
from mien.export.benchmark.torch_engine import Timing, time_in_both
from mien.export.checkpoints.formats import recognise
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.models.gans import CycleGanGenerator, CycleGanSpec, StarGanGenerator, StarGanSpec
from mien.export.models.irse import EncoderSpec, LatentEncoder
from mien.export.models.parsers import RESNET_50, BiSeNet, BiSeNetSpec, DeepLab, DeepLabSpec
from mien.export.models.stylegan2 import public_channels
from mien.export.models.stylegan2_public import SynthesisSpec, random_synthesis, transposed
from mien.export.models.trunks import ResNetSpec
from mien.export.onnx_file import to_onnx

THREADS = 2
MAX_CHECKPOINT = 4 << 30  # bytes; an e4e encoder with its generator has 1.2 GB
CLASSES = 19  # of the parsers most used
PUBLIC_SIZE, PUBLIC_MULTIPLIER = 256, 2  # of the public generators, and of their channels
EMOTIONS, PART_LABELS = len(SHIPPED_EMOTIONS), len(SHIPPED_PART_LABELS)
STYLE_NETWORKS = (FACE_PARSER, *GENERATORS)


@dataclass(frozen=True, slots=True)
class Case:
    """A network to time.

    name: for people. make: what makes its module, None for one of a file. eager: the module as
    PyTorch runs it fastest, from that; the module itself by default.
    """

    name: str
    network: Network
    make: Callable[[], nn.Module] | None = None
    file: Path | None = None
    eager: Callable[[nn.Module], nn.Module] | None = None


def shipped_cases(catalog: Catalog) -> list[Case]:
    """The generators and the parser of a catalog, those that it has."""
    there = {entry.network: entry for entry in catalog.entries}
    cases = []
    for network in STYLE_NETWORKS:
        entry = there.get(network.name)
        if entry is not None:
            entry.check_file()
            cases.append(file_case(entry.path, is_shipped=True))
    return cases


def file_case(path: Path, *, is_shipped: bool = False) -> Case:
    """The network in an ONNX file that mien exported. Raises ModelError."""
    network = Network.from_metadata(read_metadata(read_model(path), path))
    return Case(f"{network.name}, shipped" if is_shipped else path.name, network, file=path)


def full_size_cases() -> list[Case]:
    """The generators at the paper's size, and parsers at 256 px, untrained.

    Image and face modes have the same network, parts mode sees four pictures at once.
    """
    cases = []
    for modes, batch, labels in (("image or face", 1, EMOTIONS), ("parts", PARTS, PART_LABELS)):
        star = stargan_network("stargan", labels=labels, batch=batch)
        make_star = partial(StarGanGenerator, StarGanSpec(labels))
        cases.append(Case(f"stargan, {modes}, paper size", star, make_star))
        cycle = cyclegan_network("cyclegan", batch=batch)
        make_cycle = partial(CycleGanGenerator, CycleGanSpec())
        cases.append(Case(f"cyclegan, {modes}, paper size", cycle, make_cycle))
    network = parser_network(classes=CLASSES)
    mobile, resnet = DeepLabSpec.mobilenet(CLASSES), DeepLabSpec(ResNetSpec.of(RESNET_50), CLASSES)
    return [
        *cases,
        Case("face_parser, DeepLabV3 MobileNetV3", network, partial(DeepLab, mobile)),
        Case("face_parser, DeepLabV3 ResNet-50", network, partial(DeepLab, resnet)),
        Case("face_parser, BiSeNet", network, partial(BiSeNet, BiSeNetSpec(CLASSES))),
        *public_latent_cases(),
    ]


def public_latent_cases(
    size: int = PUBLIC_SIZE, encoder: EncoderSpec | None = None
) -> tuple[Case, Case]:
    """StyleGAN2 with the public generators' channels, and e4e that finds its codes, untrained."""
    channels = public_channels(PUBLIC_MULTIPLIER)
    spec = SynthesisSpec(tuple(count for side, count in channels.items() if side <= size))
    encoder = encoder or EncoderSpec(spec.codes, deltas=True)
    inverted = encoder_network(encoder.layers, seen=encoder.size, colours=3)
    return (
        Case(
            f"stylegan2_synthesis, {size} pixels",
            generator_network(size, colours=3),
            partial(random_synthesis, spec),
            eager=transposed,
        ),
        Case(
            f"latent_encoder, e4e of {encoder.size} pixels",
            inverted,
            partial(LatentEncoder, encoder),
        ),
    )


def given_case(path: Path) -> Case:
    """The network in a checkpoint, at mien's size, or in an ONNX file of mien's.

    A checkpoint's takes four pictures at once where `parts` is in its name. Raises ModelError.
    """
    if path.suffix == ".onnx":
        return file_case(path)
    source = recognise(read_checkpoint(path, limit=MAX_CHECKPOINT))
    module = source.module
    if source.prepared is not None:
        return Case(path.name, source.prepared.network, lambda: module)
    batch = PARTS if "parts" in path.name else 1
    if isinstance(module, StarGanGenerator):
        network = stargan_network("stargan", labels=module.spec.labels, batch=batch)
    elif isinstance(module, CycleGanGenerator):
        network = cyclegan_network("cyclegan", batch=batch)
    else:
        size = FACE_PARSER.inputs[0].shape[2]
        network = parser_network(classes=module.spec.classes, size=size)  # type: ignore[union-attr, arg-type]
    return Case(path.name, network, lambda: module)


def time_case(case: Case, seconds: float, threads: int = THREADS) -> Timing:
    """How long one call takes in torch and in ONNX Runtime, measured in turn for `seconds`.

    Raises ModelError where the two answer differently.
    """
    with tempfile.TemporaryDirectory(prefix="mien-speed-") as folder:
        path = case.file or Path(folder) / "timed.onnx"
        module = None if case.make is None else case.make()
        if module is not None:
            to_onnx(module, case.network, path)
            module = module if case.eager is None else case.eager(module)
        timing = time_in_both(path, case.network, seconds=seconds, threads=threads, module=module)
    return replace(timing, name=case.name)


def table(timings: list[Timing], threads: int) -> str:
    """The timings as a Markdown table."""
    heads = (
        *(f"network ({threads} threads)", "PyTorch ran it with"),
        *("PyTorch, ms", "ONNX Runtime, ms", "times as fast"),
    )
    lines = [f"| {' | '.join(heads)} |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {one.name} | {one.setting} | {one.torch_ms:.1f} | {one.onnx_runtime_ms:.1f} "
        f"| {one.ratio:.2f} |"
        for one in timings
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The exit status; the table goes to standard output."""
    parser = argparse.ArgumentParser(prog="python -m mien.export.benchmark.speed")
    parser.add_argument(
        "files", type=Path, nargs="*", help="time these checkpoints or ONNX files of mien's instead"
    )
    parser.add_argument("--shipped", action="store_true", help="only those that come with mien")
    parser.add_argument(
        "--models", type=Path, help="a folder of models in the place of the shipped"
    )
    parser.add_argument("--only", help="only those with this in their name")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each network")
    parser.add_argument("--threads", type=int, default=THREADS, help="of both")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        timings = [time_case(case, given.seconds, given.threads) for case in _cases(given)]
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)  # noqa: T201 - the one line of an error
        return 2
    rows = [asdict(one) | {"ratio": one.ratio} for one in timings]
    print(json.dumps(rows) if given.json else table(timings, given.threads))  # noqa: T201 - its result
    return 0


def _cases(given: argparse.Namespace) -> list[Case]:
    """What was asked for. Raises UsageError where that is nothing."""
    if given.files:
        cases = [given_case(path) for path in given.files]
    else:
        catalog = Catalog.bundled() if given.models is None else Catalog.load(given.models)
        cases = shipped_cases(catalog) + ([] if given.shipped else full_size_cases())
    cases = [case for case in cases if (given.only or "") in case.name]
    if not cases:
        raise UsageError(f"no network has {given.only!r} in its name")
    return cases


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
