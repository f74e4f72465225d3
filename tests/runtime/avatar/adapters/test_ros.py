from __future__ import annotations

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("roslibpy", reason="the robot's side of the test")
pytest.importorskip("websockets")

import roslibpy
from websockets.exceptions import WebSocketException
from websockets.sync.server import Server, ServerConnection, serve

from mien.engines.errors import UsageError
from mien.runtime.avatar.adapters.affect import NUMBERS, message_of, target_of
from mien.runtime.avatar.adapters.link import open_link
from mien.runtime.live.values import LiveFrame
from mien.runtime.target import EMOTIONS, Target, parse_target
from tests.runtime.avatar.adapters.faces import Heard, live_frame, portrait, still_avatar, until


class Bridge:
    """A rosbridge server of the operations that a robot and an avatar need."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.types: dict[str, str] = {}
        self._subscribers: dict[str, set[ServerConnection]] = defaultdict(set)
        self._open: set[ServerConnection] = set()
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server: Server = serve(self._serve, "127.0.0.1", self.port, max_size=None)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        with self._lock:
            for connection in self._open:
                connection.close_socket()
        self._thread.join(10)

    def is_subscribed(self, topic: str) -> bool:
        with self._lock:
            return bool(self._subscribers[topic])

    def _serve(self, connection: ServerConnection) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            for said in connection:
                self._handle(connection, json.loads(said))
        except (OSError, WebSocketException):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
                for listening in self._subscribers.values():
                    listening.discard(connection)

    def _handle(self, connection: ServerConnection, entry: dict[str, Any]) -> None:
        topic = entry["topic"]
        with self._lock:
            if entry["op"] in ("advertise", "subscribe"):
                assert self.types.setdefault(topic, entry["type"]) == entry["type"]
            if entry["op"] == "subscribe":
                self._subscribers[topic].add(connection)
            listening = list(self._subscribers[topic]) if entry["op"] == "publish" else []
        for other in listening:
            other.send(json.dumps({"op": "publish", "topic": topic, "msg": entry["msg"]}))


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    made = Bridge()
    yield made
    made.stop()


@pytest.fixture
def robot(bridge: Bridge) -> Iterator[roslibpy.Ros]:
    roslibpy.set_default_transport("asyncio")
    client = roslibpy.Ros("127.0.0.1", bridge.port)
    client.run(20)
    yield client
    client.close()


@pytest.fixture(scope="module")
def sad_frame() -> LiveFrame:
    avatar = still_avatar(portrait())
    avatar.express(parse_target("sad"), ease_s=0.1)
    live_frame(avatar, 0.0)
    frame = live_frame(avatar, 2.0)
    avatar.close()
    return frame


def test_a_robot_steers_and_sees(bridge: Bridge, robot: roslibpy.Ros, sad_frame: LiveFrame) -> None:
    heard, images, shown = Heard(), list[Any](), list[Any]()
    roslibpy.Topic(robot, "/ada/image", "sensor_msgs/msg/Image").subscribe(images.append)
    roslibpy.Topic(robot, "/ada/shown", "hri_msgs/msg/Expression").subscribe(shown.append)
    until(lambda: bridge.is_subscribed("/ada/image") and bridge.is_subscribed("/ada/shown"))
    link = open_link(f"ros://127.0.0.1:{bridge.port}/ada", heard)
    try:
        until(lambda: bridge.is_subscribed("/ada/expression"))
        said = roslibpy.Topic(robot, "/ada/expression", "hri_msgs/msg/Expression")
        said.publish({"expression": "scared", "valence": 0.0, "arousal": 0.0, "confidence": 1.0})
        heard.wait_for(lambda command: command.target == parse_target("fearful"))
        said.publish({"expression": "asleep"})
        until(lambda: "asleep" in (link.status().message or ""))
        said.publish({"expression": "happy"})
        heard.wait_for(lambda command: command.target == parse_target("happy"))

        def sees() -> bool:
            link.offer(sad_frame)
            return bool(images and shown)

        until(sees)
    finally:
        link.close()
    image = images[0]
    picture = np.frombuffer(base64.b64decode(image["data"]), np.uint8)
    assert (image["encoding"], image["step"]) == ("rgb8", 3 * image["width"])
    assert picture.size == image["step"] * image["height"]
    red, _, blue = picture.reshape(image["height"], image["width"], 3)[60, 54]
    assert red > blue  # skin
    assert shown[0]["expression"] == "sad"
    assert shown[0]["valence"] < -0.5


def test_a_bridge_that_comes_back_is_spoken_with_again(sad_frame: LiveFrame) -> None:
    bridge, heard = Bridge(), Heard()
    link = open_link(f"ros://127.0.0.1:{bridge.port}/ada", heard)
    try:
        until(lambda: bridge.is_subscribed("/ada/expression"))
        bridge.stop()
        until(lambda: not link.watched)
        link.offer(sad_frame)
        until(lambda: "start its server" in (link.status().message or ""))
        bridge.start()
        until(lambda: bridge.is_subscribed("/ada/expression"))
        robot = roslibpy.Ros("127.0.0.1", bridge.port, transport="asyncio")
        robot.run(20)
        roslibpy.Topic(robot, "/ada/expression", "hri_msgs/msg/Expression").publish(
            {"expression": "angry"}
        )
        heard.wait_for(lambda command: command.target == parse_target("angry"))
        robot.close()
        link.offer(sad_frame)
        until(lambda: link.status().message is None)
    finally:
        link.close()
        bridge.stop()


def test_a_camera_is_not_steered(bridge: Bridge, robot: roslibpy.Ros) -> None:
    link = open_link(f"ros://127.0.0.1:{bridge.port}/cam", None)
    until(lambda: "/cam/shown" in bridge.types)
    link.close()
    assert "/cam/expression" not in bridge.types


def test_names_numbers_and_affect_say_which_expression() -> None:
    for number, name in enumerate(NUMBERS):
        assert target_of({"expression": number}) == target_of({"expression": name})
    assert target_of({}) == parse_target("neutral")
    for name, valence, arousal in (("happy", 0.9, 0.15), ("sad", -0.7, -0.4), ("angry", -0.1, 0.9)):
        found = target_of({"expression": "", "valence": valence, "arousal": arousal})
        assert EMOTIONS[int(np.argmax(found.weights))] == name
    weak = target_of({"expression": "", "valence": 0.2, "arousal": 0.0})
    assert sum(weak.weights) == pytest.approx(0.2)
    for valence, arousal in np.random.default_rng(0).uniform(-1, 1, (200, 2)):
        target_of({"valence": float(valence), "arousal": float(arousal)})


def test_what_is_told_is_understood_again() -> None:
    for place, emotion in enumerate(EMOTIONS):
        weights = tuple(float(place == other) for other in range(len(EMOTIONS)))
        told = target_of(message_of(weights))
        assert EMOTIONS[int(np.argmax(told.weights))] == emotion
        assert isinstance(told, Target)


@pytest.mark.parametrize(
    "wrong", [{"expression": "smug"}, {"valence": 2}, {"arousal": "high"}, {"expression": 99}]
)
def test_an_expression_that_cannot_be_shown_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        target_of(wrong)


def test_a_name_that_ros_would_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match="name of ROS"):
        open_link("ros://127.0.0.1/9lives!", None)
