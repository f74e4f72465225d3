"""Measures whether a panel under attack takes frames from the filter, or keeps anybody out.

    python scripts/stress_panel.py --seconds 10

The filter runs on the sample at 720p and 30 frames a second while a browser looks on. Processes of
their own attack the panel in one way after the other, the first few without the token, the others
with it; before, between and after them nobody does. During each attack a newcomer asks for page,
WebSocket and picture. It prints a line for each, and ends with exit status 1 where an attack costs
more than a tenth of the frames or keeps the newcomer out for long. What it measures means nothing
while other programs are at work.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import logging
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

import typer
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from mien.apps.bench.variants import write_bench_clip
from mien.apps.edit.inputs import SAMPLE
from mien.apps.panel.app import PanelServer
from mien.apps.panel.settings import PanelSettings
from mien.runtime.filter import Filter
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.sources.source import open_source

# The attackers' own library reports each refusal that it did not expect.
logging.getLogger("websockets.client").setLevel(logging.CRITICAL)

THRESHOLD: Final = 0.9  # of the frame rate in peace
NEWCOMER_S: Final = 5.0  # until somebody new has everything
SETTLE_S: Final = 2.0  # after an attack begins, and before it is counted
MANY: Final = 500
HELD: Final = 64  # as many connections as the panel takes
FLOODERS: Final = 8
_PAUSE_S: Final = 0.02  # between two requests: 50 a second
_TIMEOUT_S: Final = 30.0
_SDP: Final = """v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=ice-ufrag:OQqm
a=ice-pwd:QZivJMK7+bddP+gzCY1ge7KW
a=fingerprint:sha-256 {digest}
a=setup:actpass
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:96 VP8/90000
""".format(digest=":".join(["AB"] * 32))


class Gate:
    """Where the panel is."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.port = parts.port or 80
        self.host = f"127.0.0.1:{self.port}"
        self.token = parse_qs(parts.query)["token"][0]

    def connection(self, data: bytes = b"", *, buffer: int | None = None) -> socket.socket:
        """A new connection on which so much was sent. buffer: bytes that are taken unread."""
        made = socket.socket()
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.settimeout(5)
        made.connect(("127.0.0.1", self.port))
        made.sendall(data)
        return made

    def request(self, path: str, method: str = "GET", more: str = "") -> bytes:
        """A request with the token; more: further headers, each with its end of line."""
        joined = f"{path}{'&' if '?' in path else '?'}token={self.token}"
        return f"{method} {joined} HTTP/1.1\r\nHost: {self.host}\r\n{more}\r\n".encode()

    def status(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> int:
        """What a request is answered with."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(line):
            line.request(method, path, body, headers)
            return line.getresponse().status

    def upgrade(self) -> bytes:
        """A request for a WebSocket."""
        return self.request(
            "/ws",
            more="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )


def frame(data: bytes, opcode: int = 1, *, is_last: bool = True) -> bytes:
    """A WebSocket frame of a client; its mask is 0, so the data is as it is."""
    head = bytes([opcode | (0x80 if is_last else 0)])
    length = (
        bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
    )
    return head + length + bytes(4) + data


def foreign_pages(gate: Gate) -> None:
    """Ask without the token, with a wrong one, from another page, under another name."""
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


def large_messages(gate: Gate) -> None:
    """Send messages of 10 MB on WebSockets, one after the other."""
    message = "x" * 10_000_000
    while True:
        with contextlib.suppress(WebSocketException, OSError):
            url = f"ws://{gate.host}/ws?token={gate.token}"
            with connect(url, compression=None, close_timeout=1) as websocket:
                websocket.send(message)
        time.sleep(10 * _PAUSE_S)


def nonsense(gate: Gate) -> None:
    """Send messages that are no JSON, and connect again where that is cut off."""
    while True:
        with contextlib.suppress(WebSocketException, OSError):
            url = f"ws://{gate.host}/ws?token={gate.token}"
            with connect(url, compression=None, close_timeout=1) as websocket:
                while True:
                    websocket.send("{" * 1000)
                    time.sleep(_PAUSE_S)
        time.sleep(_PAUSE_S)


def offers(gate: Gate) -> None:
    """Offer WebRTC again and again, and never come."""
    body = json.dumps({"type": "offer", "sdp": _SDP, "camera": False}).encode()
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            gate.status(f"/offer?token={gate.token}", "POST", body)


def requests(gate: Gate) -> None:
    """Ask for the page as fast as it is given."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            gate.status(f"/?token={gate.token}")


def watch(gate: Gate) -> None:
    """Look at the picture as a browser does, and come back where it ends."""
    while True:
        with contextlib.suppress(OSError):
            stream = gate.connection(gate.request("/stream.mjpg"))
            while stream.recv(1 << 16):
                pass
        time.sleep(_PAUSE_S)


def hold(
    data: Callable[[Gate], bytes], *, count: int = HELD, sip: int = 0, buffer: int | None = 1024
) -> Callable[[Gate], None]:
    """An attack that keeps so many connections open, on each of which data was sent.

    sip: bytes that each takes every tenth of a second. buffer: that it takes without reading.
    """

    def attack(gate: Gate) -> None:
        held: list[socket.socket] = []
        while True:
            held = [one for one in held if _is_open(one)]
            for _ in range(count - len(held)):
                with contextlib.suppress(OSError):
                    held.append(gate.connection(data(gate), buffer=buffer))
                time.sleep(_PAUSE_S / 10)
            for one in held:
                with contextlib.suppress(OSError):
                    one.setblocking(False)
                    if sip:
                        one.recv(sip)
            time.sleep(0.1)

    return attack


def _is_open(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    if poll.poll(0):
        connection.close()
        return False
    return True


def flood(data: bytes) -> Callable[[Gate], None]:
    """An attack that sends the data on several WebSockets as fast as it is taken."""

    def attack(gate: Gate) -> None:
        parts = data * max(1, (1 << 16) // len(data))
        open_ones: dict[socket.socket, bytes] = {}
        while True:
            while len(open_ones) < FLOODERS:
                with contextlib.suppress(OSError):
                    one = gate.connection(gate.upgrade())
                    one.setblocking(False)
                    open_ones[one] = parts
                time.sleep(_PAUSE_S)
            open_ones = {
                one: parts if left == b"" else left
                for one, before in open_ones.items()
                if (left := _pour(one, before)) is not None
            }
            time.sleep(0.002)

    return attack


def _pour(connection: socket.socket, data: bytes) -> bytes | None:
    """What of the data was not taken; None where the connection was cut."""
    try:
        with contextlib.suppress(BlockingIOError):
            connection.recv(1 << 16)
        with contextlib.suppress(BlockingIOError):
            data = data[connection.send(data) :]
    except OSError:
        connection.close()
        return None
    return data


def _messages(*messages: Mapping[str, object]) -> bytes:
    return b"".join(frame(json.dumps(message).encode()) for message in messages)


def _presets() -> Iterator[Mapping[str, object]]:
    for number in range(200):
        for kind in ("preset_save", "preset_delete"):
            yield {"type": kind, "name": f"{number:040d}"}


_CHUNKED: Final = "Transfer-Encoding: chunked\r\n"
ATTACKS: Final[Mapping[str, Callable[[Gate], None]]] = {
    "foreign": foreign_pages,
    "connections": hold(lambda _: b"", count=MANY),
    "half-open": hold(lambda _: b"GET /frame.jpg HTTP/1.1\r\nHost: ", count=MANY),
    "large": large_messages,
    "nonsense": nonsense,
    "pictures-unread": hold(lambda gate: gate.request("/stream.mjpg")),
    "pictures-sipped": hold(lambda gate: gate.request("/stream.mjpg"), sip=1),
    "pictures-read": hold(lambda gate: gate.request("/stream.mjpg"), sip=1 << 20, buffer=None),
    "single-pictures": hold(lambda gate: 100 * gate.request("/frame.jpg")),
    "pages-unread": hold(lambda gate: 100 * gate.request("/")),
    "kept-alive": hold(lambda gate: gate.request("/health"), sip=1024),
    "half-bodies": hold(lambda gate: gate.request("/offer", "POST", "Content-Length: 999\r\n")),
    "bodies-in-bytes": hold(
        lambda gate: gate.request("/offer", "POST", _CHUNKED) + 50_000 * b"1\r\nx\r\n"
    ),
    "sockets-idle": hold(lambda gate: gate.upgrade(), sip=1 << 20, buffer=None),
    "sockets-unread": hold(lambda gate: gate.upgrade() + 999 * frame(b'{"type":"ping"}')),
    "settings": flood(
        _messages(*({"type": "set", "target": {"sad": n / 100}} for n in range(100)))
    ),
    "methods": flood(_messages(*({"type": "set", "method": name} for name in ("parts", "warp")))),
    "presets": flood(_messages(*_presets())),
    "pings": flood(frame(b"", 9)),
    "fragments": flood(
        frame(b"", is_last=False) + 60 * frame(b"", 0, is_last=False) + frame(b"", 0)
    ),
    "deep": flood(_messages({"type": "ping"}) + frame(b"[" * 4000)),
    "long-numbers": flood(
        _messages({"type": "ping"}) + frame(b'{"type":"ping","t":' + b"9" * 4000 + b"}")
    ),
    "offers": offers,
    "requests": requests,
}
_ROLES: Final = {**ATTACKS, "watch": watch}


def newcomer_s(gate: Gate) -> float:
    """Seconds until somebody new has page, file, WebSocket, a picture and a stream of them."""
    began_s = time.monotonic()
    for has in (_has_page, _has_file, _has_picture, _has_websocket, _has_stream):
        while not has(gate):
            if time.monotonic() - began_s > _TIMEOUT_S:
                return float("inf")
            time.sleep(0.1)
    return time.monotonic() - began_s


def _has_page(gate: Gate) -> bool:
    return _is_given(gate, f"/?token={gate.token}")


def _has_file(gate: Gate) -> bool:
    return _is_given(gate, f"/static/{gate.token}/main.js")


def _has_picture(gate: Gate) -> bool:
    return _is_given(gate, f"/frame.jpg?token={gate.token}")


def _is_given(gate: Gate, path: str) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return gate.status(path) == 200
    return False


def _has_websocket(gate: Gate) -> bool:
    with contextlib.suppress(OSError, WebSocketException):
        url = f"ws://{gate.host}/ws?token={gate.token}"
        with connect(url, compression=None, close_timeout=1) as websocket:
            return bool(json.loads(websocket.recv(timeout=5))["type"] == "hello")
    return False


def _has_stream(gate: Gate) -> bool:
    with contextlib.suppress(OSError), gate.connection(gate.request("/stream.mjpg")) as stream:
        while data := stream.recv(1 << 16):
            if b"\xff\xd8\xff" in data:
                return True
    return False


@contextlib.contextmanager
def _process(role: str, url: str) -> Iterator[None]:
    command = [sys.executable, __file__, "--role", role, "--url", url]
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


def stress(
    clip: Path, seconds: float, attacks: Sequence[str]
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Frames a second in peace (`peace`, the median of all times) and under each attack.

    Beside it, how long it took somebody new to have everything.
    """
    source = open_source(str(clip))
    rates: dict[str, float] = {}
    waits: dict[str, float] = {}
    peace = []
    with (
        tempfile.TemporaryDirectory() as folder,
        LiveLoop(source, lambda state: Filter(state.target), [], Controls(target="happy")) as loop,
        PanelServer(loop, PanelSettings(port=0, presets=Path(folder) / "presets.json")) as panel,
        _process("watch", panel.url),
    ):
        gate = Gate(panel.url)
        peace.append(_rate(loop, seconds))
        waits["peace"] = newcomer_s(gate)
        typer.echo(f"peace: {peace[-1]:.2f} frames a second, a newcomer {waits['peace']:.2f} s")
        for attack in attacks:
            with _process(attack, panel.url):
                rates[attack] = _rate(loop, seconds)
                waits[attack] = newcomer_s(gate)
            peace.append(_rate(loop, seconds))
            typer.echo(
                f"{attack}: {rates[attack]:.2f} frames a second, {peace[-1]:.2f} after it; "
                f"a newcomer {waits[attack]:.2f} s"
            )
    return {"peace": median(peace), **rates}, waits


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long each attack is.")] = 10.0,
    clip: Annotated[Path | None, typer.Option(help="Another clip than the sample.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Of the attacks, this one.")] = None,
    role: Annotated[str | None, typer.Option(hidden=True)] = None,
    url: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run the filter with a panel under attack, and print what that costs."""
    if role is not None:
        _ROLES[role](Gate(url))
        return
    with tempfile.TemporaryDirectory() as folder:
        if clip is None:
            clip = Path(folder) / "clip.mp4"
            write_bench_clip(SAMPLE, clip)
        rates, waits = stress(clip, seconds, only or list(ATTACKS))
    typer.echo(f"in peace: {rates['peace']:.2f} frames a second")
    slow = [name for name, rate in rates.items() if rate < THRESHOLD * rates["peace"]]
    for name in slow:
        typer.echo(f"missed: {name}, {rates[name] / rates['peace']:.0%} of that", err=True)
    late = [name for name, wait_s in waits.items() if wait_s > NEWCOMER_S]
    for name in late:
        typer.echo(f"missed: {name}, a newcomer waits {waits[name]:.1f} s", err=True)
    if slow or late:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
