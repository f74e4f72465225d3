from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("aiomqtt")

import paho.mqtt.client as mqtt

from mien.engines.errors import UsageError
from mien.runtime.avatar.adapters.link import open_link
from mien.runtime.avatar.protocol import MAX_LINE
from mien.runtime.target import parse_target
from tests.runtime.avatar.adapters.faces import Heard, until

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Side:
    """Mosquitto as the broker, and a client of it."""

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self.heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [self._broker, "-p", str(self.port)]
        self._running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _, __, said: self.heard.put((said.topic, said.payload))
        until(self._is_connected)
        self.client.subscribe("a/face/#", 1)
        self.client.loop_start()

    def _is_connected(self) -> bool:
        try:
            return self.client.connect("127.0.0.1", self.port) == mqtt.MQTT_ERR_SUCCESS
        except OSError:
            return False

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self._running.kill()
        self._running.wait()

    def say(self, message: bytes) -> None:
        self.client.publish("a/face", message, qos=1).wait_for_publish(20)

    def hears(self, topic: str, wanted: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first thing said at a topic that is wanted."""
        while True:
            where, message = self.heard.get(timeout=20)
            if where == topic and wanted(said := json.loads(message or b"null")):
                return said


@pytest.fixture
def side() -> Iterator[Side]:
    if MOSQUITTO is None:
        pytest.skip("the broker of the test is mosquitto, which is not here")
    made = Side(MOSQUITTO)
    yield made
    made.stop()


def test_one_topic_steers_and_answers(side: Side) -> None:
    heard = Heard()
    link = open_link(f"mqtt://127.0.0.1:{side.port}/a/face", heard)
    try:
        assert side.hears("a/face/online") is True
        side.say(b'{"emotion": "happy", "ease": 0.2, "id": 4}')
        assert side.hears("a/face/state") == {"state": {"count": 1}, "id": 4}
        assert heard.commands[0].target == parse_target("happy")
        for wrong, word in ((b"\xff{", "JSON"), (b'{"emotion": "hapy"}', "happy"), (b"", "JSON")):
            side.say(wrong)
            assert word in side.hears("a/face/error")["error"]
        side.say(b"x" * (MAX_LINE + 1))
        assert "bytes" in side.hears("a/face/error")["error"]
        side.say(b"{}")
        assert side.hears("a/face/state")["state"] == {"count": 2}
    finally:
        link.close()


def test_a_broker_that_comes_back_is_spoken_with_again(side: Side) -> None:
    heard = Heard()
    link = open_link(f"mqtt://127.0.0.1:{side.port}/a/face", heard)
    try:
        side.hears("a/face/online")
        side.stop()
        until(lambda: link.status().message is not None)
        side.start()
        assert side.hears("a/face/online", lambda said: said is True) is True
        until(lambda: link.status().message is None)
        side.say(b'{"emotion": "sad"}')
        heard.wait_for(lambda command: command.target == parse_target("sad"))
    finally:
        link.close()


def test_a_broker_that_is_not_there_is_a_message_and_a_wrong_topic_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    link = open_link(f"mqtt://127.0.0.1:{port}/a", Heard())
    until(lambda: "broker" in (link.status().message or ""))
    link.close()
    with pytest.raises(UsageError, match="topic"):
        open_link("mqtt://127.0.0.1/all/+/faces", Heard())
