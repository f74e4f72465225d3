"""Inputs to run a network with where no picture is at hand."""

from __future__ import annotations

import numpy as np

from mien.engines.network import Network, TensorSpec


def example_inputs(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of the declared shapes, within the declared ranges."""
    rng = np.random.default_rng(seed)
    return {spec.name: _example(spec, rng) for spec in network.inputs}


def _example(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    low, high = spec.range or (0.0, 1.0)
    return rng.uniform(low, high, spec.shape).astype(spec.dtype)
