"""Plans kept from one start to the next, built once however many programs start at once."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mien.engines.errors import EngineError, ModelError
from mien.engines.system.file_lock import file_lock
from mien.engines.system.folders import CacheFolder, user_cache
from mien.engines.tensorrt.builder import (
    BuildOptions,
    BuildRequest,
    PlanBuilder,
    Report,
    ignore_progress,
)
from mien.engines.tensorrt.plan_files import (
    SIDECAR,
    DeviceFacts,
    ForeignPlan,
    PlanIdentity,
    PlanSidecar,
    differences,
    read_sidecar,
)

log = logging.getLogger(__name__)
PLAN, TIMING = ".plan", ".timing"
LOCK_NAME = "lock"
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Found:
    """A plan of the cache: its bytes, or why there are none to use."""

    plan: bytes | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plan to run, whether it was built just now, and why."""

    plan: bytes
    was_built: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlanState:
    """A plan file of the cache. sidecar: None where it cannot be used, and `reason` says why."""

    name: str
    sidecar: PlanSidecar | None
    reason: str = ""


def _warn_of(error: EngineError) -> None:
    log.warning("the plan is not kept, and has to be built again: %s", error)


@dataclass(frozen=True, slots=True)
class BuildWatch:
    """Who follows a build.

    report: takes the progress. on_build: is told why one begins. on_wait: is called where another
    program builds. gave_up: says whether nobody waits for it any more. on_lost: is told where the
    plan cannot be kept, as on a full disk; it runs all the same, and may raise what it is told.
    """

    report: Report = ignore_progress
    on_build: Callable[[str], None] = lambda _reason: None
    on_wait: Callable[[], None] = lambda: None
    gave_up: Callable[[], bool] = lambda: False
    on_lost: Callable[[EngineError], None] = _warn_of


class PlanCache:
    """The plans in a private folder, each with its sidecar, and what was learned of kernels' speed.

    One lock serves the whole folder: builds time kernels, and two at once would disturb each other.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = CacheFolder(folder or user_cache() / "plans")
        self.path = self._folder.path

    def find(self, identity: PlanIdentity) -> Found:
        """The plan of an identity, where it is there, whole, and was written here."""
        state = self._state(identity.stem)
        if isinstance(state, str):
            return Found(None, state)
        sidecar, plan = state
        if sidecar.identity != identity:
            return Found(None, "its sidecar states another plan")
        return Found(plan)

    def load_or_build(
        self,
        identity: PlanIdentity,
        builder: PlanBuilder,
        model: bytes,
        *,
        options: BuildOptions,
        watch: BuildWatch | None = None,
    ) -> Loaded:
        """The plan of an identity, built where the cache has none that can be used.

        Raises EngineError, DeviceError.
        """
        found = self.find(identity)
        if found.plan is not None:
            return Loaded(found.plan, was_built=False)
        watch = watch or BuildWatch()
        with self._locked(watch):
            found = self.find(identity)  # another program may have built it meanwhile
            if found.plan is not None:
                return Loaded(found.plan, was_built=False)
            watch.on_build(found.reason)
            self._folder.remove_parts()
            return Loaded(self._build(identity, builder, model, options, watch), True, found.reason)

    def discard(self, identity: PlanIdentity, plan: bytes) -> None:
        """Remove a plan that the device did not take.

        One that another program has built in its place meanwhile stays. Raises EngineError.
        """
        with self._locked(BuildWatch()):
            if self.find(identity).plan == plan:
                for ending in (PLAN, SIDECAR):
                    self._folder.remove(identity.stem + ending)

    def adopt(
        self, foreign: ForeignPlan, identity: PlanIdentity, try_plan: Callable[[bytes], None]
    ) -> None:
        """Take in a plan from elsewhere, because a person says that it is to be trusted.

        try_plan: raises where the device does not take it; the cache is as it was then. Raises
        ModelError where the plan is not of `identity`, EngineError where it cannot be written.
        """
        if foreign.sidecar.identity != identity:
            wrong = ", ".join(differences(foreign.sidecar.identity, identity))
            raise ModelError(
                f"the plan {foreign.file} does not fit: {wrong}; build it here with mien build"
            )
        try_plan(foreign.plan)
        with self._locked(BuildWatch()):
            self._write(identity, foreign.plan, foreign.sidecar.built_s)

    def states(self) -> tuple[PlanState, ...]:
        """Every plan in the folder, in the order of the names."""
        stems = {Path(name).stem for name in self._folder.names(PLAN)}
        stems |= {Path(name).stem for name in self._folder.names(SIDECAR)}
        states = []
        for stem in sorted(stems):
            state = self._state(stem)
            if isinstance(state, str):
                states.append(PlanState(stem, None, state))
            else:
                states.append(PlanState(stem, state[0]))
        return tuple(states)

    def prune(self, is_wanted: Callable[[PlanSidecar], bool]) -> tuple[str, ...]:
        """The names of what was removed: plans that cannot be used or are not wanted, leftovers.

        The timing caches of devices that have no plan left go with them.
        """
        with self._locked(BuildWatch()):
            removed = self._folder.remove_parts()
            kept: set[str] = set()
            for state in self.states():
                if state.sidecar is not None and is_wanted(state.sidecar):
                    kept.add(state.sidecar.identity.device.tag)
                    continue
                removed += [state.name + PLAN]
                for ending in (PLAN, SIDECAR):
                    self._folder.remove(state.name + ending)
            for name in self._folder.names(TIMING):
                if Path(name).stem not in kept:
                    removed.append(name)
                    self._folder.remove(name)
        return tuple(removed)

    def timing_cache(self, device: DeviceFacts) -> bytes:
        """What earlier builds learned on a device; empty where that is missing or damaged."""
        data = self._folder.read(device.tag + TIMING) or b""
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else b""

    def _build(
        self,
        identity: PlanIdentity,
        builder: PlanBuilder,
        model: bytes,
        options: BuildOptions,
        watch: BuildWatch,
    ) -> bytes:
        before = self.timing_cache(identity.device)
        started = time.monotonic()
        request = BuildRequest(identity.network, model, options, before)
        built = builder.build(request, watch.report, watch.gave_up)
        try:
            self._write(identity, built.plan, time.monotonic() - started)
            if built.timing_cache and built.timing_cache != before:
                digest = hashlib.sha256(built.timing_cache).digest()
                self._folder.write(identity.device.tag + TIMING, digest + built.timing_cache)
        except EngineError as error:  # of minutes of work, which is done
            watch.on_lost(error)
        return built.plan

    def _write(self, identity: PlanIdentity, plan: bytes, built_s: float) -> None:
        sidecar = PlanSidecar.of(identity, plan, built_s).write()
        # Between the two, whoever reads finds that they do not belong together, and waits here.
        self._folder.write(identity.stem + PLAN, plan)
        self._folder.write(identity.stem + SIDECAR, sidecar)

    def _state(self, stem: str) -> tuple[PlanSidecar, bytes] | str:
        """A plan with its sidecar, or why it cannot be used."""
        data = self._folder.read(stem + SIDECAR)
        plan = self._folder.read(stem + PLAN)
        if data is None and plan is None:
            return "there is no plan yet"
        if data is None or plan is None:
            return f"its {'sidecar' if data is None else 'plan'} is missing or not private"
        try:
            sidecar = read_sidecar(data)
        except ValueError as error:
            return str(error)
        if sidecar.identity.stem != stem:
            return "its sidecar states another plan"
        return (sidecar, plan) if sidecar.fits(plan) else "the plan is damaged"

    def _locked(self, watch: BuildWatch) -> AbstractContextManager[None]:
        return file_lock(self.path / LOCK_NAME, on_wait=watch.on_wait, gave_up=watch.gave_up)
