"""PyTorch beside ONNX Runtime, in a process of its own: the command never imports it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.engines.errors import MienError
from mien.engines.system.install import extras_line
from mien.engines.system.process import module_command
from mien.runtime.profile import FilterProfile, StageTime

MISSING = {  # what a program says where a package of the extra is missing
    "ModuleNotFoundError: No module named 'torch": "PyTorch",
    "ModuleNotFoundError: No module named 'onnx'": "onnx",
}
NETWORKS_PROGRAM, FILTER_PROGRAM = "mien.export.benchmark.eager", "mien.training.eager_filter"


@dataclass(frozen=True, slots=True)
class EagerRow:
    """Median milliseconds of a network in PyTorch eager and in ONNX Runtime, in turn.

    ratio: PyTorch's by ONNX Runtime's. setting: how PyTorch was called, what was fastest for it.
    All are None where the network cannot run in PyTorch; `refused` says why then.
    """

    network: str
    torch_ms: float | None = None
    onnx_runtime_ms: float | None = None
    ratio: float | None = None
    setting: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class EagerShare:
    """What a network takes in a frame of the filter: its calls, and milliseconds in both.

    setting: how PyTorch was called.
    """

    network: str
    calls: float
    onnx_runtime_ms: float
    torch_ms: float
    setting: str


@dataclass(frozen=True, slots=True)
class EagerFilter:
    """The whole filter with its networks in ONNX Runtime and in PyTorch eager, frame by frame.

    networks: what each takes in a frame, on average. decibels: PSNR between the frame that one has
    edited and the same of the other, at worst; None where all are the same.
    """

    onnx_runtime: FilterProfile
    torch: FilterProfile
    networks: tuple[EagerShare, ...]
    decibels: float | None


class TorchMissingError(MienError):
    """PyTorch is not installed, or what brings its modules back from ONNX files."""


def eager_rows(
    models: Path | None, networks: Mapping[str, int], seconds: float, threads: int
) -> list[EagerRow]:
    """A row for each network; none where PyTorch is not installed.

    networks: how many threads each has in ONNX Runtime. threads: the most that PyTorch may have.
    Raises MienError where it fails.
    """
    told = [f"{name}={count}" for name, count in networks.items()]
    told += ["--seconds", str(seconds), "--threads", str(threads)]
    if models is not None:
        told += ["--models", str(models)]
    try:
        found = _run(NETWORKS_PROGRAM, told)
    except TorchMissingError:
        return []
    return [_row(name, told) for name, told in found.items()]


def _row(network: str, told: Mapping[str, Any]) -> EagerRow:
    if "refused" in told:
        return EagerRow(network, refused=told["refused"])
    torch_ms, onnx_ms = told["torch"], told["onnx_runtime"]
    return EagerRow(network, torch_ms, onnx_ms, torch_ms / onnx_ms, told["setting"])


def eager_filter(clip: Path, options: Sequence[str], threads: int) -> EagerFilter:
    """The whole filter in both. options: of the filter, as words of a command line.

    Raises MienError where it fails, and where PyTorch is not installed.
    """
    found = _run(FILTER_PROGRAM, [str(clip), *options, "--threads", str(threads)])
    onnx, torch = found["onnx_runtime"], found["torch"]
    networks = tuple(
        EagerShare(
            name,
            share["calls"],
            share["ms"],
            torch["networks"][name]["ms"],
            found["settings"][name],
        )
        for name, share in onnx["networks"].items()
    )
    return EagerFilter(_profile(onnx), _profile(torch), networks, found["decibels"])


def _profile(told: Mapping[str, Any]) -> FilterProfile:
    return FilterProfile(
        tuple(StageTime(**stage) for stage in told["stages"]),
        StageTime(**told["whole"]),
        told["frames"],
        told["faces"],
        told["fps"],
    )


def _run(program: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a program printed as JSON. Raises MienError, TorchMissingError."""
    done = subprocess.run(
        module_command(program, arguments), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    for start, package in MISSING.items():
        if said.startswith(start):
            raise TorchMissingError(
                f"{package} is not installed: {extras_line('export')}, or leave out --beside torch"
            )
    raise MienError(f"PyTorch failed while it was timed: {said.removeprefix('mien: ')}")
