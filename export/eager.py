"""The default filter's networks in PyTorch eager: `python -m mien.export.eager`.

The modules are those that were exported, with the weights of the shipped files put back: what the
exporter merged from batch normalisation into a convolution returns as a normalisation that adds
the bias. Each is held against its file once; then both are timed, call by call in turn and with as
many threads. What is printed is JSON: the median milliseconds of both, by network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from mien.engines import Catalog
from mien.engines.errors import MienError, ModelError
from mien.engines.examples import example_inputs
from mien.engines.network import Network
from mien.engines.networks import DETECTOR, LANDMARKS, MOUTH, NETWORKS, WARP
from mien.engines.onnx_runtime import OnnxRuntimeEngine
from mien.export.detector import DetectorNetwork
from mien.export.landmarks import LandmarkNetwork
from mien.export.mouth import MouthNetwork
from mien.export.warp import POINTS, WarpNetwork

MERGED = "_bias"  # the exporter's name for the bias of a merged normalisation: weight + this
TOLERANCE = 1e-3
REST_S = 0.03  # the threads of OpenMP go on turning for some milliseconds after each call
LEAST_ROUNDS = 5
Weights = Mapping[str, torch.Tensor]


def _warp(weights: Weights) -> nn.Module:
    basis = weights["basis"]
    width = weights["down.0.reduce.weight"].shape[0]
    return WarpNetwork(torch.zeros_like(basis), torch.zeros(POINTS, 2), width)


MAKERS: dict[str, Callable[[Weights], nn.Module]] = {
    DETECTOR.name: lambda _: DetectorNetwork(),
    LANDMARKS.name: lambda _: LandmarkNetwork(),
    WARP.name: _warp,
    MOUTH.name: lambda weights: MouthNetwork(weights["first.conv.weight"].shape[0]),
}


def restored_module(path: Path, network: Network) -> nn.Module:
    """The module of one of the default filter's networks with the weights of its ONNX file.

    Raises ModelError where the file is of another make.
    """
    graph = onnx.load(str(path)).graph
    weights = {
        value.name: torch.from_numpy(np.array(numpy_helper.to_array(value)))
        for value in graph.initializer
    }
    try:
        module = MAKERS[network.name](weights).eval()
        module.load_state_dict(_state(module, weights))
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"{path} does not hold the weights of mien's {network.name} module: it is of another "
            "make or precision"
        ) from error
    return module


def _state(module: nn.Module, weights: Weights) -> dict[str, torch.Tensor]:
    """The state dict of `module`: its own entries, found by name. Raises KeyError."""
    found = dict(weights)
    for name, child in module.named_modules():
        if isinstance(child, nn.BatchNorm2d):
            parent, _, place = name.rpartition(".")
            merged = weights[f"{parent}.{int(place) - 1}.weight{MERGED}"]
            found[f"{name}.weight"] = torch.full_like(merged, (1 + child.eps) ** 0.5)
            found[f"{name}.bias"] = merged
            found[f"{name}.running_mean"] = torch.zeros_like(merged)
            found[f"{name}.running_var"] = torch.ones_like(merged)
            found[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return {key: found[key] for key in module.state_dict()}


def eager_times(path: Path, network: Network, seconds: float, threads: int) -> dict[str, float]:
    """The median milliseconds of a call in `torch` and in `onnx_runtime`, measured in turn.

    Raises ModelError where their answers differ.
    """
    module = restored_module(path, network)
    feeds = example_inputs(network)
    inputs = [torch.from_numpy(feeds[spec.name]) for spec in network.inputs]
    with (
        OnnxRuntimeEngine(path, network, threads=threads) as engine,
        torch.inference_mode(),
    ):
        answer = module(*inputs)
        _check(path, network, engine.infer(feeds), answer)
        calls = {"torch": lambda: module(*inputs), "onnx_runtime": lambda: engine.infer(feeds)}
        times: dict[str, list[float]] = {name: [] for name in calls}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times["torch"]) < LEAST_ROUNDS:
            for name, call in calls.items():
                if threads > 1:
                    time.sleep(REST_S)
                started = time.perf_counter()
                call()  # type: ignore[no-untyped-call]
                times[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(spent) for name, spent in times.items()}


def _check(
    path: Path, network: Network, expected: Mapping[str, np.ndarray], answer: object
) -> None:
    answers = answer if isinstance(answer, tuple) else (answer,)
    for spec, found in zip(network.outputs, answers, strict=True):
        wanted = expected[spec.name]
        size = max(1.0, float(np.abs(wanted).max()))
        difference = float(np.abs(found.numpy() - wanted).max()) / size
        if difference > TOLERANCE:
            raise ModelError(
                f"{path}: its {spec.name} differs from that of mien's module by {difference:.2g}; "
                "it is of another make or precision"
            )


def main(arguments: list[str]) -> int:
    """The exit status; the times go to standard output."""
    parser = argparse.ArgumentParser(prog="python -m mien.export.eager", description=__doc__)
    parser.add_argument("--models", type=Path, help="a folder of models, by default the bundled")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each network")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        catalog = Catalog.bundled() if given.models is None else Catalog.load(given.models)
        times = {
            network.name: eager_times(
                catalog.entry(network).path, network, given.seconds, given.threads
            )
            for network in NETWORKS
        }
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)  # noqa: T201 -- the one line of an error
        return 2
    print(json.dumps(times))  # noqa: T201 -- its result
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
