"""An engine that another one carries until its plan is built."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

import numpy as np

from mien.engines.engine import Engine

log = logging.getLogger(__name__)
GIVE_UP_S = 10.0  # how long closing waits for a build that was called off

GaveUp = Callable[[], bool]


class LazyEngine(Engine):
    """Runs on `carrier` while `build` makes what was asked for, then on that.

    build: called once in a thread of its own, with a function that says whether to stop.
    `provider` says what runs it now. Where the build fails, a line says so and the carrier goes on:
    a call or a film that runs is not broken off for it.
    """

    def __init__(self, carrier: Engine, build: Callable[[GaveUp], Engine]) -> None:
        super().__init__(carrier.network, carrier.provider, carrier.metadata)
        self._now = carrier
        self._next: Engine | None = None
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._ended = threading.Event()  # not Thread.join: see `mien.engines.worker`
        self._build = build
        name = f"build {carrier.network.name}"
        threading.Thread(target=self._make, name=name, daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether the build ended, well or not, within a time."""
        return self._ended.wait(timeout_s)

    def _make(self) -> None:
        try:
            self._make_next()
        finally:
            self._ended.set()

    def _make_next(self) -> None:
        try:
            built = self._build(self._given_up.is_set)
        except Exception as error:  # noqa: BLE001 -- of a thread's, nobody else would hear
            if not self._given_up.is_set():
                log.warning(
                    "%s: its plan cannot be built: %s; %s carries the frames on",
                    self.network.name,
                    " ".join(str(error).split()) or type(error).__name__,
                    self._now.provider,
                )
            return
        with self._lock:
            if not self._given_up.is_set():
                self._next = built
                return
        built.close()

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            built, self._next = self._next, None
        if built is not None:
            self._now.close()
            self._now = built
            self.provider = built.provider
            log.warning(
                "%s: the plan is built; it runs on %s now", self.network.name, built.provider
            )
        return self._now.infer(feeds)

    def _release(self) -> None:
        self._given_up.set()
        try:
            self._ended.wait(GIVE_UP_S)
        finally:
            with self._lock:
                built, self._next = self._next, None
            if built is not None:
                built.close()
            self._now.close()
