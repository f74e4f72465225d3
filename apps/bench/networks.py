"""Each network of a filter, timed by itself and compared with the peak of the machine.

The peak is a large matrix product and a large copy, measured. The product runs on the same provider
and as many threads as the networks it is compared with. Its graph is written here byte by byte, for
the package `onnx` is not part of the base install.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mien.apps.bench.plan import BenchPlan
from mien.engines import DeviceError, Provider
from mien.engines.graph.wire import bytes_field, number_field, text_field
from mien.engines.network import example_inputs
from mien.engines.ort.backend import DEFAULT_THREADS, open_session
from mien.engines.ort.work import Work, work_of
from mien.runtime.profile import StageTime, WatchedEngine, time_in_turn

PRODUCTS = 4  # one after another, so that a device is not timed for its copies
CPU_SIDE, DEVICE_SIDE = 512, 4096
COPY_BYTES = 64_000_000  # beyond any cache
ROUNDS = 7
FLOAT = 1  # of onnx.proto3


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that was measured.

    operations_s: float32 additions and multiplications a second, in products of matrices.
    bytes_s: read and written a second by one thread's copy in the host's memory; None where the
        networks run elsewhere.
    """

    operations_s: float
    bytes_s: float | None


def measure_peak(provider: str = "cpu", threads: int | None = None) -> Peak:
    """The peak of a provider and of this machine's memory. Raises DeviceError."""
    side = CPU_SIDE if provider == "cpu" else DEVICE_SIDE
    model = products_model(side)
    session = open_session(
        model, Path("product.onnx"), provider=provider, threads=threads or DEFAULT_THREADS
    )
    feeds = {"x": np.full((side, side), 0.5, np.float32)}
    product_s = _fastest_s(lambda: session.run(None, feeds))
    bytes_s = None
    if provider == "cpu":
        source = np.ones(COPY_BYTES, np.uint8)
        copy = np.empty_like(source)
        bytes_s = 2 * COPY_BYTES / _fastest_s(lambda: np.copyto(copy, source))
    return Peak(2 * PRODUCTS * side**3 / product_s, bytes_s)


def _fastest_s(call: Callable[[], object]) -> float:
    """Seconds of a call: the median of the faster half, the slower ones were disturbed."""
    call()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(sorted(times)[: ROUNDS // 2 + 1])


def products_model(side: int) -> bytes:
    """An ONNX graph that multiplies `x` (side, side) by one matrix, `PRODUCTS` times over."""
    names = ["x", *(f"x{step}" for step in range(1, PRODUCTS)), "y"]
    nodes = b"".join(
        bytes_field(
            1,
            text_field(1, source)
            + text_field(1, "w")
            + text_field(2, result)
            + text_field(4, "MatMul"),
        )
        for source, result in itertools.pairwise(names)
    )
    weights = np.eye(side, dtype="<f4").tobytes()
    dims = number_field(1, side) * 2
    matrix = bytes_field(
        5, dims + number_field(2, FLOAT) + text_field(8, "w") + bytes_field(9, weights)
    )
    graph = nodes + text_field(2, "products") + matrix
    graph += bytes_field(11, _value("x", side)) + bytes_field(12, _value("y", side))
    opset = text_field(1, "") + number_field(2, 18)
    return number_field(1, 8) + bytes_field(8, opset) + bytes_field(7, graph)


def _value(name: str, side: int) -> bytes:
    shape = bytes_field(1, number_field(1, side)) * 2
    return text_field(1, name) + bytes_field(
        2, bytes_field(1, number_field(1, FLOAT) + bytes_field(2, shape))
    )


NETWORK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """One network in one variant.

    provider: what really ran it. threads: of a call on the processor, None elsewhere. per_s: calls
    a second at the median. peak_percent: of the operations a second of the large matrix product
    with as many threads, which is in float32: INT8 may pass 100. copy_percent: of the bytes a
    second of the large copy, None where it runs elsewhere.
    """

    network: str
    variant: str
    provider: str
    threads: int | None
    median_ms: float
    p95_ms: float
    per_s: float
    operations: float
    peak_percent: float | None
    copy_percent: float | None


@dataclass(frozen=True, slots=True)
class NetworksReport:
    """The rows of all networks. peaks: by provider, and its threads where these are several."""

    rows: tuple[NetworkRow, ...] = ()
    peaks: dict[str, Peak] = field(default_factory=dict)

    def threads(self) -> dict[str, int]:
        """How many threads each network has on the processor, by name, where it ran there too."""
        counts = {row.network: DEFAULT_THREADS for row in self.rows}
        return counts | {row.network: row.threads for row in self.rows if row.threads is not None}


def measure_networks(plan: BenchPlan, seconds: float = NETWORK_SECONDS) -> NetworksReport:
    """The networks that the filter opens, in every variant, call by call in turn.

    seconds: for each. Raises MienError.
    """
    with ExitStack() as opened:
        catalogs = []
        for variant in plan.variants:
            face_filter, watched = plan.of(variant).watch_filter()
            opened.enter_context(face_filter)
            catalogs.append(watched)
        peaks = _peaks(plan, [list(catalog.engines.values()) for catalog in catalogs])
        rows: list[NetworkRow] = []
        for name in catalogs[0].engines:
            engines = [catalog.engines[name] for catalog in catalogs]
            times = time_in_turn(
                [_call(engine) for engine in engines], seconds * len(engines), name
            )
            for variant, catalog, engine, spent in zip(
                plan.variants, catalogs, engines, times, strict=True
            ):
                work = work_of(catalog.entry(name).path, engine.network)
                peak = peaks.get(_peak_name(variant.provider, engine))
                rows.append(_row(variant.name, engine, spent, work, peak))
    return NetworksReport(tuple(rows), peaks)


def _call(engine: WatchedEngine) -> Callable[[], object]:
    feeds = example_inputs(engine.network)
    return lambda: engine.infer(feeds)


def _peaks(plan: BenchPlan, engines: Sequence[Sequence[WatchedEngine]]) -> dict[str, Peak]:
    """The peak of every provider, with as many threads as its networks have.

    A provider that ONNX Runtime does not run, such as mien's own TensorRT backend, has none.
    """
    peaks: dict[str, Peak] = {}
    for variant, its_engines in zip(plan.variants, engines, strict=True):
        for engine in its_engines:
            name = _peak_name(variant.provider, engine)
            if name in peaks:
                continue
            on_processor = _threads(engine) is not None
            provider = Provider.CPU.short if on_processor else variant.provider
            with suppress(DeviceError):
                peaks[name] = measure_peak(provider, _threads(engine) or DEFAULT_THREADS)
    return peaks


def _threads(engine: WatchedEngine) -> int | None:
    """Of a call on the processor, None elsewhere."""
    if engine.provider != Provider.CPU.short:
        return None
    return engine.threads or DEFAULT_THREADS


def _peak_name(provider: str, engine: WatchedEngine) -> str:
    threads = _threads(engine)
    return provider if threads in (None, 1) else f"{provider}, {threads} threads"


def _row(
    variant: str, engine: WatchedEngine, spent: StageTime, work: Work, peak: Peak | None
) -> NetworkRow:
    seconds = spent.median_ms / 1000
    operations_s = None if peak is None else peak.operations_s
    copy_s = None if peak is None else peak.bytes_s
    return NetworkRow(
        network=spent.name,
        variant=variant,
        provider=engine.provider,
        threads=_threads(engine),
        median_ms=spent.median_ms,
        p95_ms=spent.p95_ms,
        per_s=1 / seconds,
        operations=work.operations,
        peak_percent=_percent(work.operations / seconds, operations_s),
        copy_percent=_percent(work.bytes_moved / seconds, copy_s),
    )


def _percent(value: float, whole: float | None) -> float | None:
    return None if whole is None else 100 * value / whole


def ran_on(row: NetworkRow) -> str:
    """What ran a network, for people."""
    return row.provider if row.threads in (None, 1) else f"{row.provider}, {row.threads} threads"
