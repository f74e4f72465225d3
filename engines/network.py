"""A network's inputs and outputs, declared once for export, calibration and runtime.

`example_inputs` gives inputs to run a network with where no picture is at hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NoReturn, get_args

import numpy as np

from mien.engines.errors import EngineError, ModelError

METADATA_KEY = "mien.network"
Colour = Literal["luma", "rgb", "none"]
DTYPES = ("float32", "float16", "float64", "int64", "int32", "uint8", "bool")
# What a file may state of a network; those that come with mien are far below.
MOST_TENSORS, MOST_SIDES, MOST_SIDE, MOST_LETTERS = 64, 16, 1 << 31, 200


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a network, with a static shape.

    shape: every side, batch included.
    dtype: the NumPy name of the element type.
    range: the values the network was made for or gives, None where they are not bounded. It is a
        declaration: `Engine.infer` checks that outputs are finite and does not scan for the range.
    colour: what the channels of a picture are, `none` for anything else.
    most: the largest magnitude that an output can have in earnest. Graphs do not state it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    range: tuple[float, float] | None = None
    colour: Colour = "none"
    most: float = field(default=1e12, compare=False)

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True, slots=True)
class Network:
    """The declaration of a network: its name and its tensors, in the order of the graph."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def check_inputs(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Raise EngineError where `feeds` is not what the network takes."""
        _check_tensors(self.name, "input", self.inputs, feeds)

    def check_outputs(self, results: Mapping[str, np.ndarray]) -> None:
        """Raise EngineError where `results` is not what the network gives."""
        _check_tensors(self.name, "output", self.outputs, results)
        for spec in self.outputs:
            values = results[spec.name]
            # Also where one is NaN.
            if values.dtype.kind == "f" and not (
                values.min() >= -spec.most and values.max() <= spec.most
            ):
                _refuse_values(f"{self.name}: output {spec.name!r}", spec, values)

    def metadata(self) -> dict[str, str]:
        """The declaration as ONNX `metadata_props`, for the exporter to write."""
        stated = asdict(self)
        for spec in (*stated["inputs"], *stated["outputs"]):
            del spec["most"]
        return {METADATA_KEY: json.dumps(stated, sort_keys=True)}

    def matches_metadata(self, metadata: Mapping[str, str]) -> bool:
        """Whether `metadata`, read from a graph, states this very declaration."""
        return metadata.get(METADATA_KEY) == self.metadata()[METADATA_KEY]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Network:
        """The declaration that a graph states of itself. Raises ModelError where it states none."""
        try:
            stated = json.loads(metadata[METADATA_KEY])
            inputs, outputs = (_specs(stated[side]) for side in ("inputs", "outputs"))
            return cls(_name(stated["name"]), inputs, outputs)
        except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise ModelError(
                "the graph does not state which network it is; write it with mien export"
            ) from error


def _specs(stated: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    """The tensors of a side. What a file states can be anything: raises KeyError, TypeError, ..."""
    specs = tuple(_spec(spec) for spec in stated[:MOST_TENSORS])
    if len(stated) > MOST_TENSORS or len({spec.name for spec in specs}) < len(specs):
        raise ValueError("too many tensors, or two of one name")
    return specs


def _spec(stated: Mapping[str, Any]) -> TensorSpec:
    shape, dtype, low_high, colour = (stated[key] for key in ("shape", "dtype", "range", "colour"))
    if not (isinstance(shape, list) and len(shape) <= MOST_SIDES):
        raise ValueError("no shape")
    if not all(type(side) is int and 0 < side <= MOST_SIDE for side in shape):
        raise ValueError("a side is no length")
    if dtype not in DTYPES or colour not in get_args(Colour):
        raise ValueError("no type of elements, or no colour")
    if low_high is not None:
        low, high = (float(number) for number in low_high)
        if not -math.inf < low < high < math.inf:
            raise ValueError("no range")
        low_high = low, high
    return TensorSpec(_name(stated["name"]), tuple(shape), dtype, low_high, colour)


def _name(stated: object) -> str:
    if not (isinstance(stated, str) and 0 < len(stated) <= MOST_LETTERS):
        raise ValueError("no name")
    return stated


def _check_tensors(
    network: str, kind: str, specs: tuple[TensorSpec, ...], tensors: Mapping[str, np.ndarray]
) -> None:
    # No words before something is wrong: they took half of what the checks of a call do.
    if len(tensors) != len(specs) or not all(spec.name in tensors for spec in specs):
        declared = [spec.name for spec in specs]
        raise EngineError(
            f"{network}: received {kind}s {_names(tensors)}, expected {_names(declared)}; "
            f"{_name_fix(declared, tensors)}"
        )
    for spec in specs:
        tensor = tensors[spec.name]
        if not _fits(spec, tensor):
            _refuse(f"{network}: {kind} {spec.name!r}", spec, tensor)


def _fits(spec: TensorSpec, tensor: object) -> bool:
    return (
        isinstance(tensor, np.ndarray)
        and tensor.shape == spec.shape
        and tensor.dtype == np.dtype(spec.dtype)
    )


def _refuse(where: str, spec: TensorSpec, tensor: object) -> NoReturn:
    """Raise EngineError that says in what a tensor is not `spec`."""
    if not isinstance(tensor, np.ndarray):
        raise EngineError(
            f"{where}: received {type(tensor).__name__}, expected an array of {spec}; "
            "convert it with np.asarray"
        )
    received = f"received {tensor.dtype} {tensor.shape}, expected {spec}"
    if tensor.dtype != np.dtype(spec.dtype):
        raise EngineError(f"{where}: {received}; convert it with .astype(np.{spec.dtype})")
    raise EngineError(f"{where}: {received}; resize or reshape it, sizes are fixed")


def _refuse_values(where: str, spec: TensorSpec, values: np.ndarray) -> NoReturn:
    """Raise EngineError that says which values no network means."""
    if not np.isfinite(values).all():
        raise EngineError(
            f"{where} holds NaN or infinity, expected finite values; check the input for NaN, or "
            "the precision of the graph"
        )
    largest = float(np.abs(values.astype(np.float64)).max())
    raise EngineError(
        f"{where} reaches {largest:.3g}, expected {spec.most:g} at most; use a model that was "
        "trained for this"
    )


def _name_fix(declared: list[str], tensors: Mapping[str, np.ndarray]) -> str:
    missing = [name for name in declared if name not in tensors]
    extra = [name for name in tensors if name not in declared]
    fixes = []
    if missing:
        fixes.append(f"add {_names(missing)}")
    if extra:
        fixes.append(f"leave out {_names(extra)}")
    return " and ".join(fixes)


def _names(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def example_inputs(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of the declared shapes, within the declared ranges."""
    rng = np.random.default_rng(seed)
    return {spec.name: _example(spec, rng) for spec in network.inputs}


def _example(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    low, high = spec.range or (0.0, 1.0)
    return rng.uniform(low, high, spec.shape).astype(spec.dtype)
