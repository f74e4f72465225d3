"""PyTorch beside ONNX Runtime, in a process of its own: the command never imports it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mien.engines.errors import MienError


@dataclass(frozen=True, slots=True)
class EagerRow:
    """Median milliseconds of a network in PyTorch eager and in ONNX Runtime, in turn.

    ratio: PyTorch's by ONNX Runtime's.
    """

    network: str
    torch_ms: float
    onnx_runtime_ms: float
    ratio: float


def eager_rows(models: Path | None, seconds: float, threads: int) -> list[EagerRow]:
    """A row for each network of the default filter; none where PyTorch is not installed.

    Raises MienError where it fails.
    """
    told = ["--seconds", str(seconds), "--threads", str(threads)]
    if models is not None:
        told += ["--models", str(models)]
    done = subprocess.run(
        [sys.executable, "-m", "mien.export.eager", *told],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
        return [
            EagerRow(name, ms["torch"], ms["onnx_runtime"], ms["torch"] / ms["onnx_runtime"])
            for name, ms in found.items()
        ]
    said = done.stderr.strip().splitlines() or ["nothing"]
    if said[-1].startswith("ModuleNotFoundError: No module named 'torch"):
        return []
    raise MienError(f"PyTorch failed while it was timed: {said[-1]}")
