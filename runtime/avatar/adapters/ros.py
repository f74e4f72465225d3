"""ROS 2 through rosbridge: expressions come in, the picture and what it shows go out.

`ros://HOST:PORT/NAME` connects to a rosbridge server, a WebSocket at port 9090. It subscribes to
/NAME/expression (`hri_msgs/msg/Expression`), where there is an avatar to steer, and publishes
/NAME/image (`sensor_msgs/msg/Image`, rgb8) and /NAME/shown (`hri_msgs/msg/Expression`). No ROS is
needed on this machine, and the server may go and come back.

Source: rosbridge v2.0 Protocol Specification (ROSBRIDGE_PROTOCOL.md of rosbridge_suite).
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from dataclasses import replace
from typing import Any, Final

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from mien.engines.errors import DeviceError, MienError, UsageError
from mien.runtime.avatar.adapters.affect import message_of, target_of
from mien.runtime.avatar.adapters.link import Address
from mien.runtime.avatar.adapters.reading import FaceReader
from mien.runtime.avatar.protocol import Command, Steer
from mien.runtime.live.outputs.output import RETRY_S, ThreadedOutput, told
from mien.runtime.live.pixels import pixels
from mien.runtime.live.values import LiveFrame, OutputStatus

NAME: Final = "mien"
IMAGE: Final = "sensor_msgs/msg/Image"
EXPRESSION: Final = "hri_msgs/msg/Expression"
LEAST_S: Final = 0.1  # between two pictures
OPEN_S: Final = 5.0
# A message that comes in has a mebibyte at most.
OPTIONS: Final[dict[str, Any]] = {
    "open_timeout": OPEN_S, "close_timeout": 1, "compression": None, "max_size": 1 << 20,
    "proxy": None,
}  # fmt: skip


class RosLink(ThreadedOutput):
    """A rosbridge server, which may be away. steer: None where nothing is to be steered.

    Raises UsageError for a name that ROS would not take.
    """

    def __init__(self, address: Address, steer: Steer | None) -> None:
        super().__init__(address.text)
        name = address.path.strip("/") or NAME
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*", name):
            raise UsageError(f"{address.text}: {name!r} is no name of ROS, as a robot's face is")
        self._prefix = f"/{name}"
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._url = f"ws://{host}:{address.port}"
        self._steer = steer
        self._reader = FaceReader()
        self._connection: ClientConnection | None = None
        self._refused: str | None = None
        self._sent_s = 0.0
        self._ended = threading.Event()
        self._listening = threading.Thread(target=self._work, name="mien-ros", daemon=True)
        self._listening.start()

    @property
    def watched(self) -> bool:
        """Whether there is a server, and so perhaps somebody who looks."""
        return self._connection is not None

    def status(self) -> OutputStatus:
        """As of `ThreadedOutput`, with what was wrong with the last expression."""
        found = super().status()
        return replace(found, message=found.message or self._refused)

    def _work(self) -> None:
        """Stay connected, and take in what comes."""
        while not self._ended.is_set():
            try:
                with connect(self._url, **OPTIONS) as connection:
                    self._introduce(connection)
                    self._connection = connection
                    for said in connection:
                        self._take_in(said)
            except (OSError, WebSocketException):
                pass  # `_show` says so
            finally:
                self._connection = None
            self._ended.wait(RETRY_S)

    def _introduce(self, connection: ClientConnection) -> None:
        asked = [("advertise", "image", IMAGE), ("advertise", "shown", EXPRESSION)]
        asked += [("subscribe", "expression", EXPRESSION)] if self._steer is not None else []
        for operation, topic, kind in asked:
            named = {"op": operation, "topic": f"{self._prefix}/{topic}", "type": kind}
            connection.send(json.dumps(named))

    def _take_in(self, said: str | bytes) -> None:
        """Show what a message asks for; what is none of ours is left out, a wrong one told."""
        try:
            entry = json.loads(said)
            if entry["op"] == "publish" and entry["topic"] == f"{self._prefix}/expression":
                target = target_of(dict(entry["msg"]))
                if self._steer is not None:
                    self._steer(Command(target=target, expresses=True))
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        except MienError as error:
            self._refused = told(error)
        else:
            self._refused = None

    def _show(self, frame: LiveFrame) -> None:
        connection, now_s = self._connection, time.monotonic()
        if connection is None:
            raise DeviceError(f"no rosbridge answers at {self._url}; start its server there")
        if now_s - self._sent_s < LEAST_S:
            return
        self._sent_s = now_s
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        header = {"stamp": {"sec": seconds, "nanosec": rest}, "frame_id": self._prefix[1:]}
        picture = pixels(frame.frame, "rgb24")
        height, width = picture.shape[:2]
        self._publish(connection, "image", {
            "header": header, "height": height, "width": width, "encoding": "rgb8",
            "is_bigendian": 0, "step": 3 * width,
            "data": base64.b64encode(picture.tobytes()).decode(),
        })  # fmt: skip
        if (reading := self._reader(frame)) is not None:
            self._publish(connection, "shown", {"header": header, **message_of(reading.weights)})

    def _publish(self, connection: ClientConnection, topic: str, message: dict[str, Any]) -> None:
        entry = {"op": "publish", "topic": f"{self._prefix}/{topic}", "msg": message}
        try:
            connection.send(json.dumps(entry))
        except (OSError, WebSocketException) as error:  # the other thread connects again
            raise DeviceError(f"the rosbridge at {self._url} has gone") from error

    def _finish(self) -> None:
        self._ended.set()
        if (connection := self._connection) is not None:
            connection.close()
        self._listening.join(OPEN_S)


def open_link(address: Address, steer: Steer | None) -> RosLink:
    """The link to a rosbridge server, which need not run yet. Raises UsageError."""
    return RosLink(address, steer)
