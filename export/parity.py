"""Whether an ONNX file says what its torch module says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from mien.engines.errors import EngineError, ModelError
from mien.engines.network import Network
from mien.engines.ort.backend import OnnxRuntimeEngine

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

    Raises ParityError with everything that is further away than allowed.
    """
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
