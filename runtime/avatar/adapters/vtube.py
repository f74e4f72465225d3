"""VTube Studio: what a face shows, injected as the parameters that move a Live2D model.

`vts://HOST:PORT` connects to its plugin API, a WebSocket at port 8001. The first time its user is
asked there whether mien may; the token that it then gives is kept, so that they are asked once.

Source: https://github.com/DenchiSoft/VTubeStudio (AuthenticationTokenRequest,
AuthenticationRequest, InjectParameterDataRequest). Left and right are the viewer's.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from mien.engines.errors import DeviceError
from mien.engines.system.folders import CacheFolder, user_cache
from mien.runtime.avatar.adapters.link import Address
from mien.runtime.avatar.adapters.reading import FaceReader, FaceReading
from mien.runtime.avatar.protocol import Steer
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.values import LiveFrame

WHO: Final = {"pluginName": "mien", "pluginDeveloper": "mien"}
ANSWER_S: Final = 5.0
ALLOW_S: Final = 120.0  # for a person to find the question and answer it
MOST_BYTES: Final = 1 << 20  # of an answer
WORST_DEG: Final = 30.0  # of the angles that VTube Studio knows
TOKEN: Final = "vtube-studio.token"  # noqa: S105 -- a file's name


class VtubeLink(ThreadedOutput):
    """Sends each frame's face, and connects again where VTube Studio comes back.

    folder: where the token is kept, private to the user.
    """

    def __init__(self, address: Address, folder: Path) -> None:
        super().__init__(address.text)
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._url = f"ws://{host}:{address.port}"
        self._folder = CacheFolder(folder)
        self._reader = FaceReader()
        self._opened = ExitStack()
        self._connection: ClientConnection | None = None

    def _show(self, frame: LiveFrame) -> None:
        reading = self._reader(frame)
        if self._connection is None:
            self._connect()
        values = [] if reading is None else parameters(reading)
        data = {
            "faceFound": reading is not None,
            "mode": "set",
            "parameterValues": [{"id": name, "value": value} for name, value in values],
        }
        if values:
            self._ask("InjectParameterData", data, ANSWER_S)

    def _recover(self) -> None:
        self._connection = None
        self._opened.close()

    def _finish(self) -> None:
        self._recover()

    def _connect(self) -> None:
        """Connect, and be let in. Raises DeviceError."""
        try:
            self._connection = self._opened.enter_context(
                connect(
                    self._url,
                    open_timeout=ANSWER_S,
                    close_timeout=1,
                    max_size=MOST_BYTES,
                    proxy=None,
                )
            )
        except (OSError, WebSocketException) as error:
            raise DeviceError(
                f"VTube Studio does not answer at {self._url}; start it, and its plugin API"
            ) from error
        kept = (self._folder.read(TOKEN) or b"").decode(errors="replace")
        if kept and self._is_let_in(kept):
            return
        told = self._ask("AuthenticationToken", WHO, ALLOW_S).get("authenticationToken")
        if not isinstance(told, str) or not self._is_let_in(told):
            raise DeviceError("VTube Studio lets mien not in; allow the plugin there")
        self._folder.write(TOKEN, told.encode())

    def _is_let_in(self, token: str) -> bool:
        answer = self._ask("Authentication", {**WHO, "authenticationToken": token}, ANSWER_S)
        return answer.get("authenticated") is True

    def _ask(self, kind: str, data: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The data of the answer to a request. Raises DeviceError."""
        assert self._connection is not None
        request = {
            "apiName": "VTubeStudioPublicAPI",
            "apiVersion": "1.0",
            "requestID": kind,
            "messageType": f"{kind}Request",
            "data": data,
        }
        try:
            self._connection.send(json.dumps(request))
            answer = json.loads(self._connection.recv(timeout_s))
            found, said = answer["messageType"], answer["data"]
        except (OSError, WebSocketException, ValueError, TypeError, KeyError) as error:
            raise DeviceError(f"VTube Studio has gone from {self._url}") from error
        if found == "APIError" or not isinstance(said, dict):
            why = said.get("message", "") if isinstance(said, dict) else said
            raise DeviceError(f"VTube Studio refuses: {why}")
        return said


def parameters(reading: FaceReading) -> list[tuple[str, float]]:
    """Names of VTube Studio's own parameters, and their values."""
    x, y = reading.gaze
    angles = (reading.yaw_deg, -reading.pitch_deg, -reading.roll_deg)
    found = dict(zip(("FaceAngleX", "FaceAngleY", "FaceAngleZ"), angles, strict=True))
    found = {name: min(WORST_DEG, max(-WORST_DEG, angle)) for name, angle in found.items()}
    found |= {
        "MouthOpen": reading.opening,
        "MouthSmile": 0.5 + 0.5 * reading.smile,
        "Brows": 0.5 + 0.5 * reading.brows,
        "EyeOpenLeft": 1 - reading.closed[0],
        "EyeOpenRight": 1 - reading.closed[1],
        "EyeLeftX": x,
        "EyeLeftY": -y,
        "EyeRightX": x,
        "EyeRightY": -y,
    }
    return [(name, float(value)) for name, value in found.items()]


def open_sender(address: Address, steer: Steer | None) -> VtubeLink:
    """The link to VTube Studio at an address; it need not run yet. Raises EngineError."""
    del steer  # it takes no commands
    return VtubeLink(address, user_cache() / "links")
