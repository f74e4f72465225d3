"""From a torch module to a checked ONNX file that states what it is."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from mien.engines.errors import ModelError
from mien.engines.network import Network, TensorSpec
from mien.engines.onnx_runtime import OnnxRuntimeEngine

OPSET = 18
PARITY_KEY = "mien.parity_error"
EXAMPLES = 4  # random inputs for which torch and ONNX Runtime are compared


def to_onnx(
    module: nn.Module,
    network: Network,
    path: Path,
    *,
    facts: Mapping[str, str] | None = None,
    tolerance: float = 1e-3,
) -> float:
    """The parity error of `module` written to `path` as the declared `network`.

    The largest difference between torch and ONNX Runtime, relative to the size of an output's
    values where these are above 1. facts: more metadata (paper, data), kept as `mien.<key>`.

    Raises ModelError where they differ by more than `tolerance`; no file is left then.
    """
    module = module.eval().cpu()
    examples = [example_of(network, seed) for seed in range(EXAMPLES)]
    part = path.with_suffix(".part.onnx")
    with warnings.catch_warnings():
        # torch 2.13's exporter warns of what it deprecates itself, and that there is no torchvision
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(examples[0][spec.name]) for spec in network.inputs),
            input_names=[spec.name for spec in network.inputs],
            output_names=[spec.name for spec in network.outputs],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ModelError(f"torch gave no graph for the network {network.name!r}; update torch")
    program.save(str(part), external_data=False)
    metadata = network.metadata() | {f"mien.{key}": text for key, text in (facts or {}).items()}
    _stamp(part, metadata)
    error = parity_error(module, network, part, examples)
    if not error <= tolerance:
        part.unlink()
        raise ModelError(
            f"{network.name}: torch and ONNX Runtime differ by {error:.2g}, expected at most "
            f"{tolerance:.2g}; look for an operator that the exporter translates wrongly"
        )
    _stamp(part, {PARITY_KEY: f"{error:.3g}"})
    part.replace(path)
    return error


def example_of(network: Network, seed: int) -> dict[str, np.ndarray]:
    """Random inputs of the declared shapes, within the declared ranges."""
    rng = np.random.default_rng(seed)
    return {spec.name: _example(spec, rng) for spec in network.inputs}


def _example(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    low, high = spec.range or (0.0, 1.0)
    return rng.uniform(low, high, spec.shape).astype(spec.dtype)


def parity_error(
    module: nn.Module, network: Network, path: Path, examples: list[dict[str, np.ndarray]]
) -> float:
    """The largest difference of `module` and the file at `path` over `examples`."""
    worst = 0.0
    with OnnxRuntimeEngine(path, network) as engine, torch.inference_mode():
        for feeds in examples:
            given = module(*(torch.from_numpy(feeds[spec.name]) for spec in network.inputs))
            wanted = given if isinstance(given, tuple) else (given,)
            found = engine.infer(feeds)
            for spec, tensor in zip(network.outputs, wanted, strict=True):
                truth = tensor.numpy()
                size = max(1.0, float(np.abs(truth).max()))
                worst = max(worst, float(np.abs(found[spec.name] - truth).max()) / size)
    return worst


def sha256_of(path: Path) -> str:
    """The hash of a file, as the catalog keeps it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stamp(path: Path, metadata: Mapping[str, str]) -> None:
    """Check the graph at `path` and add `metadata` to it."""
    graph = onnx.load(str(path))
    onnx.checker.check_model(graph, full_check=True)
    known = {entry.key: entry.value for entry in graph.metadata_props} | dict(metadata)
    onnx.helper.set_model_props(graph, known)
    for node in graph.graph.node:  # where a node was traced from: names of the exporting machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
    for initializer in graph.graph.initializer:
        del initializer.metadata_props[:]
    onnx.save(graph, str(path))
