"""Which further nodes must stay in FP32, found by trying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mien.calibration.precision.fp16 import fake_quantised_model
from mien.calibration.precision.graph import Graph
from mien.calibration.precision.quality import OutputError, output_errors, run_model, worst
from mien.calibration.representative import Feeds
from mien.engines.errors import EngineError
from mien.engines.network import Network

BLAME_INPUTS = 3  # a node is tried alone on this many inputs


@dataclass(frozen=True, slots=True)
class Plan:
    """Which nodes stay in FP32 and why, by name, and what the rest costs each output."""

    kept: Mapping[str, str]
    errors: tuple[OutputError, ...]

    @property
    def worst(self) -> float:
        """The largest relative error of an output."""
        return worst(self.errors)


class Search:
    """Looks for a plan whose outputs are near enough; what it learns serves the next look too."""

    def __init__(self, graph: Graph, network: Network, feeds: Sequence[Feeds]) -> None:
        self._graph = graph
        self._network = network
        self._feeds = feeds
        self._expected = run_model(graph.model, feeds)
        self._blame: dict[str, float] | None = None

    def measured(self, kept: Mapping[str, str], inputs: int | None = None) -> Plan:
        """The plan that keeps `kept`, tried on the first `inputs` inputs, or on all."""
        received = run_model(fake_quantised_model(self._graph, kept.keys()), self._feeds[:inputs])
        errors = output_errors(self._expected[:inputs], received, self._network)
        return Plan(dict(kept), errors)

    def settle(self, kept: Mapping[str, str], tolerance: float) -> Plan:
        """The plan that keeps `kept` and, of the others, those most to blame until all is near.

        tolerance: the largest relative error of an output. Raises EngineError where even a graph
        wholly in FP32 is not that near, which is to say never.
        """
        plan, count = self.measured(kept), 1
        while plan.worst > tolerance:
            guilty = self._guilty(plan.kept, count)
            if not guilty:
                raise EngineError(
                    f"{self._network.name}: no node is left in FP16 and the error is still "
                    f"{plan.worst:.2g}; leave the network in FP32, and report this"
                )
            plan = self.measured({**plan.kept, **guilty})
            if plan.worst <= tolerance:
                return self._without_the_innocent(plan, list(guilty), tolerance)
            count *= 2
        return plan

    def _without_the_innocent(self, plan: Plan, batch: list[str], tolerance: float) -> Plan:
        """The plan less those of the last batch, the least guilty first, that it can do without."""
        for name in reversed(batch[1:]):
            fewer = {other: reason for other, reason in plan.kept.items() if other != name}
            tried = self.measured(fewer)
            plan = tried if tried.worst <= tolerance else plan
        return plan

    def _guilty(self, kept: Mapping[str, str], count: int) -> dict[str, str]:
        """The `count` nodes not kept yet that do most harm alone, with what they do as reason."""
        if self._blame is None:
            self._blame = {node.name: self._harm(node.name) for node in self._graph.float_nodes()}
        rest = [name for name in self._blame if name not in kept]
        rest.sort(key=lambda name: -self._blame_of(name))
        return {
            name: f"found by trying: alone in FP16 it costs {self._blame_of(name):.1e}"
            for name in rest[:count]
        }

    def _blame_of(self, name: str) -> float:
        return (self._blame or {}).get(name, 0.0)

    def _harm(self, name: str) -> float:
        others = {node.name: "" for node in self._graph.float_nodes() if node.name != name}
        return self.measured(others, BLAME_INPUTS).worst
