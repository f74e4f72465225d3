"""A catalog that notes which networks a filter opens, how, and how long they run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mien.engines import Catalog, Engine, Network


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
        """Nothing; counts from zero."""
        self.calls, self.spent_s = 0, 0.0

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As of the engine inside, which checks the call; its time is counted."""
        started = time.perf_counter()
        results = self._run(feeds)
        self.spent_s += time.perf_counter() - started
        self.calls += 1
        self.provider = self._inner.provider  # it changes where a plan was built meanwhile
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
        return cls(inner.entries, inner)

    def open(
        self, network: Network | str, *, provider: str = "cpu", threads: int | None = None
    ) -> Engine:
        """An engine of the catalog inside, watched. Raises as that one does."""
        inner = self.inner.open(network, provider=provider, threads=threads)
        engine = WatchedEngine(inner, threads)
        self.engines[engine.network.name] = engine
        return engine

    def reset(self) -> None:
        """Nothing; all engines count from zero."""
        for engine in self.engines.values():
            engine.reset()
