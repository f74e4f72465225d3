"""A network's inputs and outputs, declared once for export, calibration and runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

import numpy as np

from mien.engines.errors import EngineError, ModelError

METADATA_KEY = "mien.network"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a network, with a static shape.

    shape: every side, batch included.
    dtype: the NumPy name of the element type.
    range: the values the network was made for or gives, None where they are not bounded. It is a
        declaration: `Engine.infer` checks that outputs are finite and does not scan for the range.
    colour: what the channels of a picture are, `none` for anything else.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    range: tuple[float, float] | None = None
    colour: Literal["luma", "rgb", "none"] = "none"

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True, slots=True)
class Network:
    """The declaration of a network: its name and its tensors, in the order of the graph."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def check_inputs(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Nothing, where `feeds` is what the network takes. Raises EngineError."""
        _check_tensors(self.name, "input", self.inputs, feeds)

    def check_outputs(self, results: Mapping[str, np.ndarray]) -> None:
        """Nothing, where `results` is what the network gives, and finite. Raises EngineError."""
        _check_tensors(self.name, "output", self.outputs, results)
        for spec in self.outputs:
            values = results[spec.name]
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise EngineError(
                    f"{self.name}: output {spec.name!r} holds NaN or infinity, expected finite "
                    "values; check the input for NaN, or the precision of the graph"
                )

    def metadata(self) -> dict[str, str]:
        """The declaration as ONNX `metadata_props`, for the exporter to write."""
        return {METADATA_KEY: json.dumps(asdict(self), sort_keys=True)}

    def matches_metadata(self, metadata: Mapping[str, str]) -> bool:
        """Whether `metadata`, read from a graph, states this very declaration."""
        return metadata.get(METADATA_KEY) == self.metadata()[METADATA_KEY]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Network:
        """The declaration that a graph states of itself. Raises ModelError where it states none."""
        try:
            stated = json.loads(metadata[METADATA_KEY])
            inputs, outputs = (
                tuple(_spec(spec) for spec in stated[side]) for side in ("inputs", "outputs")
            )
            return cls(str(stated["name"]), inputs, outputs)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                "the graph does not state which network it is; write it with mien export"
            ) from error


def _spec(stated: Mapping[str, Any]) -> TensorSpec:
    low_high = stated["range"]
    return TensorSpec(
        stated["name"],
        tuple(int(side) for side in stated["shape"]),
        np.dtype(stated["dtype"]).name,
        None if low_high is None else (float(low_high[0]), float(low_high[1])),
        stated["colour"],
    )


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
    """Nothing; raises EngineError that says in what a tensor is not `spec`."""
    if not isinstance(tensor, np.ndarray):
        raise EngineError(
            f"{where}: received {type(tensor).__name__}, expected an array of {spec}; "
            "convert it with np.asarray"
        )
    received = f"received {tensor.dtype} {tensor.shape}, expected {spec}"
    if tensor.dtype != np.dtype(spec.dtype):
        raise EngineError(f"{where}: {received}; convert it with .astype(np.{spec.dtype})")
    raise EngineError(f"{where}: {received}; resize or reshape it, sizes are fixed")


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
