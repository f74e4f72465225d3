"""A network in PyTorch eager and in ONNX Runtime, timed in turns of a few calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from mien.engines import OnnxRuntimeEngine
from mien.engines.network import Network, example_inputs
from mien.export.torch_engine import TorchEngine

REST_S = 0.03  # the threads of OpenMP go on turning for some milliseconds after each call
# A turn is long enough that caches and threads are warm: its first call is not counted.
TURN_S = 0.06
LEAST_CALLS = 3  # that are counted in a turn
LEAST_TURNS = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Median milliseconds of a call in both, and how PyTorch was called: what was fastest for it.

    rounds: calls of each, at least.
    """

    name: str
    rounds: int
    torch_ms: float
    onnx_runtime_ms: float
    setting: str = ""

    @property
    def ratio(self) -> float:
        """PyTorch's time by ONNX Runtime's."""
        return self.torch_ms / self.onnx_runtime_ms


def time_in_both(
    path: Path,
    network: Network | str,
    *,
    seconds: float,
    threads: int,
    onnx_threads: int | None = None,
    module: nn.Module | None = None,
) -> Timing:
    """How long a call of the network in a file takes in both, measured in turn for `seconds`.

    threads: the most that PyTorch may have. onnx_threads: of ONNX Runtime, None for as many.
    module: what the file was made of, None to bring it back from the file.

    Raises ModelError where the file is of another make, or the two answer differently.
    """
    torch_engine = TorchEngine(path, network, threads=threads, module=module)
    with (
        torch_engine,
        OnnxRuntimeEngine(path, network, threads=onnx_threads or threads) as onnx_engine,
    ):
        feeds = example_inputs(onnx_engine.network)
        torch_s: list[float] = []
        onnx_s: list[float] = []
        end, turns = time.perf_counter() + seconds, 0
        while time.perf_counter() < end or turns < LEAST_TURNS:
            for engine, spent in ((torch_engine, torch_s), (onnx_engine, onnx_s)):
                spent.extend(_turn(partial(engine.infer, feeds)))
            turns += 1
        return Timing(
            onnx_engine.network.name,
            min(len(torch_s), len(onnx_s)),
            1000 * statistics.median(torch_s),
            1000 * statistics.median(onnx_s),
            str(torch_engine.setting),
        )


def _turn(call: Callable[[], object]) -> list[float]:
    """The seconds of each call of one turn but the first."""
    time.sleep(REST_S)
    call()
    spent: list[float] = []
    while len(spent) < LEAST_CALLS or sum(spent) < TURN_S:
        started = time.perf_counter()
        call()
        spent.append(time.perf_counter() - started)
    return spent
