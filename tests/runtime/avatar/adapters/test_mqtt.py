from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

pytest.importorskip("aiomqtt")
pytest.importorskip("amqtt.broker", reason="the broker of the test is amqtt's")

from amqtt.broker import Broker
from amqtt.client import MQTTClient

from mien.engines.errors import UsageError
from mien.runtime.avatar.adapters.link import open_link
from mien.runtime.avatar.protocol import MAX_LINE
from mien.runtime.target import parse_target
from tests.runtime.avatar.adapters.faces import Heard, until

# Of amqtt, which leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
T = TypeVar("T")


class Side:
    """A broker and a client of amqtt, in an event loop of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]

    def wait(self, what: Awaitable[T]) -> T:
        async def waited() -> T:
            return await what

        return asyncio.run_coroutine_threadsafe(waited(), self.loop).result(30)

    def start(self) -> None:
        listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}}
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        self.broker = Broker({"listeners": listeners, "plugins": plugins}, self.loop)
        self.wait(self.broker.start())
        self.client = MQTTClient(config={"auto_reconnect": False})
        self.wait(self.client.connect(f"mqtt://127.0.0.1:{self.port}"))
        self.wait(self.client.subscribe([("a/face/#", 1)]))

    def stop(self) -> None:
        self.wait(self.client.disconnect())
        self.wait(self.broker.shutdown())

    def end(self) -> None:
        """Leave the broker at once: a shutdown that is waited for takes amqtt five seconds."""

        async def cancelled() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.wait(cancelled())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        self.loop.close()

    def say(self, message: bytes) -> None:
        self.wait(self.client.publish("a/face", message, qos=1))

    def hears(self, topic: str, wanted: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first thing said at a topic that is wanted."""
        while True:
            message = self.wait(self.client.deliver_message(timeout_duration=20))
            assert message is not None
            if message.topic == topic and wanted(said := json.loads(message.data or b"null")):
                return said


@pytest.fixture
def side() -> Iterator[Side]:
    made = Side()
    made.start()
    yield made
    made.end()


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
