"""What `mien doctor` says of cameras, codecs, the panel and the virtual camera.

Whether there are cameras and this user may open them; which usual videos can be read and written
here; the panel's packages and port; which way of a virtual camera works, PipeWire's session, and
the package and driver of the other way.
"""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

from mien.apps.doctor.finding import Finding, Machine, State
from mien.engines.errors import DeviceError
from mien.engines.system.install import extras_line, packages_line
from mien.runtime.live.outputs.pipewire import missing_session, session_socket
from mien.runtime.live.outputs.virtual_camera import (
    FOURCC,
    JOIN_VIDEO,
    MODULE,
    RELOAD,
    VirtualCamera,
    is_installed,
    loopback_devices,
    missing_driver,
)
from mien.runtime.live.sources import v4l2
from mien.runtime.live.sources.cameras import list_cameras
from mien.runtime.video.writing.encoders import encoder_formats, has_decoder


def check_cameras(machine: Machine) -> list[Finding]:
    """Whether there is a camera, and what it is called."""
    if not machine.is_linux:
        found = {camera.path: camera.name for camera in list_cameras()}
    else:
        virtual = {str(device.path) for device in loopback_devices(machine.root)}
        sysfs, dev = machine.root / "sys/class/video4linux", machine.root / "dev"
        nodes = {f"/dev/{Path(node.path).name}": node for node in v4l2.capture_nodes(sysfs, dev)}
        found = {path: node.name for path, node in nodes.items() if path not in virtual}
    if not found:
        return [
            Finding(
                "cameras",
                "missing",
                "none found",
                "plug one in; a file stands in for one: mien camera --source clip.mp4",
            )
        ]
    names = ", ".join(f"{path} ({name})" for path, name in found.items())
    return [Finding("cameras", "ok", names)]


def check_permissions(machine: Machine) -> list[Finding]:
    """Whether this user may open the video devices."""
    if not machine.is_linux:
        return []
    devices = sorted((machine.root / "dev").glob("video[0-9]*"))
    closed = [f"/dev/{device.name}" for device in devices if not machine.may_open(device)]
    if closed:
        text = f"{', '.join(closed)} may not be opened by this user"
        return [Finding("permissions", "bad", text, JOIN_VIDEO)]
    if not devices:
        return []
    return [Finding("permissions", "ok", "all video devices may be opened")]


VITAL = "h264"
# A codec, its decoders and its encoders, one of each of which is enough.
CODECS = (
    ("h264", ("h264",), ("libx264", "libopenh264")),
    ("hevc", ("hevc",), ("libx265",)),
    ("vp9", ("vp9", "libvpx-vp9"), ("libvpx-vp9",)),
    ("av1", ("libdav1d", "av1"), ("libsvtav1", "libaom-av1")),
    ("mjpeg", ("mjpeg",), ("mjpeg",)),
)


def check_codecs(_machine: Machine) -> list[Finding]:
    """Which codecs can be read and written."""
    findings, whole = [], []
    for name, decoders, encoders in CODECS:
        lacks = []
        if not any(has_decoder(decoder) for decoder in decoders):
            lacks.append("read")
        if not any(encoder_formats(encoder) is not None for encoder in encoders):
            lacks.append("written")
        if not lacks:
            whole.append(name)
            continue
        is_vital = name == VITAL
        text = f"{name} cannot be {' or '.join(lacks)}"
        state: State = "bad" if is_vital else "warn"
        findings.append(
            Finding(
                "codecs",
                state,
                text,
                packages_line("av", options="--force-reinstall --no-deps"),
                stops_edit=is_vital,
            )
        )
    if whole:
        findings.insert(0, Finding("codecs", "ok", f"read and written: {', '.join(whole)}"))
    return findings


PACKAGES = ("starlette", "uvicorn", "websockets", "aiortc")
ADDRESS = "127.0.0.1"
_TRIED = 100


def check_panel_packages(_machine: Machine) -> list[Finding]:
    """Whether what the panel is made with is installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        text = f"{', '.join(missing)} not installed"
        return [Finding("panel", "missing", text, extras_line("panel"))]
    return [Finding("panel", "ok", "its packages are installed")]


def check_port(machine: Machine) -> list[Finding]:
    """Whether the panel's port is free."""
    if _is_free(machine.port):
        return [Finding("panel port", "ok", f"{machine.port} is free")]
    ports = range(machine.port + 1, min(machine.port + 1 + _TRIED, 65536))
    other = next((port for port in ports if _is_free(port)), 0)
    text = f"{machine.port} is in use by another program"
    return [Finding("panel port", "warn", text, f"mien camera --port {other}")]


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((ADDRESS, port))
            tried.listen(1)
        except OSError:
            return False
    return True


PROBE_SIZE = (1280, 720)


# What the systems other than Linux do with the virtual camera of OBS Studio.
ELSEWHERE = {
    "win32": (
        "OBS's and Unity's cameras are DirectShow: some Store apps of Windows 11 do not list them",
        "choose the camera in a browser, or in the desktop version of the program",
    ),
    "darwin": (
        "programs see OBS's camera only once its camera extension is approved",
        "System Settings > General > Login Items & Extensions > Camera Extensions: allow OBS",
    ),
}


def check_virtual_way(machine: Machine) -> list[Finding]:
    """Which way `mien camera` shows a virtual camera here, where it is not told."""
    subject = "virtual camera"
    if not machine.is_linux:
        told = ELSEWHERE.get(machine.system)
        return [] if told is None else [Finding(subject, "warn", *told)]
    missing = missing_session(machine.root)
    has_driver = is_installed() and missing_driver(machine.root, machine.release) is None
    if missing is None:
        also = "v4l2loopback works too: --virtual v4l2" if has_driver else "--virtual v4l2 does not"
        return [Finding(subject, "ok", f"mien camera uses PipeWire; {also}")]
    if has_driver:
        return [Finding(subject, "ok", "mien camera uses v4l2loopback")]
    text = "neither PipeWire nor v4l2loopback works for this user"
    return [Finding(subject, "missing", text, missing.partition("; ")[2])]


def check_pipewire(machine: Machine) -> list[Finding]:
    """Whether this user's PipeWire takes a camera."""
    if not machine.is_linux:
        return []
    missing = missing_session(machine.root)
    if missing is not None:
        text, _, fix = missing.partition("; ")
        return [Finding("PipeWire camera", "missing", text, fix)]
    return [Finding("PipeWire camera", "ok", f"PipeWire answers at {session_socket()}")]


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
