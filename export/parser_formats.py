"""The face parsers, rebuilt from the tensors of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from mien.export.bisenet import BiSeNet, BiSeNetSpec
from mien.export.deeplab import DeepLab, DeepLabSpec
from mien.export.loading import load_strictly, without
from mien.export.resnet import Shapes

State = Mapping[str, torch.Tensor]

# Outputs that are for training only.
AUXILIARY = re.compile(r"^(aux_classifier\.|conv_out16\.|conv_out32\.)")


def is_deeplab(shapes: Shapes) -> bool:
    """Whether the names are those of torchvision's DeepLabV3."""
    return any(key.startswith("classifier.0.convs.") for key in shapes)


def build_deeplab(state: State, where: str) -> DeepLab:
    """A DeepLabV3 with the weights of a state dict. Raises ModelError, KeyError."""
    state = without(AUXILIARY, state)
    spec = DeepLabSpec.from_state(state)
    return load_strictly(lambda: DeepLab(spec), state, where)


def is_bisenet(shapes: Shapes) -> bool:
    """Whether the names are those of the public BiSeNet face parser."""
    return any(key.startswith(("cp.resnet.", "ffm.")) for key in shapes)


def build_bisenet(state: State, where: str) -> BiSeNet:
    """A BiSeNet with the weights of a state dict. Raises ModelError, KeyError."""
    state = without(AUXILIARY, state)
    spec = BiSeNetSpec.from_shapes({key: tuple(tensor.shape) for key, tensor in state.items()})
    return load_strictly(lambda: BiSeNet(spec), state, where)
