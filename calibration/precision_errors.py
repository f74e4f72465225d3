"""How far the outputs of one graph are from those of another, on representative inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, helper

from mien.calibration.graph import FLOAT, Graph
from mien.calibration.representative import Feeds
from mien.engines.network import Network, TensorSpec
from mien.engines.ort.backend import open_session

LEAST_SCALE = 1e-6
SCALE_OF_RANGE = 0.1  # an output that hardly changes is measured against this part of its range


@dataclass(frozen=True, slots=True)
class OutputError:
    """The error of one output.

    largest, rms: in the output's own unit. relative: rms by how much the output itself varies over
    the representative inputs (its standard deviation, or a tenth of its declared range where that
    is more).
    """

    output: str
    largest: float
    rms: float
    relative: float


def run_model(model: ModelProto, feeds: Sequence[Feeds]) -> list[Feeds]:
    """The outputs of a graph for each of `feeds`, on the processor."""
    session = open_session(model.SerializeToString(), Path("(in memory)"), provider="cpu")
    names = [output.name for output in model.graph.output]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def output_errors(
    expected: Sequence[Feeds], received: Sequence[Feeds], network: Network
) -> tuple[OutputError, ...]:
    """The error of each output of a network."""
    return tuple(_error(spec, expected, received) for spec in network.outputs)


def worst(errors: Sequence[OutputError]) -> float:
    """The largest relative error; infinite where one is not a number."""
    largest = max(error.relative for error in errors)
    return largest if np.isfinite(largest) else float("inf")


def largest_values(graph: Graph, feeds: Sequence[Feeds]) -> dict[str, float]:
    """The largest absolute value in each FP32 value of a graph, weights left out."""
    tapped = ModelProto()
    tapped.CopyFrom(graph.model)
    there = {output.name for output in tapped.graph.output}
    for node in graph.nodes:
        tapped.graph.output.extend(
            helper.make_tensor_value_info(name, FLOAT, None)
            for name in node.output
            if graph.is_float(name) and name not in there
        )
    found: dict[str, float] = {}
    for feed, values in zip(feeds, run_model(tapped, feeds), strict=True):
        for name, value in {**feed, **values}.items():
            if value.dtype == np.float32 and value.size:
                found[name] = max(found.get(name, 0.0), float(np.abs(value).max()))
    return found


def _error(spec: TensorSpec, expected: Sequence[Feeds], received: Sequence[Feeds]) -> OutputError:
    before = np.stack([feed[spec.name] for feed in expected]).astype(np.float64)
    after = np.stack([feed[spec.name] for feed in received]).astype(np.float64)
    difference = np.abs(after - before)
    rms = float(np.sqrt(np.mean(difference**2)))
    # A coordinate varies about its own mean, not about that of all coordinates.
    scale = float(np.sqrt(np.mean((before - before.mean(0)) ** 2))) if len(before) > 1 else 0.0
    scale = max(scale, LEAST_SCALE, float(before.std()) * SCALE_OF_RANGE)
    if spec.range is not None:
        scale = max(scale, SCALE_OF_RANGE * (spec.range[1] - spec.range[0]))
    return OutputError(spec.name, float(difference.max(initial=0.0)), rms, rms / scale)
