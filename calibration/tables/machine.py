"""The machine and the packages that numbers were measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "av")


def machine_line(packages: Sequence[str] = PACKAGES) -> str:
    """One line: processor, cores of this process, system, Python and package versions."""
    versions = [f"{name} {_version(name)}" for name in packages]
    count = available_cores()
    cores = f"{count} cores" if count != 1 else "1 core"
    parts = [f"{_processor()} ({cores})", f"{platform.system()} {platform.machine()}"]
    return ", ".join([*parts, f"Python {platform.python_version()}", *versions])


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
