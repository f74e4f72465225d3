"""Measures whether a panel under attack takes frames from the filter.

    python -m mien.apps.panel.siege --seconds 10

The filter runs on the sample at 720p and 30 frames a second while a browser looks on. Processes of
their own knock at the panel in one way after the other; before, between and after them nobody does.
It prints a line for each, and ends with exit status 1 where one costs more than a tenth of the
frames. What it measures means nothing while other programs are at work.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import logging
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

import typer
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from mien.apps.inputs import SAMPLE
from mien.apps.panel.server import PanelServer
from mien.apps.panel.settings import PanelSettings
from mien.engines.child_process import module_command
from mien.runtime.bench_clip import write_bench_clip
from mien.runtime.filter import Filter
from mien.runtime.live.capture import open_source
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop

# The attackers' own library tells of each refusal that it did not expect.
logging.getLogger("websockets.client").setLevel(logging.CRITICAL)

FLOOR: Final = 0.9  # of the frame rate in peace
SETTLE_S: Final = 2.0  # after an attack begins, and before it is counted
MANY: Final = 500
_PAUSE_S: Final = 0.02  # between two knocks: 50 a second


class Gate:
    """Where the panel is, for those who knock."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.port = parts.port or 80
        self.host = f"127.0.0.1:{self.port}"
        self.token = parse_qs(parts.query)["token"][0]

    def connection(self, data: bytes = b"") -> socket.socket:
        """A new connection on which so much was sent."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        made.sendall(data)
        return made

    def status(self, path: str, **headers: str) -> int:
        """What a request is answered with."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(line):
            line.request("GET", path, headers=headers)
            return line.getresponse().status


def foreign_pages(gate: Gate) -> None:
    """Nothing; asks without the token, with a wrong one, from another page, under another name."""
    own = f"/frame.jpg?token={gate.token}"
    for _ in itertools.count():
        for path, headers in (
            ("/frame.jpg", {}),
            ("/frame.jpg?token=wrong", {}),
            (own, {"Origin": "https://evil.example"}),
            (own, {"Host": f"evil.example:{gate.port}"}),
        ):
            assert gate.status(path, **headers) in (401, 403)
            time.sleep(_PAUSE_S)


def many_connections(gate: Gate) -> None:
    """Nothing; keeps opening connections, 500 a second, and holds on to 500."""
    _keep_open(gate, b"")


def half_requests(gate: Gate) -> None:
    """Nothing; keeps 500 connections with half a request each."""
    _keep_open(gate, b"GET /frame.jpg HTTP/1.1\r\nHost: ")


def large_messages(gate: Gate) -> None:
    """Nothing; sends messages of 10 MB on WebSockets, one after the other."""
    message = "x" * 10_000_000
    while True:
        with contextlib.suppress(WebSocketException, OSError):
            url = f"ws://{gate.host}/ws?token={gate.token}"
            with connect(url, compression=None, close_timeout=1) as websocket:
                websocket.send(message)
        time.sleep(10 * _PAUSE_S)


def nonsense(gate: Gate) -> None:
    """Nothing; sends messages that are no JSON, and connects again where it is cut off."""
    while True:
        with contextlib.suppress(WebSocketException, OSError):
            url = f"ws://{gate.host}/ws?token={gate.token}"
            with connect(url, compression=None, close_timeout=1) as websocket:
                while True:
                    websocket.send("{" * 1000)
                    time.sleep(_PAUSE_S)
        time.sleep(_PAUSE_S)


def watch(gate: Gate) -> None:
    """Nothing; looks at the picture, as a browser does."""
    request = f"GET /stream.mjpg?token={gate.token} HTTP/1.1\r\nHost: {gate.host}\r\n\r\n"
    stream = gate.connection(request.encode())
    while stream.recv(1 << 16):
        pass


def _keep_open(gate: Gate, data: bytes) -> None:
    held: list[socket.socket] = []
    while True:
        held = [one for one in held if _is_open(one)]
        for _ in range(MANY - len(held)):
            with contextlib.suppress(OSError):
                held.append(gate.connection(data))
                held[-1].setblocking(False)
            time.sleep(_PAUSE_S / 10)


def _is_open(connection: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        with contextlib.suppress(ConnectionError):
            connection.recv(1024)
        connection.close()
        return False
    return True


ATTACKS: Final[Mapping[str, Callable[[Gate], None]]] = {
    "foreign": foreign_pages,
    "connections": many_connections,
    "half-open": half_requests,
    "large": large_messages,
    "nonsense": nonsense,
}
_ROLES: Final = {**ATTACKS, "watch": watch}


@contextlib.contextmanager
def _process(role: str, url: str) -> Iterator[None]:
    command = module_command("mien.apps.panel.siege", ["--role", role, "--url", url])
    process = subprocess.Popen(command)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"{role} ended early, with exit status {process.returncode}")
    finally:
        process.terminate()
        process.wait()


def _rate(loop: LiveLoop, seconds: float) -> float:
    """Frames a second over some time."""
    time.sleep(SETTLE_S)
    began_s, before = time.monotonic(), loop.stats().shown
    time.sleep(seconds)
    return (loop.stats().shown - before) / (time.monotonic() - began_s)


def siege(clip: Path, seconds: float) -> Mapping[str, float]:
    """Frames a second in peace (`peace`, the median of all times) and under each attack."""
    source = open_source(str(clip))
    rates: dict[str, float] = {}
    peace = []
    with (
        LiveLoop(source, lambda state: Filter(state.target), [], Controls(target="happy")) as loop,
        PanelServer(loop, PanelSettings(port=0)) as panel,
        _process("watch", panel.url),
    ):
        peace.append(_rate(loop, seconds))
        for attack in ATTACKS:
            with _process(attack, panel.url):
                rates[attack] = _rate(loop, seconds)
            peace.append(_rate(loop, seconds))
            typer.echo(f"{attack}: {rates[attack]:.2f} frames a second, {peace[-1]:.2f} after it")
    return {"peace": median(peace), **rates}


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long each attack is.")] = 10.0,
    clip: Annotated[Path | None, typer.Option(help="Another clip than the sample.")] = None,
    role: Annotated[str | None, typer.Option(hidden=True)] = None,
    url: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Runs the filter with a panel under attack, and says what that costs."""
    if role is not None:
        _ROLES[role](Gate(url))
        return
    with tempfile.TemporaryDirectory() as folder:
        if clip is None:
            clip = Path(folder) / "clip.mp4"
            write_bench_clip(SAMPLE, clip)
        rates = siege(clip, seconds)
    typer.echo(f"in peace: {rates['peace']:.2f} frames a second")
    missed = [name for name, rate in rates.items() if rate < FLOOR * rates["peace"]]
    for name in missed:
        typer.echo(f"missed: {name}, {rates[name] / rates['peace']:.0%} of that", err=True)
    if missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
