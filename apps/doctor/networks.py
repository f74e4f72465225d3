"""What `mien doctor` says of the networks: their files, what runs them, and what would be faster.

Faster than the processor are TensorRT, with the CUDA driver and the board, whose libraries are only
looked for by name, without starting a device, and mien's own TensorRT backend: whether it starts
here, and whether its plans are built.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from mien.apps.doctor.finding import Finding, Machine
from mien.engines import LANDMARKS, NETWORKS, Catalog, MienError, Provider
from mien.engines.catalog import BUNDLED_FOLDER
from mien.engines.opening import tensorrt_source
from mien.engines.ort.backend import available_providers
from mien.engines.ort.providers import AUTO_ORDER, install_line
from mien.engines.system.install import (
    extras_line,
    packages_line,
    quoted,
    reinstall_line,
    stated_origin,
)
from mien.engines.tensorrt.device import missing_packages
from mien.engines.tensorrt.engine import PlanModel
from mien.runtime.filter import Filter

MODEL_TOOLS = ("onnx", "onnxscript", "torch")
GPU_FILES = ("proc/driver/nvidia/version", "dev/nvidia0", "etc/nv_tegra_release")


def check_models(machine: Machine) -> list[Finding]:
    """Whether the model files are there and whole."""
    try:
        catalog = _catalog(machine)
        entries = (*catalog.entries, *catalog.in_int8().int8)
    except MienError as error:
        return [Finding("models", "bad", str(error), mend_models(machine.models), stops_edit=True)]
    broken = []
    for entry in entries:
        try:
            entry.check_file()
        except MienError as error:  # noqa: PERF203 -- each file is reported
            broken.append(Finding("models", "bad", str(error), mend_models(entry.folder)))
    if broken:
        return broken
    return [Finding("models", "ok", f"{len(entries)} models, all whole")]


def mend_models(folder: Path | None) -> str:
    """The command that writes the models of a folder again; None is the folder of mien itself."""
    if folder is None or BUNDLED_FOLDER.resolve() in (folder.resolve(), *folder.resolve().parents):
        return reinstall_line(stated_origin())
    return f"mien export CHECKPOINT --into {quoted(str(folder))}"


def check_filter(machine: Machine) -> list[Finding]:
    """Whether the default filter opens, which is what `mien edit` needs."""
    try:
        with Filter(None, models=machine.models) as opened:
            where = ", ".join(sorted(set(opened.providers.values())))
    except (MienError, ImportError) as error:
        return [Finding("filter", "bad", str(error), mend_models(machine.models), stops_edit=True)]
    return [Finding("filter", "ok", f"opens, its networks on {where}")]


def check_model_tools(_machine: Machine) -> list[Finding]:
    """Whether the packages are there that export, audit and calibrate models."""
    gone = [name for name in MODEL_TOOLS if importlib.util.find_spec(name) is None]
    if not gone:
        return [Finding("model tools", "ok", f"{', '.join(MODEL_TOOLS)} are installed")]
    needs = "mien export needs it" if gone == ["torch"] else "mien export needs them"
    if "onnx" in gone:
        needs = "mien audit and mien calibrate need onnx, mien export all"
    text = f"{', '.join(gone)} not installed; {needs}"
    return [Finding("model tools", "missing", text, extras_line("export"))]


def check_providers(machine: Machine) -> list[Finding]:
    """What could run the networks, and why nothing better does."""
    try:
        installed = available_providers()
        catalog = _catalog(machine)
    except (ImportError, MienError) as error:
        return [Finding("providers", "bad", str(error), install_line(Provider.CPU))]
    findings, works = [], []
    for provider in AUTO_ORDER:
        if provider not in installed:
            continue
        try:
            catalog.open(LANDMARKS, provider=provider.short).close()
            works.append(provider.short)
        except MienError as error:
            text, _, fix = str(error).rpartition("; ")
            findings.append(Finding("providers", "warn", text, fix))
    best = works[0] if works else "none"
    text = (
        f"cpu is the default; of ONNX Runtime's, --provider auto takes {best} "
        f"(work: {', '.join(works) or 'none'})"
    )
    if not works:
        broken = Finding("providers", "bad", text, install_line(Provider.CPU))
        return [broken, *findings, *_unused(machine)]
    return [Finding("providers", "ok", text), *findings, *_unused(machine)]


def _unused(machine: Machine) -> list[Finding]:
    """A graphics card that the installed ONNX Runtime cannot use."""
    has_card = any((machine.root / file).exists() for file in GPU_FILES)
    if not has_card or Provider.CUDA in available_providers():
        return []
    return [
        Finding(
            "providers",
            "warn",
            "there is an NVIDIA GPU, but the installed ONNX Runtime is built without CUDA",
            install_line(Provider.CUDA),
        )
    ]


def _catalog(machine: Machine) -> Catalog:
    return Catalog.bundled() if machine.models is None else Catalog.load(machine.models)


SUBJECT = "TensorRT plans"


def check_plans(machine: Machine) -> list[Finding]:
    """What runs the default filter on TensorRT; nothing where its packages are not installed."""
    if missing_packages():
        return []
    try:
        source = tensorrt_source()
        device = source.builder.device()
        catalog = Catalog.bundled() if machine.models is None else Catalog.load(machine.models)
        entries = [catalog.entry(network) for network in NETWORKS]
        models = [PlanModel.read(entry.path, entry.network, entry.sha256) for entry in entries]
        lacking = [model.network.name for model in models if not source.is_built(model)]
    except MienError as error:
        text, _, fix = str(error).rpartition("; ")
        return [Finding(SUBJECT, "warn", text or fix, fix if text else "mien edit --provider cpu")]
    where = f"TensorRT {device.tensorrt} on {device.gpu}"
    if lacking:
        text = f"{where} would run the networks, but has no plans of {', '.join(lacking)} yet"
        own = "" if machine.models is None else f" --models {machine.models}"
        return [Finding(SUBJECT, "warn", text, f"mien build{own}")]
    text = f"{where} runs the networks with --provider tensorrt, and auto takes it first"
    return [Finding(SUBJECT, "ok", text)]


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
