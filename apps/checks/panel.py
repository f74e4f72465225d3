"""The panel: its packages, and its port."""

from __future__ import annotations

import importlib.util
import socket

from mien.apps.checks.finding import Finding, Machine
from mien.engines.system.install import extras_line

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
