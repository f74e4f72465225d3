"""Weights kept in half precision: a file of half the size that computes in single precision.

Rounding is done to the module, before its export, so that the file still says exactly what the
module says and a score of the module is a score of the file.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)

SMALLEST = 64  # tensors of fewer elements stay as they are: a cast costs as much as it saves


def rounded_to_half(module: Module) -> Module:
    """A copy of `module`, for inference, whose weights half precision holds exactly.

    Normalisation is merged into the convolutions before it, as the exporter would do after.
    """
    made = copy.deepcopy(module).eval().float()
    for sequence in list(made.modules()):
        if isinstance(sequence, nn.Sequential):
            _merge_normalisation(sequence)
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(weight.half().float())
    return made


def _merge_normalisation(sequence: nn.Sequential) -> None:
    for index in range(len(sequence) - 1):
        convolution, normalisation = sequence[index], sequence[index + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            sequence[index] = fuse_conv_bn_eval(convolution, normalisation)
            sequence[index + 1] = nn.Identity()


def store_half(path: Path) -> int:
    """Keep the weights of the graph at `path` that half precision holds exactly in half precision.

    Each is cast when the graph is loaded; engines fold such casts. Returns how many there are.
    """
    model = onnx.load(str(path))
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        half = _exact_half(tensor)
        if half is None:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return len(casts)


def _exact_half(tensor: TensorProto) -> np.ndarray | None:
    """The values in half precision; None where that would change them or is not worth it."""
    if tensor.data_type != TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    if values.size < SMALLEST:
        return None
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else None
