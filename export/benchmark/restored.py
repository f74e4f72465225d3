"""An ONNX file of mien's export as the PyTorch module it was made of, with the same weights.

What the exporter merged from batch normalisation into a convolution returns as a normalisation that
adds the bias, so that the module does all that it did when it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from mien.engines.errors import ModelError
from mien.engines.graph.file import read_model
from mien.engines.networks import DETECTOR, LANDMARKS, OCCLUSION, WARP
from mien.export.checkpoints.formats import (
    cyclegan_spec,
    is_bisenet,
    is_cyclegan,
    is_deeplab,
    is_stargan,
    stargan_spec,
)
from mien.export.models.gans import Activation, CycleGanGenerator, StarGanGenerator
from mien.export.models.landmarks import DetectorNetwork, LandmarkNetwork
from mien.export.models.parsers import BiSeNet, BiSeNetSpec, DeepLab, DeepLabSpec
from mien.export.models.trunks import MobileNetSpec
from mien.export.models.warp import OcclusionNetwork, WarpNetwork

MERGED = "_bias"  # the exporter's name for the bias of a merged normalisation: weight + this
Weights = Mapping[str, torch.Tensor]


def restored_module(path: Path, name: str) -> nn.Module:
    """The module of a network with the weights of its ONNX file, ready to be called.

    name: of the network. Raises ModelError where the file is of another make or precision.
    """
    content = read_model(path)
    try:
        graph = onnx.load_from_string(content).graph
        weights = {
            value.name: torch.from_numpy(np.array(numpy_helper.to_array(value)))
            for value in graph.initializer
        }
        module = _module(graph, weights, name).eval()
        module.load_state_dict(_state(module, weights))
    except Exception as error:  # of onnx and torch: any size that the file states may be wrong
        raise ModelError(
            f"{path} does not hold the weights of mien's {name} module: it is of another make or "
            "precision"
        ) from error
    return module


def _module(graph: onnx.GraphProto, weights: Weights, name: str) -> nn.Module:
    """The module as it was built, with any weights. Raises KeyError for a network not known."""
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    activation: Activation = "relu" if any(n.op_type == "Relu" for n in graph.node) else "leaky"
    if name in MAKERS:
        return MAKERS[name](weights)
    if is_stargan(shapes):
        return StarGanGenerator(stargan_spec(shapes, activation))
    if is_cyclegan(shapes):
        return CycleGanGenerator(cyclegan_spec(shapes, activation))
    if is_deeplab(shapes):
        return DeepLab(_deeplab_spec(graph, DeepLabSpec.from_shapes(shapes)))
    if is_bisenet(shapes):
        return BiSeNet(BiSeNetSpec.from_shapes(shapes))
    raise KeyError(name)


def _warp(weights: Weights) -> nn.Module:
    width = weights["down.0.reduce.weight"].shape[0]
    return WarpNetwork(torch.zeros_like(weights["modes"]), weights["mean"], width)


MAKERS: dict[str, Callable[[Weights], nn.Module]] = {
    DETECTOR.name: lambda _: DetectorNetwork(),
    LANDMARKS.name: lambda _: LandmarkNetwork(),
    WARP.name: _warp,
    OCCLUSION.name: lambda _: OcclusionNetwork(),
}


def _deeplab_spec(graph: onnx.GraphProto, spec: DeepLabSpec) -> DeepLabSpec:
    """The sizes with the stride and the rates of the graph, which no weight shows."""
    convolutions = {node.input[1]: node for node in graph.node if node.op_type == "Conv"}
    rates, branch = [], "classifier.0.convs.1.0.weight"
    while branch in convolutions:
        rates.append(_first(convolutions[branch], "dilations"))
        branch = f"classifier.0.convs.{1 + len(rates)}.0.weight"
    if isinstance(spec.trunk, MobileNetSpec):
        stride = 1
        for name, node in convolutions.items():
            stride *= _first(node, "strides") if name.startswith("backbone.") else 1
        spec = replace(spec, trunk=replace(spec.trunk, stride=stride))
    return replace(spec, rates=tuple(rates))


def _first(node: onnx.NodeProto, attribute: str) -> int:
    """The first number of an attribute, 1 where it is left out."""
    found = next((one.ints[0] for one in node.attribute if one.name == attribute), 1)
    return int(found)


def _state(module: nn.Module, weights: Weights) -> dict[str, torch.Tensor]:
    """The state dict of `module`: its own entries, found by name. Raises KeyError."""
    found = dict(module.state_dict()) | dict(weights)
    before = ""  # the convolution that a normalisation follows
    missing = {name for name, _ in module.named_parameters()} - weights.keys()
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv2d):
            before = name
        elif isinstance(child, nn.BatchNorm2d):
            merged = weights[f"{before}.weight{MERGED}"]
            found[f"{name}.weight"] = torch.full_like(merged, (1 + child.eps) ** 0.5)
            found[f"{name}.bias"] = merged
            found[f"{name}.running_mean"] = torch.zeros_like(merged)
            found[f"{name}.running_var"] = torch.ones_like(merged)
            missing -= {f"{name}.weight", f"{name}.bias"}
    if missing:
        raise KeyError(min(missing))
    return {key: found[key] for key in module.state_dict()}
