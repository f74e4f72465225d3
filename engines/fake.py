"""An engine without a model: a function behind the checks of a real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mien.engines.engine import Engine
from mien.engines.network import Network


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
        """Nothing is held."""
