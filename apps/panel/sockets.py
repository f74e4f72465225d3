"""The WebSocket: messages in, state and news out, to everybody at their own pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketState

from mien.apps.panel.parsing import parse_client_message
from mien.apps.panel.protocol import Faces, ProtocolError, Refusal, ServerMessage, Stats, encode
from mien.apps.panel.steering import Steering
from mien.engines.errors import MienError

BAD_MESSAGES: Final = 3  # in a row, after which somebody is not worth listening to
_POLICY, _GOING_AWAY, _TRY_LATER = 1008, 1001, 1013
_TICK_S: Final = 0.1
_TICKS_A_STATS: Final = 5


class _Client:
    """One end of the line. A message that still waits is replaced by a newer one of its type."""

    def __init__(self, websocket: WebSocket, send_s: float) -> None:
        self.websocket = websocket
        self._send_s = send_s
        self._outbox: dict[str, ServerMessage] = {}
        self._filled = asyncio.Event()
        self.close_code: int | None = None

    def put(self, message: ServerMessage) -> None:
        self._outbox.pop(message.type, None)
        self._outbox[message.type] = message
        self._filled.set()

    def end(self, code: int) -> None:
        """Nothing; what waits is still sent, then the line is closed."""
        self.close_code = code
        self._filled.set()

    async def send_all(self) -> None:
        """Nothing; returns when the client is ended, or takes too long for a message."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                message = self._outbox.pop(next(iter(self._outbox)))
                await asyncio.wait_for(self.websocket.send_text(encode(message)), self._send_s)
            if self.close_code is not None:
                return


class Sockets:
    """Everybody on `/ws`; used in the server's thread.

    news: gives the stats and the faces of this moment.
    """

    def __init__(
        self,
        steering: Steering,
        news: Callable[[], tuple[Stats, Faces]],
        *,
        most: int,
        send_s: float,
    ) -> None:
        self._steering, self._news = steering, news
        self._most, self._send_s = most, send_s
        self._clients: set[_Client] = set()
        self._ticking: asyncio.Task[None] | None = None

    def tell(self, message: ServerMessage) -> None:
        """Nothing; everybody gets the message."""
        for client in self._clients:
            client.put(message)

    def tell_state(self) -> None:
        """Nothing; everybody is told how everything is set."""
        self.tell(self._steering.state())

    def close(self) -> None:
        """Nothing; everybody is told that the panel goes away."""
        for client in self._clients:
            client.end(_GOING_AWAY)

    async def serve(self, websocket: WebSocket) -> None:
        """Nothing; returns when the line is closed."""
        await websocket.accept()
        if len(self._clients) >= self._most:
            await websocket.close(_TRY_LATER, "too many pages are open")
            return
        client = _Client(websocket, self._send_s)
        client.put(self._steering.hello())
        self._clients.add(client)
        if self._ticking is None:
            self._ticking = asyncio.ensure_future(self._tick())
        try:
            await self._talk(client)
        finally:
            self._clients.discard(client)

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
            with contextlib.suppress(RuntimeError, OSError, asyncio.TimeoutError):
                code = _GOING_AWAY if client.close_code is None else client.close_code
                await asyncio.wait_for(client.websocket.close(code), self._send_s)

    async def _listen(self, client: _Client) -> None:
        bad = 0
        while bad < BAD_MESSAGES:
            received = await client.websocket.receive()
            if received["type"] == "websocket.disconnect":
                return
            text = received.get("text")
            try:
                self._handle(client, received.get("bytes", b"") if text is None else text)
                bad = 0
            except MienError as error:
                bad = bad + 1 if isinstance(error, ProtocolError) else 0
                client.put(Refusal(str(error)))
        client.end(_POLICY)
        await asyncio.Event().wait()  # the writer ends the line, after the reason

    def _handle(self, client: _Client, text: str | bytes) -> None:
        answer, news = self._steering.do(parse_client_message(text))
        if answer is not None:
            client.put(answer)
        if news is not None:
            self.tell(news)

    async def _tick(self) -> None:
        """Tells everybody how it goes, until nobody is there."""
        faces, count = None, 0
        try:
            while self._clients:
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
