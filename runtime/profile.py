"""How long a filter takes, frame by frame: its stages, and the networks that it opens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mien.engines import Catalog, Engine, Network
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame

# The first frames find the face, and touch memory and code for the first time.
WARM_UP_FRAMES = 10
LEAST_ROUNDS = 5
HELD_FRAMES = 24  # of 2160p 300 MB


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds a frame of one stage: the median, and what 95 of 100 frames stay under.

    cpu_ms: the median of the processor's time, over all threads; None where it was not taken.
    """

    name: str
    median_ms: float
    p95_ms: float
    cpu_ms: float | None = None


@dataclass(frozen=True, slots=True)
class FilterProfile:
    """The times of a filter over the frames of a clip, without codec.

    stages: in the order of the way of a frame. whole: a call of the filter.
    frames: measured, without the warm-up. faces: the most in one frame. fps: frames by the time
    of all calls together, for a method that does not pay for its networks in every frame.
    """

    stages: tuple[StageTime, ...]
    whole: StageTime
    frames: int
    faces: int
    fps: float


class _Times:
    """What was measured of one filter, frame by frame."""

    def __init__(self) -> None:
        self._whole_ms: list[float] = []
        self._whole_cpu_ms: list[float] = []
        self._stages_ms: dict[str, list[float]] = {}
        self._stages_cpu_ms: dict[str, list[float]] = {}
        self._faces = 0

    def call(self, face_filter: Filter, frame: Frame, *, counts: bool) -> None:
        """Apply the filter, and note how long it took where that counts."""
        started, cpu_started = time.perf_counter(), time.process_time()
        face_filter.apply(frame)
        spent_ms = 1000 * (time.perf_counter() - started)
        spent_cpu_ms = 1000 * (time.process_time() - cpu_started)
        self._faces = max(self._faces, len(face_filter.faces))
        if not counts:
            return
        self._whole_ms.append(spent_ms)
        self._whole_cpu_ms.append(spent_cpu_ms)
        for name, stage_ms in face_filter.timings.last_cpu_ms.items():
            self._stages_cpu_ms.setdefault(name, []).append(stage_ms)
        for name, stage_ms in face_filter.timings.last_ms.items():
            self._stages_ms.setdefault(name, []).append(stage_ms)

    def profile(self) -> FilterProfile:
        """The times as they stand."""
        whole_ms = self._whole_ms
        stages = tuple(
            stage_time(name, times_ms, self._stages_cpu_ms[name])
            for name, times_ms in self._stages_ms.items()
        )
        fps = 1000 * len(whole_ms) / sum(whole_ms) if whole_ms else 0.0
        return FilterProfile(
            stages,
            stage_time("filter", whole_ms, self._whole_cpu_ms),
            len(whole_ms),
            self._faces,
            fps,
        )


def profile_filter(face_filter: Filter, frames: Iterable[Frame]) -> FilterProfile:
    """The times of `face_filter` over `frames`; see `profile_in_turn`."""
    (profile,) = profile_in_turn([face_filter], frames)
    return profile


def profile_in_turn(filters: Sequence[Filter], frames: Iterable[Frame]) -> list[FilterProfile]:
    """The times of several filters, each of which gets every frame in turn.

    So whatever else the machine does slows all of them alike. What makes the frames is not counted,
    but for threads that work on meanwhile (`decoded_first`).
    """
    times = [_Times() for _ in filters]
    for index, frame in enumerate(frames):
        for face_filter, its_times in zip(filters, times, strict=True):
            its_times.call(face_filter, frame, counts=index >= WARM_UP_FRAMES)
    return [its_times.profile() for its_times in times]


def decoded_first(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames of a decoder, some at a time, for what is timed by the processor's time.

    The threads of a decoder work ahead after each frame that it hands over: of frames read one by
    one, 2 of the 14 ms that a filter seemed to take were theirs.
    """
    coming = iter(frames)
    while held := list(itertools.islice(coming, HELD_FRAMES)):
        yield from held


def time_in_turn(
    calls: Sequence[Callable[[], object]], seconds: float, name: str
) -> list[StageTime]:
    """The times of several calls, made one after the other for `seconds`, at least five of each."""
    times_ms: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times_ms[0]) < LEAST_ROUNDS:
        for call, spent_ms in zip(calls, times_ms, strict=True):
            started = time.perf_counter()
            call()
            spent_ms.append(1000 * (time.perf_counter() - started))
    return [stage_time(name, spent_ms) for spent_ms in times_ms]


def stage_time(
    name: str, times_ms: list[float], cpu_times_ms: list[float] | None = None
) -> StageTime:
    """Median and 95th percentile of some times; zeros where there are none."""
    if not times_ms:
        return StageTime(name, 0.0, 0.0)
    median_ms, p95_ms = np.percentile(times_ms, (50, 95))
    cpu_ms = float(np.median(cpu_times_ms)) if cpu_times_ms else None
    return StageTime(name, float(median_ms), float(p95_ms), cpu_ms)


class WatchedEngine(Engine):
    """Another engine, with a count of its calls and their seconds.

    threads: as it was opened; None is the engine's own choice.
    """

    def __init__(self, inner: Engine, threads: int | None) -> None:
        super().__init__(inner.network, inner.provider, inner.metadata)
        self.threads = threads
        self.reset()
        self._inner = inner

    def reset(self) -> None:
        """Reset the counts to zero."""
        self.calls, self.spent_s = 0, 0.0

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As of the engine inside, which checks the call; its time is counted."""
        started = time.perf_counter()
        results = self._run(feeds)
        self.spent_s += time.perf_counter() - started
        self.calls += 1
        self.provider = self._inner.provider  # it changes where a plan was built meanwhile
        return results

    def infer_each(self, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """As of the engine inside; it counts as so many calls, and its time."""
        started = time.perf_counter()
        results = self._inner.infer_each(feeds)
        self.spent_s += time.perf_counter() - started
        self.calls += len(feeds)
        self.provider = self._inner.provider
        return results

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._inner.infer(feeds)

    def _release(self) -> None:
        self._inner.close()


@dataclass(frozen=True, slots=True)
class WatchedCatalog(Catalog):
    """A catalog with another one behind it.

    inner: what opens the networks. engines: those it has opened, by their networks' names.
    """

    inner: Catalog = field(default_factory=lambda: Catalog(()))
    engines: dict[str, WatchedEngine] = field(default_factory=dict)

    @classmethod
    def of(cls, inner: Catalog) -> WatchedCatalog:
        """Nothing opened yet."""
        return cls(inner.entries, inner.int8, inner)

    def open(
        self, network: Network | str, *, provider: str = "cpu", threads: int | None = None
    ) -> Engine:
        """An engine of the catalog inside, watched. Raises as that one does."""
        inner = self.inner.open(network, provider=provider, threads=threads)
        engine = WatchedEngine(inner, threads)
        self.engines[engine.network.name] = engine
        return engine

    def reset(self) -> None:
        """Reset the counts of all engines to zero."""
        for engine in self.engines.values():
            engine.reset()
