"""What builds and runs plans, as the plan cache sees it, and how far a build is.

A small protocol: TensorRT stands behind it (`mien.engines.tensorrt.backend`), or a fake, with which
everything else can be tested on a machine without a GPU. The share of a build that is done is
computed from the nested phases that TensorRT reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mien.engines.errors import MienError
from mien.engines.network import TensorSpec
from mien.engines.tensorrt.plan_files import DeviceFacts

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
# Half of the free memory of a card of its own; a quarter where the processor's memory is the
# card's (Jetson), for there the desktop, the camera and ONNX Runtime live in it too.
OWN_SHARE, SHARED_SHARE = 0.5, 0.25
OWN_MOST, SHARED_MOST = 4 * GIBIBYTE, GIBIBYTE
LEAST = 64 * MEBIBYTE

Report = Callable[["BuildProgress"], None]


class PlanRefusedError(MienError):
    """The backend does not take a plan: it was made by another version, or for another device."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """The memory a build may use: bytes free, and whether it is the processor's own memory."""

    free: int
    is_shared: bool

    @property
    def workspace(self) -> int:
        """How much scratch memory a build is allowed, in bytes."""
        share = SHARED_SHARE if self.is_shared else OWN_SHARE
        most = SHARED_MOST if self.is_shared else OWN_MOST
        return max(LEAST, min(most, int(self.free * share)))


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How plans are built.

    level: TensorRT's optimization level, 3 its default. tf32: whether 32-bit convolutions may
    round their inputs to 19 bits; not, because the graph says what precision it wants.
    """

    level: int = 3
    tf32: bool = False

    @property
    def tag(self) -> str:
        """What of it makes another plan."""
        return f"level {self.level}, tf32 {'on' if self.tf32 else 'off'}"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One graph to build: the bytes of its ONNX file, its network's name, and how."""

    network: str
    model: bytes
    options: BuildOptions
    timing_cache: bytes = b""


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan, and what the build learned of the speed of kernels, for the next one."""

    plan: bytes
    timing_cache: bytes


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is: the share done in [0, 1], and seconds since it began."""

    network: str
    done: float
    elapsed_s: float

    @property
    def left_s(self) -> float | None:
        """Seconds to go, None while too little is done to tell."""
        if self.done < 0.05:
            return None
        return self.elapsed_s * (1 - self.done) / self.done


class PlanRunner(Protocol):
    """A plan ready to run.

    inputs, outputs: its tensors, in no certain order; ranges and colours are not known.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """New arrays for checked inputs. Raises EngineError."""
        ...

    def close(self) -> None:
        """Free what the runner holds on the device."""
        ...


class PlanBuilder(Protocol):
    """Builds plans on one device and runs them.

    name: what an engine on it says runs it.
    """

    name: str

    def device(self) -> DeviceFacts:
        """What its plans are bound to. Raises DeviceError where the device does not work."""
        ...

    def build(
        self, request: BuildRequest, report: Report, gave_up: Callable[[], bool]
    ) -> BuiltPlan:
        """A plan. Raises EngineError where the graph cannot be built, or `gave_up` said so."""
        ...

    def load(self, plan: bytes) -> PlanRunner:
        """What runs a plan. Raises PlanRefusedError, DeviceError."""
        ...


def ignore_progress(progress: BuildProgress) -> None:
    """Ignore the progress: a `Report` for callers that do not show it."""
    del progress


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
        """Begin a phase of so many steps, within `parent` where there is one."""
        self._phases[phase] = _Phase(parent or "", max(1, steps))

    def step(self, phase: str, step: int) -> None:
        """Note that the step of that number, from 0, is done."""
        known = self._phases.get(phase)
        if known is not None:
            known.done = min(known.steps, step + 1)
            self._tell()

    def finish(self, phase: str) -> None:
        """End the phase."""
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
