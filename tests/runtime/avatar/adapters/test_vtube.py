from __future__ import annotations

import json
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websockets")

from websockets.exceptions import WebSocketException
from websockets.sync.server import Server, ServerConnection, serve

from mien.runtime.avatar.adapters.link import open_link
from mien.runtime.avatar.adapters.reading import FaceReading
from mien.runtime.avatar.adapters.vtube import parameters
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.values import LiveFrame
from mien.runtime.target import parse_target
from tests.runtime.avatar.adapters.faces import live_frame, portrait, still_avatar, until

KNOWN = {
    "FacePositionX", "FacePositionY", "FacePositionZ", "FaceAngleX", "FaceAngleY", "FaceAngleZ",
    "MouthSmile", "MouthOpen", "Brows", "EyeOpenLeft", "EyeOpenRight", "EyeLeftX", "EyeLeftY",
    "EyeRightX", "EyeRightY", "MouthX", "CheekPuff",
}  # fmt: skip


class Studio:
    """VTube Studio's plugin API, as far as a plugin that moves a face needs it."""

    def __init__(self) -> None:
        self.allows = True
        self.asked = 0
        self.tokens: set[str] = set()
        self.values: dict[str, float] = {}
        self.faces: list[bool] = []
        self._open: set[ServerConnection] = set()
        self.port = 0

    def start(self) -> None:
        self._server: Server = serve(self._serve, "127.0.0.1", self.port)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        for connection in list(self._open):
            connection.close_socket()
        self._thread.join(10)

    def _serve(self, connection: ServerConnection) -> None:
        self._open.add(connection)
        is_let_in = False
        try:
            for said in connection:
                request = json.loads(said)
                assert request["apiName"] == "VTubeStudioPublicAPI"
                assert request["apiVersion"] == "1.0"
                kind, data = request["messageType"], request["data"]
                if kind == "AuthenticationTokenRequest":
                    answer = self._token(data)
                elif kind == "AuthenticationRequest":
                    is_let_in = data["authenticationToken"] in self.tokens
                    answer = {"authenticated": is_let_in, "reason": ""}
                elif not is_let_in:
                    answer = {"errorID": 8, "message": "not authenticated"}
                else:
                    answer = self._inject(data)
                name = "APIError" if "errorID" in answer else kind.replace("Request", "Response")
                connection.send(json.dumps({"messageType": name, "data": answer}))
        except (OSError, WebSocketException):
            pass
        finally:
            self._open.discard(connection)

    def _token(self, data: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        assert all(3 <= len(data[name]) <= 32 for name in ("pluginName", "pluginDeveloper"))
        if not self.allows:
            return {"errorID": 50, "message": "User has denied API access for your plugin."}
        token = f"token-{self.asked}"
        self.tokens.add(token)
        return {"authenticationToken": token}

    def _inject(self, data: dict[str, Any]) -> dict[str, Any]:
        values = {entry["id"]: entry["value"] for entry in data["parameterValues"]}
        if unknown := set(values) - KNOWN:
            return {"errorID": 100, "message": f"no parameter {unknown}"}
        assert all(isinstance(value, float) for value in values.values())
        self.values = values
        self.faces.append(data["faceFound"])
        return {}


@pytest.fixture
def studio() -> Iterator[Studio]:
    made = Studio()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def frame() -> LiveFrame:
    avatar = still_avatar(portrait())
    avatar.express(parse_target("happy"), ease_s=0.1)
    live_frame(avatar, 0.0)
    live_frame(avatar, 1.0)
    avatar.blink(2.0)
    made = live_frame(avatar, 2.1)
    avatar.close()
    return made


def fed(link: ThreadedOutput, frame: LiveFrame, studio: Studio) -> None:
    """Offer the frame until the studio has taken one in."""
    studio.values = {}

    def taken() -> bool:
        link.offer(frame)
        return bool(studio.values)

    until(taken)


def test_a_face_moves_a_model_and_its_user_is_asked_once(
    studio: Studio, cache: Path, frame: LiveFrame
) -> None:
    for _ in range(2):
        link = open_link(f"vts://127.0.0.1:{studio.port}", None)
        fed(link, frame, studio)
        link.close()
        assert link.status().message is None
    assert studio.asked == 1
    assert studio.values["EyeOpenLeft"] < 0.1
    assert studio.values["MouthSmile"] > 0.5
    assert all(studio.faces)
    (kept,) = cache.rglob("*.token")
    if sys.platform != "win32":
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_studio_that_comes_back_is_fed_again(
    studio: Studio, cache: Path, frame: LiveFrame
) -> None:
    link = open_link(f"vts://127.0.0.1:{studio.port}", None)
    try:
        fed(link, frame, studio)
        studio.stop()

        def is_missed() -> bool:
            link.offer(frame)
            return "start it" in (link.status().message or "")

        until(is_missed)
        studio.tokens.clear()  # revoked by its user meanwhile
        studio.start()
        fed(link, frame, studio)
        assert studio.asked == 2
    finally:
        link.close()


def test_a_user_who_refuses_is_a_message(studio: Studio, cache: Path, frame: LiveFrame) -> None:
    studio.allows = False
    link = open_link(f"vts://127.0.0.1:{studio.port}", None)
    link.offer(frame)
    until(lambda: "denied" in (link.status().message or ""))
    link.close()
    assert not studio.values


def test_a_studio_that_is_not_there_is_a_message(cache: Path, frame: LiveFrame) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    link = open_link(f"vts://127.0.0.1:{port}", None)
    link.offer(frame)
    until(lambda: "start it" in (link.status().message or ""))
    link.close()


def test_parameters_lie_in_their_ranges() -> None:
    found = dict(parameters(FaceReading(closed=(1.0, 0.0), smile=-1.0, yaw_deg=80.0, opening=1.0)))
    assert set(found) <= KNOWN
    assert (found["EyeOpenLeft"], found["EyeOpenRight"], found["MouthSmile"]) == (0.0, 1.0, 0.0)
    assert (found["FaceAngleX"], found["MouthOpen"]) == (30.0, 1.0)
