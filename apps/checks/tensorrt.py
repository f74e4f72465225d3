"""TensorRT, the CUDA driver, and the board: what would run the networks faster than the processor.

Libraries are only looked for by name; nothing here starts a device.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from mien.apps.checks.finding import Finding, Machine
from mien.engines.system.install import packages_line

LIBRARY_FOLDERS = ("usr/lib", "usr/lib64", "usr/local/lib", "usr/local/cuda/lib64")
ARCHITECTURES = ("x86_64-linux-gnu", "aarch64-linux-gnu")
TEGRA = "etc/nv_tegra_release"
BOARD = "proc/device-tree/model"
DRIVER = "proc/driver/nvidia/version"
POWER = "var/lib/nvpmodel/status"
POWER_NAMES = "etc/nvpmodel.conf"
APT_TENSORRT = "sudo apt install tensorrt python3-libnvinfer"
# With it an environment sees the packages of apt.
NEW_ENVIRONMENT = "python3 -m venv --system-site-packages .venv"


def check_driver(machine: Machine) -> list[Finding]:
    """Whether there is an NVIDIA driver, and which; nothing where there is no such device."""
    text = _text(machine, DRIVER)
    if text:
        version = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
        said = version.group(1) if version else text.splitlines()[0]
        return [Finding("NVIDIA driver", "ok", said)]
    if (machine.root / TEGRA).exists():  # the driver of a board is part of its system
        return []
    if (machine.root / "dev/nvidia0").exists():
        fix = "sudo ubuntu-drivers install && sudo reboot"
        return [Finding("NVIDIA driver", "warn", "its device is there, the driver is not", fix)]
    return []


def check_tensorrt(machine: Machine) -> list[Finding]:
    """Whether TensorRT could be used: its Python package, and its library where a GPU is."""
    has_package = _is_installed("tensorrt")
    libraries = _libraries(machine)
    is_board = (machine.root / TEGRA).exists()
    has_device = is_board or (machine.root / DRIVER).exists()
    if not has_device:
        return []
    if not libraries and not has_package:
        fix = APT_TENSORRT if is_board else packages_line("tensorrt", "pycuda")
        return [
            Finding("TensorRT", "missing", "not installed, so --provider cuda or cpu runs", fix)
        ]
    if not has_package:
        text = f"{', '.join(libraries)} is there, but not its Python package"
        fix = (
            f"{APT_TENSORRT} && {NEW_ENVIRONMENT}"
            if is_board
            else packages_line("tensorrt", "pycuda")
        )
        return [Finding("TensorRT", "warn", text, fix)]
    if not _is_installed("pycuda"):
        text = "tensorrt is installed, but not pycuda, which holds its buffers"
        return [Finding("TensorRT", "warn", text, packages_line("pycuda"))]
    where = ", ".join(libraries) or "its library came with the package"
    return [Finding("TensorRT", "ok", f"tensorrt and pycuda are installed; {where}")]


def check_board(machine: Machine) -> list[Finding]:
    """Which Jetson this is, its release and its power mode; nothing elsewhere."""
    release = _text(machine, TEGRA)
    if not release:
        return []
    board = _text(machine, BOARD).rstrip("\0") or "a Jetson"
    numbers = re.search(r"R(\d+).*?REVISION: ([\d.]+)", release)
    version = f"L4T {numbers.group(1)}.{numbers.group(2)}" if numbers else "of unknown release"
    return [Finding("board", "ok", f"{board}, {version}"), *_power(machine)]


def _power(machine: Machine) -> list[Finding]:
    current = re.search(r"(\d+)\s*$", _text(machine, POWER).strip())
    modes = dict(re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", _text(machine, POWER_NAMES)))
    if current is None:
        text = "unknown; figures taken without it cannot be compared"
        return [Finding("power mode", "warn", text, "sudo nvpmodel -q")]
    number = str(int(current.group(1)))
    name = modes.get(number, f"mode {number}").rstrip(">").strip()
    largest = next((key for key, mode in modes.items() if mode.startswith("MAXN")), None)
    if largest is None or largest == number:
        return [Finding("power mode", "ok", name)]
    text = f"{name}; this board has {modes[largest].rstrip('>').strip()}"
    return [
        Finding("power mode", "warn", text, f"sudo nvpmodel -m {largest} && sudo jetson_clocks")
    ]


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _libraries(machine: Machine) -> list[str]:
    """The names of TensorRT's libraries that lie where the system keeps such."""
    folders = [machine.root / folder for folder in LIBRARY_FOLDERS]
    folders += [machine.root / "usr/lib" / name for name in ARCHITECTURES]
    found = {file.name for folder in folders for file in folder.glob("libnvinfer.so.[0-9]*")}
    return sorted(name for name in found if name.count(".") == 2)


def _text(machine: Machine, file: str) -> str:
    path: Path = machine.root / file
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
