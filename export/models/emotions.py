"""The emotion classifier that measures edits: its torch module and its ONNX file.

It is a measuring tool, trained on FER-2013 alone, and no part of the filter.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from mien.engines.errors import ModelError
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES
from mien.engines.system.folders import private_folder
from mien.engines.system.partial_file import PartialFile
from mien.export.onnx_file import EXAMPLES, example_of, store_small, to_onnx
from mien.export.parity import Allowed, Example, compare

STAGES = ((64, 2), (160, 2), (256, 2))  # channels and blocks at 12, 6 and 3 pixels


class EmotionClassifier(nn.Module):
    """Logits (n, 7), in the order of FER_CLASSES, of luma crops (n, 1, 48, 48) in [0, 1].

    A residual network whose cost lies at 12 pixels and below, which suits a processor: there the
    convolutions are large matrix products and the normalisation is cheap. Each picture is brought
    to zero mean and unit deviation first, so exposure and contrast do not matter.
    """

    def __init__(self, stages: tuple[tuple[int, int], ...] = STAGES, dropout: float = 0.3) -> None:
        super().__init__()
        stem = 32
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem, 5, 2, 2, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)
        )
        blocks: list[nn.Module] = []
        width = stem
        for channels, count in stages:
            for index in range(count):
                blocks.append(_Residual(width, channels, stride=2 if index == 0 else 1))
                width = channels
        self.body = nn.Sequential(*blocks)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(FER_CLASSES))

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        mean = face.mean((2, 3), keepdim=True)
        deviation = ((face - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
        features = self.body(self.stem((face - mean) / (deviation + 0.02)))
        logits: torch.Tensor = self.head(self.drop(features.mean((2, 3)).float()))
        return logits


class _Residual(nn.Module):
    def __init__(self, width: int, channels: int, *, stride: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)  # each block begins as its skip
        self.path = nn.Sequential(
            nn.Conv2d(width, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            last,
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or width != channels:
            self.skip = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride != 1 else nn.Identity(),
                nn.Conv2d(width, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.path(x) + self.skip(x))


class _Probabilities(nn.Module):
    def __init__(self, classifier: EmotionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.classifier(face).softmax(1)
        return probabilities


def export_classifier(classifier: EmotionClassifier, path: Path, facts: dict[str, str]) -> float:
    """The parity error of the classifier as an ONNX file of opset 18, which is written to `path`.

    It takes `face` (1, 1, 48, 48) to `probabilities` (1, 7). facts: goes into the file's metadata,
    with the classes. Weights that half precision holds exactly are stored so
    (`onnx_file.rounded_to_half` makes such a classifier). Raises ModelError.
    """
    classes = {"classes": ",".join(FER_CLASSES)}
    module = _Probabilities(classifier).float().eval()
    with private_folder() as folder:
        made = folder / path.name
        to_onnx(module, EMOTION_CLASSIFIER, made, facts={**classes, **facts}, tolerance=1e-4)
        store_small(made)
        examples = [
            Example(f"random input {n}", example_of(EMOTION_CLASSIFIER, n)) for n in range(EXAMPLES)
        ]
        parity = compare(module, EMOTION_CLASSIFIER, made, examples, Allowed())
        with PartialFile(path, overwrite=True, error=ModelError) as part:
            part.write(made.read_bytes())
            part.publish(durable=True)
    return parity.difference
