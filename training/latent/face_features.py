"""FaceRes as a frozen feature network: what the latent recipe compares faces by.

The weights are read from a folder in the TensorFlow.js form (a JSON of names and shapes, one binary
file), as the npm package `@vladmandic/human` carries them (`models/faceres.json`, MIT). They were
trained on research data, so they guide a training and are never shipped.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

STRIDED = (2, 4, 6, 12)  # the depthwise layers of MobileNetV1 that halve the size
LAYERS = 13


def read_weights(model: Path) -> dict[str, torch.Tensor]:
    """The tensors of a TensorFlow.js model by name, as float32 in TensorFlow's layout."""
    manifest = json.loads(model.read_text())["weightsManifest"]
    raw = model.with_suffix(".bin").read_bytes()
    tensors, offset = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = entry.get("quantization", entry)["dtype"]
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(raw, np.dtype(stored), count, offset)
        offset += values.nbytes
        tensors[entry["name"]] = torch.from_numpy(values.astype(np.float32).reshape(entry["shape"]))
    if offset != len(raw):
        raise ValueError(f"{model} describes {offset} bytes, its weights have {len(raw)}")
    return tensors


class FaceFeatures(nn.Module):
    """MobileNetV1 of FaceRes. Input: luma (n, 1, s, s) in [-1, 1]."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        stored = read_weights(model)
        # Luma stands in all three colours, so the first convolution's colours can be added up.
        stem = stored["conv1/convolution/merged_input"].permute(3, 2, 0, 1) * 255
        self._keep("stem", stem.sum(1, keepdim=True), stored["conv1_bn/batchnorm_1/sub"])
        for i in range(1, LAYERS + 1):
            scale = stored[f"conv_dw_{i}_bn/batchnorm_1/mul"].flatten()[:, None, None, None]
            deep = stored[f"conv_dw_{i}/depthwise_kernel"].permute(2, 3, 0, 1) * scale
            self._keep(f"deep{i}", deep, stored[f"conv_dw_{i}_bn/batchnorm_1/sub"])
            mix = stored[f"conv_pw_{i}/convolution/merged_input"].permute(3, 2, 0, 1)
            self._keep(f"mix{i}", mix, stored[f"conv_pw_{i}_bn/batchnorm_1/sub"])

    def _keep(self, name: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.register_buffer(f"{name}_weight", weight.contiguous(), persistent=False)
        self.register_buffer(f"{name}_bias", bias.flatten().contiguous(), persistent=False)

    def forward(self, face: torch.Tensor, layers: Collection[int]) -> dict[int, torch.Tensor]:
        """The features after the numbered pointwise layers."""
        kept = {}
        x = F.pad((face + 1) / 2, (0, 1, 0, 1))
        x = F.relu6(F.conv2d(x, self.stem_weight, self.stem_bias, 2))
        for i in range(1, max(layers) + 1):
            stride = 2 if i in STRIDED else 1
            x = F.pad(x, (0, 1, 0, 1)) if stride == 2 else x
            weight, bias = getattr(self, f"deep{i}_weight"), getattr(self, f"deep{i}_bias")
            padding = 0 if stride == 2 else 1
            x = F.relu6(F.conv2d(x, weight, bias, stride, padding, groups=x.shape[1]))
            x = F.relu6(F.conv2d(x, getattr(self, f"mix{i}_weight"), getattr(self, f"mix{i}_bias")))
            if i in layers:
                kept[i] = x
        return kept
