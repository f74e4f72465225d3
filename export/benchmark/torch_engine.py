"""PyTorch eager as an engine, to be timed against ONNX Runtime in turns of a few calls.

The network of an ONNX file runs as its module, called once a frame. It gets what a careful user
would give it: inference mode, oneDNN, the memory format and the number of threads that are fastest
for the network, and no copy but those that a format asks for.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from mien.engines import Catalog, Engine, EngineError, ModelError, OnnxRuntimeEngine
from mien.engines.network import Network, example_inputs
from mien.export.benchmark.restored import restored_module

TOLERANCE = 1e-3  # of an output, relative to the size of its values where that is above 1
WARM_UP, TRIED = 2, 9  # calls of each setting that is tried
TRIED_S = 0.6  # fewer where they take longer together
FORMATS = {"planes": torch.contiguous_format, "channels last": torch.channels_last}


@dataclass(frozen=True, slots=True)
class Setting:
    """How a network is called. layout: of FORMATS. threads: of one call."""

    layout: str = "planes"
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}, {self.layout}"


class TorchEngine(Engine):
    """The module of an ONNX file, with its weights, in PyTorch eager on the processor.

    module: what the file was made of, None to bring it back from the file. threads: the most that a
    call may have; what is fastest of one and all, in planes or channels last, is found by trying,
    and stands in `setting`.

    `torch.set_num_threads` holds for the process: the last engine called has set it.
    Raises ModelError where the module does not answer as the file does in ONNX Runtime.
    """

    def __init__(
        self, path: Path, network: Network | str, *, threads: int, module: nn.Module | None = None
    ) -> None:
        with OnnxRuntimeEngine(path, network) as reference:
            super().__init__(reference.network, "PyTorch eager", reference.metadata)
            module = (module or restored_module(path, self.network.name)).eval()
            self._modules = {"planes": module}
            self.setting = Setting()
            check_answers(path, reference, self)
        self._modules["channels last"] = convert_conv2d_weight_memory_format(
            copy.deepcopy(module), torch.channels_last
        )
        self.setting = self._fastest(threads)
        self._modules = {self.setting.layout: self._modules[self.setting.layout]}

    def _fastest(self, threads: int) -> Setting:
        feeds = example_inputs(self.network)
        counts = (1,) if threads == 1 else (1, threads)
        times = {}
        for layout, count in itertools.product(FORMATS, counts):
            self.setting = Setting(layout, count)
            times[self.setting] = _median_s(self, feeds)
        return min(times, key=times.__getitem__)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if torch.get_num_threads() != self.setting.threads:
            torch.set_num_threads(self.setting.threads)
        form = FORMATS[self.setting.layout]
        inputs = [torch.from_numpy(feeds[spec.name]) for spec in self.network.inputs]
        try:
            with torch.inference_mode():
                shaped = [x.contiguous(memory_format=form) if x.ndim == 4 else x for x in inputs]
                answer = self._modules[self.setting.layout](*shaped)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"{self.network.name}: PyTorch failed: {reason}") from error
        answers = answer if isinstance(answer, tuple) else (answer,)
        return {
            spec.name: found.contiguous().numpy()
            for spec, found in zip(self.network.outputs, answers, strict=True)
        }

    def _release(self) -> None:
        self._modules = {}


def _median_s(engine: TorchEngine, feeds: dict[str, np.ndarray]) -> float:
    for _ in range(WARM_UP):
        engine.infer(feeds)
    times: list[float] = []
    while len(times) < TRIED and sum(times) < TRIED_S:
        started = time.perf_counter()
        engine.infer(feeds)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def check_answers(path: Path, reference: Engine, engine: Engine) -> None:
    """Raise ModelError where the two engines answer differently."""
    feeds = example_inputs(engine.network)
    expected, found = reference.infer(feeds), engine.infer(feeds)
    for name, wanted in expected.items():
        size = max(1.0, float(np.abs(wanted).max()))
        difference = float(np.abs(found[name] - wanted).max()) / size
        if difference > TOLERANCE:
            raise ModelError(
                f"{path}: its {name} differs from that of mien's module by {difference:.2g}; "
                "it is of another make or precision"
            )


@dataclass(frozen=True, slots=True)
class TorchCatalog(Catalog):
    """A catalog whose networks open in PyTorch eager.

    threads: the most that a call may have. settings: how each network that is open is called.
    """

    threads: int = 1
    settings: dict[str, Setting] = field(default_factory=dict)

    def open(
        self,
        network: Network | str,
        *,
        provider: str = "cpu",  # noqa: ARG002 -- of the catalog that this one stands in for
        threads: int | None = None,  # noqa: ARG002
    ) -> Engine:
        """The network in PyTorch eager. Raises ModelError."""
        entry = self.entry(network)
        entry.check_file()
        engine = TorchEngine(entry.path, network, threads=self.threads)
        self.settings[engine.network.name] = engine.setting
        return engine


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
