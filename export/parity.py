"""Whether an ONNX file says what its torch module says, on random inputs and on a real picture.

Random inputs are flat in colour and rich in edges; a face is neither, so that normalisation and
ties between classes work in another range. So squares of the bundled portrait are compared as well.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import nn

from mien.engines.errors import EngineError, ModelError
from mien.engines.network import Network
from mien.engines.networks import IMAGENET_MEAN, IMAGENET_STD
from mien.engines.ort.backend import OnnxRuntimeEngine

PORTRAIT = Path(__file__).parent.parent / "apps" / "sample" / "portrait.jpg"
# Left, top and side in the portrait's pixels: the wide crop, then the left eye, the right one, the
# nose and the mouth, as the filter would cut them.
WIDE = (120, 73, 293)
FACE = (161, 95, 214)  # about as FER-2013 crops faces
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
            label = np.eye(labels, dtype=np.float32)[number % labels]
            feeds["label"] = np.tile(label, (batch, 1))
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


def diffusion_examples(network: Network, _colour: str) -> list[Example]:
    """Inputs of a diffusion network: the portrait, for a UNet under noise of three levels."""
    size = network.inputs[0].shape[2]
    face = (_square(FACE, size, "luma")[:1] * 2 - 1).astype(np.float32)
    feeds = {spec.name: np.zeros(spec.shape, np.float32) for spec in network.inputs}
    if "image" in feeds:
        feeds["image"] = np.broadcast_to(face, feeds["image"].shape).copy()
        return [Example("the portrait", feeds)]
    rng = np.random.default_rng(0)
    examples = []
    for number, (t, sigma) in enumerate(((20.0, 0.1), (400.0, 1.5), (980.0, 40.0))):
        # As the paper's UNet sees it, and as mien's own.
        noise = rng.standard_normal(feeds["x"].shape)
        kept = 1.0 if "sigma" in feeds else (1 + sigma**2) ** -0.5
        made = {"x": kept * (face + sigma * noise), "label": np.zeros(feeds["label"].shape)}
        made["label"][:, number % made["label"].shape[1]] = 1
        made["cond_scale"] = np.arange(len(noise)) % 2 == 0
        made["sigma" if "sigma" in feeds else "t"] = np.full(
            len(noise), sigma if "sigma" in feeds else t
        )
        if "semantic" in feeds:
            made["semantic"] = rng.standard_normal(feeds["semantic"].shape)
        given = {name: np.asarray(value, np.float32) for name, value in made.items()}
        examples.append(Example(f"the portrait under noise {number}", given))
    return examples


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


Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Allowed:
    """How far ONNX Runtime may be from torch.

    difference: the largest one of a value, relative to the size of an output's values where these
    are above 1. same_class: for outputs of class scores (n, classes, H, W), the least share of
    pixels whose best class is the same; None where outputs are no such scores.
    """

    difference: float = 1e-4
    same_class: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs to compare with: what they are, and the tensors."""

    name: str
    feeds: Feeds


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not the same.

    kind: `shape`; `run` where the file does not run or gives no finite numbers; `difference` of
    values; `classes` of pixels. example, output: where. found, expected: in numbers or words.
    """

    kind: Literal["shape", "run", "difference", "classes"]
    example: str
    output: str
    found: str
    expected: str

    def __str__(self) -> str:
        return (
            f"{self.kind} of {self.output} on {self.example}: {self.found}, "
            f"expected {self.expected}"
        )


@dataclass(frozen=True, slots=True)
class Parity:
    """How near they are: the largest difference, and the least share of pixels of one class."""

    difference: float
    same_class: float | None = None


class ParityError(ModelError):
    """A file that does not say what its module says; `mismatches` holds all that was found."""

    def __init__(self, network: str, mismatches: Sequence[Mismatch]) -> None:
        self.mismatches = tuple(mismatches)
        told = "; ".join(map(str, self.mismatches))
        super().__init__(
            f"{network}: torch and ONNX Runtime differ ({told}); look for an operator that the "
            "exporter translates wrongly, or try another version of torch"
        )


def compare(
    module: nn.Module,
    network: Network,
    path: Path,
    examples: Sequence[Example],
    allowed: Allowed,
) -> Parity:
    """How near the file at `path` is to `module` over all examples.

    A module in half precision is computed in single precision, of the same rounded weights.

    Raises ParityError with everything that is further away than allowed.
    """
    module = _in_single(module)
    found: list[Parity] = []
    mismatches: list[Mismatch] = []
    with OnnxRuntimeEngine(path, network) as engine, torch.inference_mode():
        for example in examples:
            given = module(*(torch.from_numpy(example.feeds[s.name]) for s in network.inputs))
            wanted = given if isinstance(given, tuple) else (given,)
            try:
                results = engine.infer(example.feeds)
            except EngineError as error:
                every = ", ".join(spec.name for spec in network.outputs)
                mismatches.append(Mismatch("run", example.name, every, str(error), "a result"))
                continue
            for spec, tensor in zip(network.outputs, wanted, strict=True):
                case = _Case(example.name, spec.name, tensor.numpy(), results[spec.name], allowed)
                mismatches += case.mismatches()
                if case.is_comparable:
                    found.append(case.parity())
    if mismatches:
        raise ParityError(network.name, mismatches)
    shares = [parity.same_class for parity in found if parity.same_class is not None]
    return Parity(max(parity.difference for parity in found), min(shares, default=None))


def _in_single(module: nn.Module) -> nn.Module:
    """The module, as a copy in single precision where some of it is in half.

    PyTorch convolves in half precision by a plain loop where the processor has no instructions for
    it: one picture of 1024 pixels takes more than eight minutes.
    """
    kinds = {tensor.dtype for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module).float() if torch.float16 in kinds else module


@dataclass(frozen=True, slots=True)
class _Case:
    """One output of one example, in torch and in ONNX Runtime."""

    example: str
    output: str
    truth: np.ndarray
    result: np.ndarray
    allowed: Allowed

    @property
    def is_comparable(self) -> bool:
        return self.truth.shape == self.result.shape

    def parity(self) -> Parity:
        size = max(1.0, float(np.abs(self.truth).max()))
        difference = float(np.abs(self.result - self.truth).max()) / size
        if self.allowed.same_class is None:
            return Parity(difference)
        same = self.result.argmax(1) == self.truth.argmax(1)
        return Parity(difference, float(same.mean()))

    def mismatches(self) -> list[Mismatch]:
        if not self.is_comparable:
            return [self._mismatch("shape", str(self.result.shape), str(self.truth.shape))]
        found, least = self.parity(), self.allowed.same_class
        result = []
        if not found.difference <= self.allowed.difference:  # also where it is no number
            most = f"at most {self.allowed.difference:.2g}"
            result.append(self._mismatch("difference", f"{found.difference:.2g}", most))
        if least is not None and found.same_class is not None and found.same_class < least:
            share = f"{100 * found.same_class:.4g} % the same"
            result.append(self._mismatch("classes", share, f"at least {100 * least:.4g} %"))
        return result

    def _mismatch(
        self, kind: Literal["shape", "difference", "classes"], found: str, expected: str
    ) -> Mismatch:
        return Mismatch(kind, self.example, self.output, found, expected)
