"""A torch module with the weights of a graph that was exported here, to be trained further.

A shipped graph outlives the checkpoint it came from. The exporter keeps most names but gives others
to what it transposes or reshapes, so where each weight lies is found out by an export of a module
like it whose weights are marked by random values.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from mien.engines.errors import ModelError
from mien.engines.network import Network
from mien.export.onnx_file import EXAMPLES, INT8_MIDDLE, example_of, trace
from mien.export.parity import Allowed, Example, compare

Module = TypeVar("Module", bound=nn.Module)

SHOWN = 4  # weights that a message lists
SAME = 1e-5  # of a mark, by how much merging a normalisation that does nothing rounds it
NORMALISATION = nn.modules.batchnorm._BatchNorm


def read_back(module: Module, network: Network, path: Path, *, tolerance: float = 1e-3) -> Module:
    """A copy of `module`, in evaluation, with the weights of the graph at `path`.

    module: of the architecture that was exported; its buffers (a student's noise levels) are its
    own. network: the declaration it was exported as. Normalisation by batches, which the exporter
    merges into the convolutions before it, comes back as one that only adds; `renormalise` makes it
    fit to be trained.

    Raises ModelError where a weight is not found in the graph, and ParityError where the module
    then gives something else than the graph.
    """
    marked = _marked(module)
    example = Example("marks", example_of(network, 0))
    layout = trace(marked, network, example).model_proto
    marks: dict[int, list[tuple[str, np.ndarray]]] = {}
    for tensor in layout.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            marks.setdefault(values.size, []).append((tensor.name, values))
    given = weights_of(path)
    found = {key: marked.get_parameter(key).detach() for key in _neutral(marked)}
    sought = {key: value for key, value in marked.named_parameters() if key not in found}
    for key, parameter in sought.items():
        mark = parameter.detach().numpy()
        for told, values in marks.get(mark.size, ()):
            # Of older exporters, the name of a bias that comes from a normalisation.
            name = told if told in given else told.replace(".weight_bias", ".bias")
            if name not in given or given[name].size != mark.size:
                continue
            for transposed in (False, True):
                laid = _as(values, mark.shape, transposed=transposed)
                if np.allclose(laid, mark, rtol=SAME, atol=0):
                    own = _as(given[name], mark.shape, transposed=transposed)
                    found[key] = torch.from_numpy(own.copy())
    lost = [key for key in sought if key not in found]
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise ModelError(
            f"{path.name} does not hold {', '.join(lost[:SHOWN])}{more} of {network.name} as this "
            "version exports it; train from the beginning"
        )
    filled = copy.deepcopy(module).eval()
    filled.load_state_dict({**filled.state_dict(), **found})
    _forget_batches(filled)
    examples = [Example(f"random input {n}", example_of(network, n)) for n in range(EXAMPLES)]
    compare(filled, network, path, examples, Allowed(tolerance))
    return filled


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """The float32 weights of a graph by their names, however small they are kept there.

    The counterpart of `store_small`.
    """
    graph = onnx.load(str(path)).graph
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found: dict[str, np.ndarray] = {}
    for name, values in kept.items():
        whole, _, form = name.rpartition(".")
        if form == "half":
            found[whole] = values.astype(np.float32)
        elif form == "int8":
            steps = values.astype(np.float32) - INT8_MIDDLE
            found[whole] = steps * kept[f"{whole}.scale"]
        elif values.dtype == np.float32:
            found[name] = values
    return found


def _marked(module: Module) -> Module:
    """A copy whose weights are all different."""
    marked = copy.deepcopy(module).cpu().eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in marked.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) + 0.5)
        for key in _neutral(marked):
            value = marked.get_parameter(key)
            value.fill_(0 if key.rpartition(".")[2].startswith("bias") else 1)
    _forget_batches(marked)
    return marked


def _neutral(module: nn.Module) -> list[str]:
    """The weights that the exporter merges into others, so that they may as well do nothing.

    The scale of a normalisation, and the second of an LSTM's two biases.
    """
    found = []
    for name, part in module.named_modules():
        before = f"{name}." if name else ""
        if isinstance(part, NORMALISATION):
            found.append(f"{before}weight")
        elif isinstance(part, nn.LSTM):
            found += [f"{before}{key}" for key, _ in part.named_parameters() if "bias_hh" in key]
    return found


def _forget_batches(module: nn.Module) -> None:
    """Let every normalisation do nothing but scale and add, in evaluation."""
    for part in module.modules():
        if isinstance(part, NORMALISATION):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.zero_()
            part.running_var.fill_(1 - part.eps)


@torch.no_grad()
def renormalise(module: Module, *inputs: torch.Tensor) -> Module:
    """The module that was read back, with normalisations of what they are given for `inputs`.

    In evaluation it computes as before; in training about that, for batches like these. It is
    changed.
    """
    given: list[tuple[nn.modules.batchnorm._BatchNorm, torch.Tensor]] = []
    hooks = [
        part.register_forward_pre_hook(lambda part, seen: given.append((part, seen[0])))
        for part in module.modules()
        if isinstance(part, NORMALISATION)
    ]
    try:
        module.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for part, seen in given:
        axes = [axis for axis in range(seen.ndim) if axis != 1]
        variance, mean = torch.var_mean(seen.float(), axes, correction=0)
        assert part.running_mean is not None
        assert part.running_var is not None
        part.running_mean.copy_(mean)
        part.running_var.copy_(variance)
        part.weight.mul_((variance + part.eps).sqrt())
        part.bias.add_(mean)
    return module


def _as(values: np.ndarray, shape: tuple[int, ...], *, transposed: bool) -> np.ndarray:
    """The values in a shape, of as many elements; a matrix may have been transposed before."""
    if transposed and len(shape) == 2:
        return np.ascontiguousarray(values.reshape(shape[::-1]).T)
    return values.reshape(shape)
