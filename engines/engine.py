"""What runs a network: one checked call, which each backend fills in.

`FakeEngine` is an engine without a model: a function behind the checks of a real one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import numpy as np

from mien.engines.errors import EngineError
from mien.engines.network import Network


class Engine(ABC):
    """A network ready to run, a context manager.

    network: the declaration every call is checked against.
    provider: what really runs it, read back from the backend.
    metadata: what its graph states of itself; empty where there is no graph.
    """

    def __init__(
        self, network: Network, provider: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        self.network = network
        self.provider = provider
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self._closed = False

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of the network by name, for its inputs by name.

        The arrays given are only read; those returned belong to the caller. Raises EngineError
        where names, dtypes or shapes are not the declared ones, on either side, where an output
        is not finite, where the backend fails, or after `close`.
        """
        self._check_open()
        self.network.check_inputs(feeds)
        results = self._run(feeds)
        self.network.check_outputs(results)
        return results

    def infer_each(self, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """The outputs for each of several inputs, as of `infer`; in one call where that is one.

        What `infer` gives differs from this by the order of sums at most. Raises as `infer` does.
        """
        self._check_open()
        for feed in feeds:
            self.network.check_inputs(feed)
        results = self._run_each(feeds)
        for result in results:
            self.network.check_outputs(result)
        return results

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(
                f"{self.network.name}: received a call after close, expected an open engine; "
                "open it again"
            )

    def close(self) -> None:
        """Free what the engine holds. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs for checked inputs; a failure of the backend becomes an EngineError."""

    def _run_each(self, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """The outputs for each of several checked inputs."""
        return [self._run(feed) for feed in feeds]

    @abstractmethod
    def _release(self) -> None:
        """Free what the backend holds; called once, on the first `close`."""


class FakeEngine(Engine):
    """An engine that answers with a function, for tests and for trying a stage without weights.

    Its calls are checked like those of any engine. What the function raises is not caught.
    """

    def __init__(
        self,
        network: Network,
        function: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(network, "fake", metadata)
        self._function = function

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._function(dict(feeds))

    def _release(self) -> None:
        """Do nothing: a function holds nothing."""
