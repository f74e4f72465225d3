"""The UNet of the diffusion paper in FP16: which nodes stay in FP32, and what a whole run loses.

What the network is shown are the calls of real runs, up and down; a sampler calls it many times in
a row, so that beside the error of one call stands that of the face at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from mien.calibration.precision.fp16 import fake_quantised_model, half_model, reasons_to_keep
from mien.calibration.precision.graph import read_graph, with_metadata
from mien.calibration.precision.quality import OutputError, largest_values
from mien.calibration.precision.search import Search
from mien.calibration.representative import Feeds
from mien.engines.engine import Engine
from mien.engines.errors import EngineError
from mien.engines.network import Network
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.engines.system.folders import private_folder
from mien.runtime.methods.diffusion.sampler import Sampler, SamplerOptions

TOLERANCE = 5e-3  # of one call, rms by how much the output varies
RUN_DB = 40.0  # of a whole run from the same noise
TIGHTER = 0.5
INPUTS = 12  # calls that are measured on, spread over the runs


@dataclass(frozen=True, slots=True)
class HalfUNet:
    """A UNet in FP16.

    kept: why nodes stay in FP32, by name. errors: of one call. run_db: the lowest PSNR of faces
    made from the same noise, against the FP32 graph's.
    """

    model: ModelProto
    kept: Mapping[str, str]
    nodes: int
    errors: tuple[OutputError, ...]
    run_db: float


@dataclass(frozen=True, slots=True)
class Faces:
    """What runs are made of: faces (n, 1, s, s) in [-1, 1], labels (n, k) and codes (n, d)."""

    faces: np.ndarray
    labels: np.ndarray
    codes: np.ndarray | None = None


def half_unet(
    path: Path, faces: Faces, options: SamplerOptions, *, least_db: float = RUN_DB
) -> HalfUNet:
    """The FP16 form of the UNet at `path`, near enough in each call and over a whole run.

    Raises ModelError, UsageError; EngineError where it is not near enough at any cost.
    """
    graph = read_graph(path)
    network = Network.from_metadata(graph.metadata)
    with OnnxRuntimeEngine(path, network.name) as engine:
        remembering = _Remembering(engine)
        expected = run_faces(remembering, faces, options)
    step = max(1, len(remembering.seen) // INPUTS)
    feeds = remembering.seen[::step][:INPUTS]
    search = Search(graph, network, feeds)
    kept: Mapping[str, str] = reasons_to_keep(graph, network, largest_values(graph, feeds))
    tolerance = TOLERANCE
    while True:
        plan = search.settle(kept, tolerance)
        fake_quantised = with_metadata(
            fake_quantised_model(graph, plan.kept.keys()), graph.metadata
        )
        found = _run_model(fake_quantised, network, faces, options)
        run_db = psnr_db(expected, found)
        if run_db >= least_db:
            model = with_metadata(half_model(graph, plan.kept.keys()), graph.metadata)
            nodes = len(graph.float_nodes())
            return HalfUNet(model, plan.kept, nodes, plan.errors, run_db)
        if len(plan.kept) == len(graph.float_nodes()):
            raise EngineError(
                f"{network.name}: a run is {run_db:.1f} dB from FP32's with every node in FP32"
            )
        kept, tolerance = plan.kept, min(tolerance, plan.worst) * TIGHTER


def run_faces(engine: Engine, faces: Faces, options: SamplerOptions) -> np.ndarray:
    """The faces inverted and made again under their labels: float32 (n, 1, s, s)."""
    return Sampler(engine, options).edit(faces.faces, faces.labels, faces.codes)


def psnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """The lowest PSNR of pictures (n, ...) in [-1, 1]; infinite where all are the same."""
    errors = np.square(found.astype(np.float64) - expected).reshape(len(expected), -1).mean(1)
    worst = float(errors.max())
    return math.inf if worst == 0 else 10 * math.log10(4 / worst)


class _Remembering(Engine):
    """An engine that keeps what it is given."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.network, engine.provider, engine.metadata)
        self._engine = engine
        self.seen: list[Feeds] = []

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        self.seen.append({name: value.copy() for name, value in feeds.items()})
        return self._engine.infer(feeds)

    def _release(self) -> None:
        self._engine.close()


def _run_model(
    model: ModelProto, network: Network, faces: Faces, options: SamplerOptions
) -> np.ndarray:
    with private_folder() as folder:
        path = folder / f"{network.name}.onnx"
        path.write_bytes(model.SerializeToString())
        with OnnxRuntimeEngine(path, network.name) as engine:
            return run_faces(engine, faces, options)
