"""ONNX files audited each in a process of its own, with its time and memory bounded.

A model is data from anywhere, and what reads it is native code. This module imports no `onnx`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from mien.calibration.audit.finding import Report, refused
from mien.engines.errors import UsageError
from mien.engines.system.install import packages_line
from mien.engines.system.process import module_command

SECONDS = 60.0  # the slowest of those that are shipped takes two, on two busy cores
SUFFIX = ".onnx"


def audit_guarded(path: Path, *, seconds: float = SECONDS) -> Report:
    """What was found in the file; what takes too long, or ends the process, is an error of it.

    Raises UsageError where the package onnx is missing.
    """
    if find_spec("onnx") is None:
        raise UsageError(f"the audit reads graphs with the package onnx: {packages_line('onnx')}")
    program = module_command("mien.calibration.audit", [str(path)])
    # One thread of BLAS: each more would reserve memory of its own.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            program, capture_output=True, timeout=seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return refused(str(path), f"{path} takes more than {seconds:g} s to read", "")
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{str(path)!r} is no name of a file") from error
    if done.returncode:
        return refused(str(path), f"{path} ends its reader: {_reason(done)}", "do not use it")
    return Report.from_json(json.loads(done.stdout))


def onnx_files(sources: Iterable[Path]) -> Iterator[Path]:
    """The files to audit: those given, and the models in the folders given.

    Raises UsageError for a folder without any.
    """
    for source in sources:
        if not source.is_dir():
            yield source
            continue
        found = sorted(source.glob(f"*{SUFFIX}"))
        if not found:
            raise UsageError(f"there is no {SUFFIX} file in {source}")
        yield from found


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"signal {-done.returncode}, as of damaged files and of memory that runs out"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
