"""A device that is not there: builds plans of its own kind and runs them, on any machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mien.engines.errors import EngineError
from mien.engines.graph.file import read_metadata
from mien.engines.network import Network, TensorSpec
from mien.engines.tensorrt.builder import (
    BuildProgress,
    BuildRequest,
    BuiltPlan,
    PlanRefusedError,
    PlanRunner,
    Report,
)
from mien.engines.tensorrt.plan_files import DeviceFacts

FAKE_DEVICE = DeviceFacts("10.3.0", 12, "8.7", "Fake", "Linux", "aarch64")
MAGIC = b"fake plan of "
STEPS = 20
SLICE_S = 0.05  # how soon it sees that it was called off

Function = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass
class FakePlanBuilder:
    """A `PlanBuilder` whose plans hold a network's declaration and run as a function.

    facts: of the device it plays. build_s: how long a build takes. log: a file that gets one line
    for each build that began and one for each that ended, whichever process runs it.
    function: what a plan computes; without one its outputs are zeros.
    """

    facts: DeviceFacts = FAKE_DEVICE
    build_s: float = 0.0
    log: Path | None = None
    function: Function | None = None
    name: str = "fake-plan"
    asked: list[BuildRequest] = field(default_factory=list)

    def device(self) -> DeviceFacts:
        return self.facts

    def build(
        self, request: BuildRequest, report: Report, gave_up: Callable[[], bool]
    ) -> BuiltPlan:
        self.asked.append(request)
        self._note(f"began {request.network}")
        started = time.monotonic()
        for step in range(STEPS):
            until = started + self.build_s * (step + 1) / STEPS
            while not gave_up() and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, SLICE_S))
            if gave_up():
                raise EngineError(f"{request.network}: the build was called off")
            elapsed = time.monotonic() - started
            report(BuildProgress(request.network, (step + 1) / STEPS, elapsed))
        network = Network.from_metadata(read_metadata(request.model, Path(request.network)))
        self._note(f"ended {request.network}")
        head = MAGIC + self.facts.tag.encode() + b"\n"
        plan = head + json.dumps(network.metadata()).encode()
        return BuiltPlan(plan, request.timing_cache + b"+" + request.network.encode())

    def load(self, plan: bytes) -> PlanRunner:
        head, _, stated = plan.partition(b"\n")
        if head != MAGIC + self.facts.tag.encode():
            raise PlanRefusedError("the plan was built for another device")
        network = Network.from_metadata(json.loads(stated))
        return _FakeRunner(network, self.function or _zeros_of(network))

    def _note(self, line: str) -> None:
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


class _FakeRunner:
    def __init__(self, network: Network, function: Function) -> None:
        self.inputs = tuple(_bare(spec) for spec in network.inputs)
        self.outputs = tuple(_bare(spec) for spec in network.outputs)
        self._function = function

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._function(dict(feeds))

    def close(self) -> None:
        """Do nothing: nothing is held."""


def _bare(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.shape, spec.dtype)


def _zeros_of(network: Network) -> Function:
    return lambda _feeds: {spec.name: np.zeros(spec.shape, spec.dtype) for spec in network.outputs}
