"""MQTT: an avatar steered by one topic of a broker.

`mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC` takes the JSON of `protocol` at TOPIC. What an avatar
then is like is kept at TOPIC/state, what was wrong with a message is told at TOPIC/error, and
TOPIC/online is `true` or, by the broker's hand where mien has gone, `false`. The broker may go and
come back.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

import aiomqtt

from mien.engines.errors import UsageError
from mien.runtime.avatar.adapters.link import Address, Receiver
from mien.runtime.avatar.protocol import MAX_LINE, Steer, answer_to, too_long
from mien.runtime.live.outputs.output import RETRY_S, told

TOPIC: Final = "mien/avatar"
LEAST_ONCE: Final = 1  # quality of service
WAIT_S: Final = 5.0
MOST_WAITING: Final = 100  # messages; more at a time are dropped


class MqttLink(Receiver):
    """Takes commands from a broker, which may be away. Raises UsageError for no topic's name."""

    def __init__(self, address: Address, steer: Steer) -> None:
        super().__init__(address.text, steer)
        self._address = address
        self._topic = address.path.rstrip("/") or TOPIC
        if any(sign in self._topic for sign in "+#\0"):
            raise UsageError(f"{address.text}: a topic to take commands at has no + and no #")
        self._loop = asyncio.SelectorEventLoop()  # aiomqtt needs its readers, on Windows as well
        self._task: asyncio.Task[None] | None = None
        self._ended = threading.Event()
        self._thread_of_loop = threading.Thread(target=self._work, name="mien-mqtt", daemon=True)
        self._thread_of_loop.start()

    def _work(self) -> None:
        try:
            self._task = self._loop.create_task(self._stay_connected())
            if not self._ended.is_set():
                self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _stay_connected(self) -> None:
        while not self._ended.is_set():
            try:
                await self._follow()
            except (aiomqtt.MqttError, OSError) as error:
                self.trouble = f"no broker is spoken with: {told(error)}"
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """Answer what comes, until the broker goes. Raises MqttError."""
        online = f"{self._topic}/online"
        client = aiomqtt.Client(
            self._address.host,
            self._address.port,
            username=self._address.user or None,
            password=self._address.password or None,
            timeout=WAIT_S,
            max_queued_incoming_messages=MOST_WAITING,
            will=aiomqtt.Will(online, b"false", LEAST_ONCE, retain=True),
        )
        async with client:
            await client.subscribe(self._topic, LEAST_ONCE)
            await client.publish(online, b"true", LEAST_ONCE, retain=True)
            self.trouble = None
            async for message in client.messages:
                answer = self._answer(message.payload)
                is_state = answer.startswith(b'{"state"')
                place = f"{self._topic}/{'state' if is_state else 'error'}"
                await client.publish(place, answer, LEAST_ONCE, retain=is_state)

    def _answer(self, payload: object) -> bytes:
        if not isinstance(payload, (bytes, bytearray)):
            payload = b""
        line = too_long() if len(payload) > MAX_LINE else answer_to(bytes(payload), self._steer)
        return line.rstrip()

    def _finish(self) -> None:
        self._ended.set()
        task = self._task
        if task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(task.cancel)
        self._thread_of_loop.join(WAIT_S)


def open_receiver(address: Address, steer: Steer) -> MqttLink:
    """The link to a broker, which need not run yet. Raises UsageError."""
    return MqttLink(address, steer)
