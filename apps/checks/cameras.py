"""Cameras: whether there are any, and whether this user may open them."""

from __future__ import annotations

from pathlib import Path

from mien.apps.checks.finding import Finding, Machine
from mien.runtime.live.outputs.virtual_camera import JOIN_VIDEO, loopback_devices
from mien.runtime.live.sources import v4l2
from mien.runtime.live.sources.cameras import list_cameras


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
