"""Each network that a filter uses, timed by itself and held against the machine's peak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from mien.apps.bench_plan import BenchPlan
from mien.engines import DeviceError, Provider
from mien.engines.network import example_inputs
from mien.engines.ort.backend import DEFAULT_THREADS
from mien.engines.ort.work import Work, work_of
from mien.engines.peak import Peak, measure_peak
from mien.runtime.profile import StageTime, WatchedEngine, time_in_turn

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
