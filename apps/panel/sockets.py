"""The WebSocket: messages in, state and news out, to everybody at their own pace."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from starlette.websockets import WebSocket, WebSocketState

from mien.apps.panel.guard import STALLED_S, TENURE_S, Places, Rate
from mien.apps.panel.parsing import parse_client_message
from mien.apps.panel.protocol import (
    Faces,
    Ping,
    ProtocolError,
    Refusal,
    ServerMessage,
    Stats,
    encode,
)
from mien.apps.panel.steering import Steering, page_text
from mien.engines.errors import MienError

BAD_MESSAGES: Final = 3  # in a row, after which somebody is not worth listening to
MESSAGES_A_SECOND: Final = 50  # a slider that is moved makes 20
MESSAGES_AT_ONCE: Final = 100
_POLICY, _GOING_AWAY, _TRY_LATER = 1008, 1001, 1013
_TICK_S: Final = 0.1
_TICKS_A_STATS: Final = 5
_STATE_EVERY_S: Final = 0.05
_TOO_FAST: Final = f"slower, please: {MESSAGES_A_SECOND} messages a second are read"
_MOST_WAITING: Final = 256  # messages to somebody; in the time that they may take none come 250


class _Client:
    """One end of the line.

    A message that still waits is replaced by a newer one of its type, except for errors: of those
    each is sent, unless very many wait.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.address = websocket.client.host if websocket.client else ""
        self.rate = Rate(MESSAGES_A_SECOND, MESSAGES_AT_ONCE)
        self.has_spoken = False  # sense
        self.heard_s = time.monotonic()
        self.is_slowed = False
        self.close_code: int | None = None
        self._sending_s: float | None = None  # since when
        self._outbox: dict[str, str] = {}  # by type; errors by a number of their own
        self._errors = 0
        self._filled = asyncio.Event()

    def put(self, kind: str, text: str) -> None:
        self._outbox.pop(kind, None)
        self._outbox[kind] = text
        self._filled.set()

    def refuse(self, reason: str) -> None:
        """Answer a message with why it was not done."""
        if len(self._outbox) < _MOST_WAITING:
            self._errors += 1
            text = encode(Refusal(page_text(reason)))
            self.put(f"{Refusal.type} {self._errors}", text)

    def end(self, code: int) -> None:
        """Close the line, after what waits was sent."""
        self.close_code = code
        self._filled.set()

    def spare(self, now_s: float) -> tuple[int, float] | None:
        """Who takes nothing; then who never said anything; then who was silent longest."""
        if self._sending_s is not None and now_s - self._sending_s > STALLED_S:
            return 3, now_s - self._sending_s
        silent_s = now_s - self.heard_s
        return (1 if self.has_spoken else 2, silent_s) if silent_s >= TENURE_S else None

    def make_room(self) -> None:
        """Close the line: somebody newer has the place."""
        self._outbox.clear()
        self.end(_TRY_LATER)

    async def send_all(self) -> None:
        """Send what waits until the client is ended. The connection cuts off who takes nothing."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                text = self._outbox.pop(next(iter(self._outbox)))
                self._sending_s = time.monotonic()
                await self.websocket.send_text(text)
                self._sending_s = None
            if self.close_code is not None:
                return


class Sockets:
    """Everybody on `/ws`; used in the server's thread.

    news: gives the stats and the faces of this moment. listener: entered for as long as somebody
    is connected, once for each.
    """

    def __init__(
        self,
        steering: Steering,
        news: Callable[[], tuple[Stats, Faces]],
        listener: Callable[[], AbstractContextManager[None]],
        *,
        most: int,
    ) -> None:
        self._steering, self._news, self._listener = steering, news, listener
        self._clients: Places[_Client] = Places(most)
        self._ticking: asyncio.Task[None] | None = None
        self._telling: asyncio.TimerHandle | None = None  # of the state
        self._told_s = 0.0

    def tell(self, message: ServerMessage) -> None:
        """Send everybody the message."""
        text = encode(message)
        for client in self._clients:
            client.put(message.type, text)

    def tell_state(self) -> None:
        """Tell everybody how everything is set, soon, and once for all that changed till then."""
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_at(self._told_s + _STATE_EVERY_S, self._tell_state)

    def close(self) -> None:
        """Tell everybody that the panel goes away."""
        for client in self._clients:
            client.end(_GOING_AWAY)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve the client until the line is closed."""
        await websocket.accept()
        client = _Client(websocket)
        if not self._clients.take(client):
            await websocket.close(_TRY_LATER, "too many pages are open")
            return
        hello = self._steering.hello()
        client.put(hello.type, encode(hello))
        if self._ticking is None:
            self._ticking = asyncio.ensure_future(self._tick())
        try:
            with self._listener():
                await self._talk(client)
        finally:
            self._clients.free(client)

    def _tell_state(self) -> None:
        self._telling = None
        self._told_s = asyncio.get_running_loop().time()
        self.tell(self._steering.state())

    async def _talk(self, client: _Client) -> None:
        reading = asyncio.ensure_future(self._listen(client))
        writing = asyncio.ensure_future(client.send_all())
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            await self._hang_up(client)

    async def _hang_up(self, client: _Client) -> None:
        if client.websocket.client_state is not WebSocketState.DISCONNECTED:
            with contextlib.suppress(RuntimeError, OSError):
                code = _GOING_AWAY if client.close_code is None else client.close_code
                await client.websocket.close(code)

    async def _listen(self, client: _Client) -> None:
        bad = 0
        while bad < BAD_MESSAGES:
            received = await client.websocket.receive()
            if received["type"] == "websocket.disconnect":
                return
            await self._slow_down(client)
            text = received.get("text")
            try:
                self._handle(client, received.get("bytes", b"") if text is None else text)
                bad = 0
            except MienError as error:
                bad = bad + 1 if isinstance(error, ProtocolError) else 0
                client.refuse(str(error))
        client.end(_POLICY)
        await asyncio.Event().wait()  # the writer ends the line, after the reason

    async def _slow_down(self, client: _Client) -> None:
        """Wait for this message's turn: nothing is lost, and nobody else waits."""
        wait_s = client.rate.wait_s()
        client.rate.take()
        if wait_s and not client.is_slowed:
            client.refuse(_TOO_FAST)
        client.is_slowed = wait_s > 0
        await asyncio.sleep(wait_s)

    def _handle(self, client: _Client, text: str | bytes) -> None:
        message = parse_client_message(text)
        client.has_spoken, client.heard_s = True, time.monotonic()
        answer, work = self._steering.do(message)
        if answer is not None:
            client.put(answer.type, encode(answer))
        if work is not None:
            work.add_done_callback(functools.partial(_tell_failure, client))
        elif not isinstance(message, Ping):
            self.tell_state()

    async def _tick(self) -> None:
        """Tell everybody how it goes, until nobody is there."""
        faces, count = None, 0
        try:
            while len(self._clients):
                stats, seen = self._news()
                if count % _TICKS_A_STATS == 0:
                    self.tell(stats)
                    faces = None  # for those who came since it changed
                if seen != faces:
                    faces = seen
                    self.tell(seen)
                count += 1
                await asyncio.sleep(_TICK_S)
        finally:
            self._ticking = None


def _tell_failure(client: _Client, work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        client.refuse(str(error))
