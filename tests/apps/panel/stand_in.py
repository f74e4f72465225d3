"""A panel on a live loop whose camera is a moving pattern and whose filter changes a square."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.sync.client import ClientConnection, connect

from mien.apps.panel.app import PanelServer
from mien.apps.panel.protocol import weights_of
from mien.apps.panel.settings import Limits, PanelSettings
from mien.engines.errors import MienError, UsageError
from mien.runtime.faces.tracking import Face
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.loop import IDLE_AFTER_S, LiveLoop
from mien.runtime.live.sources.source import PushSource
from mien.runtime.live.values import SourceFacts
from mien.runtime.target import Target

TOKEN = "a-token-for-tests"
SIZE_WH = (128, 96)
SQUARE = (slice(32, 64), slice(48, 80))  # what the filter makes bright, with a target
DARK, BRIGHT = 40, 220
NOISE = np.random.default_rng(0).integers(16, 235, (28, SIZE_WH[0]), np.uint8)
EVENT_S = 20.0  # how long to wait for what must come; it comes in a moment


class SquareFilter:
    """Makes a square bright by the strength of the target."""

    def __init__(self, state: ControlState) -> None:
        self.target: Target | None = state.target
        self.own = 1.0
        self.face: str = state.face
        self.detection_spacing = 1.0
        landmarks = np.full((106, 2), (64.0, 48.0), np.float32)
        landmarks[0], landmarks[1] = (48, 32), (80, 64)
        self.faces = (Face(1, landmarks, 1.0, 1.0),)
        self.edited: tuple[int, ...] = ()
        self.numbers = {1: 1}
        self.goals: dict[int, object] = {}
        self.error: MienError | None = None  # for the frames to come
        self.providers = {"square": "cpu"}
        self.timings = SimpleNamespace(last_ms={"edit": 0.1})
        self.frames = 0

    def apply(self, frame: Frame) -> Frame:
        self.frames += 1
        if self.error is not None:
            raise self.error
        self.edited = (1,) if self.target is not None else ()
        if self.target is None:
            return frame
        samples = frame.planes[0].samples.copy()
        samples[SQUARE] = DARK + round((BRIGHT - DARK) * min(1.0, self.target.strength))
        return replace(frame, planes=(Plane(samples, (1, 1)), *frame.planes[1:]))

    def reset(self) -> None: ...

    def close(self) -> None: ...


class OneWayFilter(SquareFilter):
    """Makes faces happy, and no other, as a generator with one label; `warp` makes all.

    It scales no own expression either.
    """

    def __init__(self, state: ControlState) -> None:
        self.method = state.method
        super().__init__(replace(state, target=None))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "target" and isinstance(value, Target) and self.method != "warp":
            others = [e for e, w in weights_of(value).items() if w and e != "happy"]
            if others:
                raise UsageError(f"the model cannot make {others[0]}; use another --emotion")
        if name == "own" and value != 1 and self.method != "warp":
            raise UsageError("this method cannot scale a person's own expression; warp can")
        super().__setattr__(name, value)


class PatternCamera(PushSource):
    """A dark picture with a moving bar, pushed by a thread until it is closed."""

    def __init__(self, rate: float = 60.0) -> None:
        facts = SourceFacts("pattern", SIZE_WH, Fraction(rate), "yuv420p", "a pattern")
        super().__init__(facts)
        self.is_paused = False
        self._ended = threading.Event()
        self._rate = rate
        self._thread = threading.Thread(target=self._run, name="pattern", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self.is_paused = True
        super().pause()

    def resume(self) -> None:
        self.is_paused = False
        super().resume()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        super().close()

    def _run(self) -> None:
        index = 0
        while not self._ended.wait(1 / self._rate):
            self.push(pattern(index))
            index += 1


def pattern(index: int, luma: int = DARK) -> Frame:
    """A frame of one luma, with a bar that moves along its bottom."""
    width, height = SIZE_WH
    samples = np.full((height, width), luma, np.uint8)
    samples[:28] = NOISE  # so that pictures are not too small for what is tested
    samples[-8:, (index * 4) % width :][:, :8] = 128
    chroma = [np.full((height // 2, width // 2), 128, np.uint8) for _ in range(2)]
    planes = (Plane(samples, (1, 1)), *(Plane(plane, (2, 2)) for plane in chroma))
    return Frame(planes, PixelLayout("yuv", matrix="bt601"), width, height)


class RunningPanel:
    """A panel that serves, and the ways to talk to it."""

    def __init__(self, server: PanelServer, loop: LiveLoop, camera: PatternCamera) -> None:
        self.server, self.loop, self.camera = server, loop, camera
        self.port = server.port
        self.host = f"127.0.0.1:{server.port}"

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body; the token is in the path or in a header."""
        return self.request("GET", path, **headers)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=EVENT_S)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, data: bytes = b"") -> socket.socket:
        """A connection on which so much was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=EVENT_S)
        connection.sendall(data)
        return connection

    def websocket(self, token: str = TOKEN, **options: Any) -> ClientConnection:
        return connect(f"ws://{self.host}/ws?token={token}", compression=None, **options)


@contextlib.contextmanager
def running_panel(
    folder: Path,
    limits: Limits | None = None,
    *,
    filters: Callable[[ControlState], SquareFilter] = SquareFilter,
    controls: Controls | None = None,
    idle_after_s: float = IDLE_AFTER_S,
    **settings: Any,
) -> Iterator[RunningPanel]:
    """A panel, its loop and its camera; nothing of them is left behind.

    filters: makes the filter of a state. settings: of `PanelSettings`.
    """
    before = set(threading.enumerate())
    camera = PatternCamera()
    panel_settings = PanelSettings(
        port=0,
        token=TOKEN,
        presets=folder / "config" / "presets.json",
        limits=limits or Limits(),
        **settings,
    )
    with (
        LiveLoop(
            camera, filters, [], controls or Controls(), adaptive=False, idle_after_s=idle_after_s
        ) as loop,
        PanelServer(loop, panel_settings) as server,
    ):
        yield RunningPanel(server, loop, camera)
    left = {thread for thread in threading.enumerate() if thread not in before}
    for thread in left:
        thread.join(EVENT_S)
    assert not [thread.name for thread in left if thread.is_alive()]


def receive(websocket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of that type."""
    end_s = time.monotonic() + EVENT_S
    while time.monotonic() < end_s:
        message: dict[str, Any] = json.loads(websocket.recv(timeout=EVENT_S))
        if message["type"] == kind:
            return message
    raise AssertionError(f"no message of type {kind} came")


def send(websocket: ClientConnection, **message: Any) -> None:
    websocket.send(json.dumps(message))


def write_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """The PEM files of a certificate for those names and numbers, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "panel")])
    now = dt.datetime.now(dt.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
    certificate = builder.sign(key, hashes.SHA256())
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
