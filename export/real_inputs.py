"""Real pictures to compare a file with its module on: squares of the bundled portrait.

Random inputs are flat in colour and rich in edges; a face is neither, so that normalisation and
ties between classes work in another range.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mien.engines.errors import ModelError
from mien.engines.network import Network
from mien.engines.networks import IMAGENET_MEAN, IMAGENET_STD
from mien.export.parity import Example

PORTRAIT = Path(__file__).parent.parent / "apps" / "sample" / "portrait.jpg"
# Left, top and side in the portrait's pixels: the wide crop, then the left eye, the right one, the
# nose and the mouth, as the filter would cut them.
WIDE = (120, 73, 293)
PARTS = ((170, 135, 110), (252, 135, 110), (222, 195, 90), (210, 218, 120))


def generator_examples(network: Network, colour: str) -> list[Example]:
    """Inputs of a generator: parts together where it takes four pictures, else each by itself."""
    batch, _, size, _ = network.inputs[0].shape
    squares = np.stack([_square(place, size, colour) for place in (WIDE, *PARTS)]) * 2 - 1
    if batch == len(PARTS):
        groups = [squares[1:], squares[[0, 0, 4, 4]]]
    else:
        groups = [np.repeat(one[None], batch, 0) for one in squares]
    labels = network.inputs[1].shape[1] if len(network.inputs) > 1 else 0
    examples = []
    for number, pictures in enumerate(groups):
        feeds = {"image": pictures.astype(np.float32)}
        if labels:
            wish = np.eye(labels, dtype=np.float32)[number % labels]
            feeds["label"] = np.tile(wish, (batch, 1))
        examples.append(Example(f"crop {number} of the portrait", feeds))
    return examples


def parser_examples(network: Network, colour: str) -> list[Example]:
    """Inputs of a parser: the wide crop, upright and mirrored."""
    size = network.inputs[0].shape[2]
    picture = _square(WIDE, size, colour)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = ((picture - mean) / std).astype(np.float32)[None]
    mirrored = np.ascontiguousarray(normalised[..., ::-1])
    return [
        Example("the portrait", {"image": normalised}),
        Example("the mirrored portrait", {"image": mirrored}),
    ]


def _square(place: tuple[int, int, int], size: int, colour: str) -> np.ndarray:
    """A square of the portrait as float32 (3, size, size), RGB in [0, 1]."""
    picture = cv2.imread(str(PORTRAIT))
    if picture is None:
        raise ModelError(f"cannot read {PORTRAIT}, to compare with; install mien again")
    left, top, side = place
    cut = cv2.cvtColor(picture[top : top + side, left : left + side], cv2.COLOR_BGR2RGB)
    interpolation = cv2.INTER_AREA if size < side else cv2.INTER_LINEAR
    rgb = cv2.resize(cut, (size, size), interpolation=interpolation)
    if colour == "luma":
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    planes: np.ndarray = rgb.astype(np.float32).transpose(2, 0, 1) / 255
    return planes
