"""ONNX Runtime against PyTorch: `python -m mien.export.speed`.

Both run the same weights in one process, with as many threads each, call by call in turn, so that
whatever else the machine does slows both; what is told is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from mien.engines.errors import MienError, UsageError
from mien.engines.generators import (
    FACE_PARSER,
    PARTS,
    SHIPPED_EMOTIONS,
    SHIPPED_PART_LABELS,
    cyclegan_network,
    parser_network,
    stargan_network,
)
from mien.engines.network import Network
from mien.engines.onnx_runtime import OnnxRuntimeEngine
from mien.export.checkpoint import read_checkpoint
from mien.export.cyclegan import CycleGanGenerator, CycleGanSpec
from mien.export.deeplab import RESNET_50, DeepLab, DeepLabSpec
from mien.export.formats import recognise
from mien.export.onnx_file import example_of, to_onnx
from mien.export.resnet import ResNetSpec
from mien.export.stargan import StarGanGenerator, StarGanSpec

THREADS = 2
REST_S = 0.03  # the threads of OpenMP go on turning for some milliseconds after each call
LEAST_ROUNDS = 5
WARM_UP = 2
EMOTIONS, PART_LABELS = len(SHIPPED_EMOTIONS), len(SHIPPED_PART_LABELS)


@dataclass(frozen=True, slots=True)
class Case:
    """A network to time: a name for people, its declaration, and what makes its module."""

    name: str
    network: Network
    make: Callable[[], nn.Module]


@dataclass(frozen=True, slots=True)
class Timing:
    """Median milliseconds of one call, and how many times as fast ONNX Runtime was."""

    name: str
    rounds: int
    torch_ms: float
    onnx_runtime_ms: float

    @property
    def ratio(self) -> float:
        """PyTorch's time by ONNX Runtime's."""
        return self.torch_ms / self.onnx_runtime_ms


def full_size_cases() -> list[Case]:
    """The generators at the paper's size in each mode, and parsers at 256 px, untrained."""
    cases = []
    for mode, batch, labels in (
        ("image", 1, EMOTIONS),
        ("face", 1, EMOTIONS),
        ("parts", PARTS, PART_LABELS),
    ):
        star, cycle = StarGanSpec(labels), CycleGanSpec()
        name = f"stargan_{mode}"
        network = stargan_network(name, labels=labels, batch=batch)
        cases.append(Case(name, network, lambda spec=star: StarGanGenerator(spec)))  # type: ignore[misc]
        name = f"cyclegan_{mode}"
        network = cyclegan_network(name, batch=batch)
        cases.append(Case(name, network, lambda spec=cycle: CycleGanGenerator(spec)))  # type: ignore[misc]
    specs = {
        "face_parser, MobileNetV3": DeepLabSpec.mobilenet(19),
        "face_parser, ResNet-50": DeepLabSpec(ResNetSpec.of(RESNET_50), 19),
    }
    for name, parser in specs.items():
        network = parser_network(classes=parser.classes)
        cases.append(Case(name, network, lambda spec=parser: DeepLab(spec)))  # type: ignore[misc]
    return cases


def checkpoint_case(path: Path) -> Case:
    """The network in a checkpoint, at mien's size.

    It takes four pictures at once where `parts` is in its name. Raises ModelError.
    """
    module = recognise(read_checkpoint(path)).module
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
    """How long one call takes in torch and in ONNX Runtime, measured in turn for `seconds`."""
    module = case.make().eval()
    feeds = example_of(case.network, 0)
    inputs = [torch.from_numpy(feeds[spec.name]) for spec in case.network.inputs]
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timed.onnx"
        to_onnx(module, case.network, path)
        with (
            OnnxRuntimeEngine(path, case.network, threads=threads) as engine,
            torch.inference_mode(),
        ):
            calls = (lambda: module(*inputs), lambda: engine.infer(feeds))
            for _ in range(WARM_UP):
                for call in calls:
                    call()
            times: tuple[list[float], list[float]] = ([], [])
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(times[0]) < LEAST_ROUNDS:
                for call, spent in zip(calls, times, strict=True):
                    time.sleep(REST_S)
                    spent.append(_seconds(call))
    torch_ms, onnx_ms = (1000 * statistics.median(spent) for spent in times)
    return Timing(case.name, len(times[0]), torch_ms, onnx_ms)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def table(timings: list[Timing], threads: int) -> str:
    """The timings as a Markdown table."""
    lines = [
        f"| network ({threads} threads each) | PyTorch ms | ONNX Runtime ms | times as fast |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.torch_ms:.1f} | {one.onnx_runtime_ms:.1f} | {one.ratio:.2f} |"
        for one in timings
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The exit status; the table goes to standard output."""
    parser = argparse.ArgumentParser(prog="python -m mien.export.speed", description=__doc__)
    parser.add_argument(
        "checkpoints", type=Path, nargs="*", help="time these, in place of the paper's sizes"
    )
    parser.add_argument("--only", help="of the paper's sizes, those with this in their name")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each network")
    parser.add_argument("--threads", type=int, default=THREADS, help="of PyTorch, and of the other")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        cases = [checkpoint_case(path) for path in given.checkpoints] or full_size_cases()
        cases = [case for case in cases if (given.only or "") in case.name]
        if not cases:
            raise UsageError(f"no network has {given.only!r} in its name")
        timings = [time_case(case, given.seconds, given.threads) for case in cases]
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)  # noqa: T201 - the one line of an error
        return 2
    rows = [asdict(one) | {"ratio": one.ratio} for one in timings]
    print(json.dumps(rows) if given.json else table(timings, given.threads))  # noqa: T201 - its result
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
