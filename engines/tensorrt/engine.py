"""Networks run from plans: compiled for one device, kept in the plan cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mien.engines.engine import Engine
from mien.engines.errors import EngineError, ModelError
from mien.engines.graph.file import declared_network, read_metadata, read_model
from mien.engines.network import Network, TensorSpec
from mien.engines.ort.backend import check_runnable
from mien.engines.tensorrt.builder import BuildOptions, PlanBuilder, PlanRefusedError, PlanRunner
from mien.engines.tensorrt.plan_files import DeviceFacts, ForeignPlan, PlanIdentity, profile_of
from mien.engines.tensorrt.plans import BuildWatch, PlanCache

PRECISION_KEY = "mien.precision"


@dataclass(frozen=True, slots=True)
class PlanModel:
    """A model file to make a plan of: its bytes, what network it is and what it states."""

    path: Path
    model: bytes
    network: Network
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, network: Network | str, sha256: str | None = None) -> PlanModel:
        """The model in a file. Raises ModelError as `OnnxRuntimeEngine` does."""
        model = read_model(path, sha256)
        check_runnable(model, path)
        metadata = read_metadata(model, path)
        return cls(path, model, declared_network(network, path, metadata), metadata)

    def identity(self, device: DeviceFacts, options: BuildOptions) -> PlanIdentity:
        """Which plan serves it on a device."""
        return PlanIdentity(
            network=self.network.name,
            graph_sha256=hashlib.sha256(self.model).hexdigest(),
            precision=self.metadata.get(PRECISION_KEY, "fp32"),
            profile=profile_of(self.network),
            device=device,
            options=options.tag,
        )


class PlanEngine(Engine):
    """A network run from a plan. Raises ModelError where the plan has other tensors than it."""

    def __init__(
        self,
        network: Network,
        runner: PlanRunner,
        *,
        provider: str,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        _check_tensors(network, "input", network.inputs, runner.inputs)
        _check_tensors(network, "output", network.outputs, runner.outputs)
        super().__init__(network, provider, metadata)
        self._runner: PlanRunner | None = runner

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._runner is None:
            raise EngineError(f"{self.network.name}: the plan is closed; open it again")
        results = self._runner.run(feeds)
        return {spec.name: results[spec.name] for spec in self.network.outputs}

    def _release(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._runner = None


@dataclass(frozen=True, slots=True)
class PlanSource:
    """Where plans come from: a device's builder, the cache, and how to build."""

    builder: PlanBuilder
    cache: PlanCache
    options: BuildOptions = field(default_factory=BuildOptions)

    def is_built(self, model: PlanModel) -> bool:
        """Whether the cache has the plan of a model."""
        identity = model.identity(self.builder.device(), self.options)
        return self.cache.find(identity).plan is not None

    def trust(self, model: PlanModel, foreign: ForeignPlan) -> None:
        """Take a plan from elsewhere as that of `model`: from now on it runs as code.

        Raises ModelError, and keeps the plan there is, where it is another's or the device does
        not take it.
        """

        def try_plan(plan: bytes) -> None:
            try:
                self._engine(model, plan).close()
            except PlanRefusedError as error:
                raise ModelError(
                    f"the device does not take the plan {foreign.file}; build it here with "
                    "mien build"
                ) from error

        identity = model.identity(self.builder.device(), self.options)
        self.cache.adopt(foreign, identity, try_plan)

    def open(self, model: PlanModel, watch: BuildWatch | None = None) -> PlanEngine:
        """An engine for a model, its plan built where the cache has none that the device takes.

        Raises EngineError, DeviceError, ModelError.
        """
        identity = model.identity(self.builder.device(), self.options)
        for _ in range(2):
            loaded = self.cache.load_or_build(
                identity, self.builder, model.model, options=self.options, watch=watch
            )
            try:
                return self._engine(model, loaded.plan)
            except PlanRefusedError as error:
                self.cache.discard(identity, loaded.plan)
                refused = error
                if loaded.was_built:
                    break
        raise EngineError(
            f"{model.network.name}: the plan built just now does not load: {refused}; "
            "use --provider cpu, and report this"
        ) from refused

    def _engine(self, model: PlanModel, plan: bytes) -> PlanEngine:
        """An engine on a plan. Raises PlanRefusedError, DeviceError, ModelError."""
        runner = self.builder.load(plan)
        try:
            return PlanEngine(
                model.network, runner, provider=self.builder.name, metadata=model.metadata
            )
        except ModelError:
            runner.close()
            raise


def _check_tensors(
    network: Network, kind: str, declared: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...]
) -> None:
    expected = {spec.name: str(spec) for spec in declared}
    received = {spec.name: str(spec) for spec in found}
    if received != expected:
        stated = ", ".join(f"{name} {spec}" for name, spec in received.items()) or "none"
        raise ModelError(
            f"the {kind}s of the plan are {stated}, but the network {network.name!r} has "
            f"{', '.join(f'{name} {spec}' for name, spec in expected.items())}; "
            "use a model made for this version of mien"
        )
