"""The networks: their files, and what runs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mien.apps.checks.finding import Finding, Machine
from mien.engines import LANDMARKS, Catalog, MienError, Provider
from mien.engines.catalog import BUNDLED_FOLDER
from mien.engines.ort.backend import available_providers
from mien.engines.ort.providers import AUTO_ORDER, install_line
from mien.engines.system.install import extras_line, quoted, reinstall_line, stated_origin
from mien.runtime.filter import Filter

MODEL_TOOLS = ("onnx", "onnxscript", "torch")
GPU_FILES = ("proc/driver/nvidia/version", "dev/nvidia0", "etc/nv_tegra_release")


def check_models(machine: Machine) -> list[Finding]:
    """Whether the model files are there and whole."""
    try:
        catalog = _catalog(machine)
    except MienError as error:
        return [Finding("models", "bad", str(error), mend_models(machine.models), stops_edit=True)]
    broken = []
    for entry in catalog.entries:
        try:
            entry.check_file()
        except MienError as error:  # noqa: PERF203 -- each file is told of
            broken.append(Finding("models", "bad", str(error), mend_models(entry.folder)))
    if broken:
        return broken
    return [Finding("models", "ok", f"{len(catalog.entries)} models, all whole")]


def mend_models(folder: Path | None) -> str:
    """The command that writes the models of a folder again; None is the folder of mien itself."""
    if folder is None or folder.resolve() == BUNDLED_FOLDER.resolve():
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
