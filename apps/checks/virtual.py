"""The virtual camera: its package, its driver, and how the driver is set."""

from __future__ import annotations

from mien.apps.checks.finding import Finding, Machine
from mien.engines.errors import DeviceError
from mien.engines.system.install import extras_line
from mien.runtime.live.outputs.virtual_camera import (
    FOURCC,
    MODULE,
    RELOAD,
    VirtualCamera,
    is_installed,
    loopback_devices,
    missing_driver,
)

PROBE_SIZE = (1280, 720)


def check_package(_machine: Machine) -> list[Finding]:
    """Whether pyvirtualcam is installed."""
    if not is_installed():
        text = "pyvirtualcam is not installed"
        return [Finding("virtual camera package", "missing", text, extras_line("camera"))]
    return [Finding("virtual camera package", "ok", "pyvirtualcam is installed")]


def check_driver(machine: Machine) -> list[Finding]:
    """Whether there is a driver for virtual cameras, and a device of it."""
    if not machine.is_linux:
        return [_opened()]
    missing = missing_driver(machine.root, machine.release)
    if missing is not None:
        text, _, fix = missing.partition("; ")
        return [Finding("virtual camera driver", "missing", text, fix)]
    names = ", ".join(f"{found.path} ({found.label})" for found in loopback_devices(machine.root))
    return [Finding("virtual camera driver", "ok", f"{MODULE}: {names}")]


def check_exclusive_caps(machine: Machine) -> list[Finding]:
    """Whether browsers take the virtual cameras for cameras."""
    if not machine.is_linux:
        return []
    devices = loopback_devices(machine.root)
    shared = [str(found.path) for found in devices if found.is_exclusive is False]
    if shared:
        text = f"{', '.join(shared)} has exclusive_caps=0, so Chrome and Zoom do not offer it"
        return [Finding("exclusive_caps", "warn", text, RELOAD)]
    if not any(found.is_exclusive for found in devices):
        return []
    return [Finding("exclusive_caps", "ok", "set, so browsers offer the virtual camera")]


def check_lock(machine: Machine) -> list[Finding]:
    """Whether another program holds a virtual camera at a size or format of its own."""
    if not machine.is_linux:
        return []
    findings = []
    for found in loopback_devices(machine.root):
        if found.format is None:
            continue
        size = f"{found.format.size_wh[0]}x{found.format.size_wh[1]}"
        text = f"{found.path} is held at {size} ({found.format.fourcc}) by a program"
        fix = f"close that program (fuser {found.path} names it)"
        if found.format.fourcc == FOURCC:
            fix += f", or use mien camera --size {size}"
        findings.append(Finding("virtual camera size", "warn", text, fix))
    return findings


def _opened() -> Finding:
    """OBS and Unity Capture tell only by being opened."""
    subject = "virtual camera driver"
    try:
        camera = VirtualCamera(PROBE_SIZE, 30.0)
    except DeviceError as error:
        text, _, fix = str(error).rpartition("; ")
        return Finding(subject, "missing", text, fix)
    device = camera.device
    camera.close()
    return Finding(subject, "ok", device)
