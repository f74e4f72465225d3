"""How far a build is, from the phases that TensorRT tells of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mien.engines.builder import BuildProgress, Report


@dataclass(slots=True)
class _Phase:
    parent: str
    steps: int
    done: int = 0


class PhaseProgress:
    """Turns nested phases of steps into one share, which never goes back.

    A phase inside another counts as a part of the step its parent is at.
    """

    def __init__(
        self, network: str, report: Report, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._network = network
        self._report = report
        self._clock = clock
        self._started = clock()
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Nothing; a phase of so many steps begins, within `parent` where that is one."""
        self._phases[phase] = _Phase(parent or "", max(1, steps))

    def step(self, phase: str, step: int) -> None:
        """Nothing; the step of that number, from 0, is done."""
        known = self._phases.get(phase)
        if known is not None:
            known.done = min(known.steps, step + 1)
            self._tell()

    def finish(self, phase: str) -> None:
        """Nothing; the phase is done."""
        ended = self._phases.pop(phase, None)
        if ended is not None and not self._phases:
            self._share = 1.0
            self._tell()

    def _tell(self) -> None:
        self._share = max(self._share, min(1.0, self._total()))
        self._report(BuildProgress(self._network, self._share, self._clock() - self._started))

    def _total(self) -> float:
        roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        return sum(self._share_of(name) for name in roots) / max(1, len(roots))

    def _share_of(self, name: str) -> float:
        phase = self._phases[name]
        children = [child for child, other in self._phases.items() if other.parent == name]
        inside = sum(self._share_of(child) for child in children) / max(1, len(children))
        return min(1.0, (phase.done + inside) / phase.steps)
