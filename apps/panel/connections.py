"""Connections: not too many of them, and none that waits for ever for its request to come."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Waiting:
    """The connections that have not sent a whole request yet, the oldest first."""

    def __init__(self, *, most: int, request_s: float) -> None:
        self.most, self.request_s = most, request_s
        self._waiting: dict[GuardedProtocol, asyncio.TimerHandle] = {}

    def add(self, connection: GuardedProtocol) -> None:
        """Nothing; from now on the connection has `request_s` for its request."""
        self.discard(connection)
        loop = asyncio.get_running_loop()
        self._waiting[connection] = loop.call_later(self.request_s, self._drop, connection)

    def discard(self, connection: GuardedProtocol) -> None:
        """Nothing; the connection has its request, or is gone."""
        timer = self._waiting.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def drop_oldest(self) -> bool:
        """Whether there was one to drop."""
        if not self._waiting:
            return False
        self._drop(next(iter(self._waiting)))
        return True

    def _drop(self, connection: GuardedProtocol) -> None:
        self.discard(connection)
        connection.transport.abort()


class GuardedProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, with a bound on connections and on the time a request takes.

    Where all are taken, the oldest one that has asked for nothing makes room, so that half-open
    connections do not keep the panel's own page out.
    """

    waiting: Waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.waiting.most and not self.waiting.drop_oldest():
            transport.write(_FULL)
            transport.close()
            return
        self.waiting.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state in (h11.DONE, h11.MUST_CLOSE, h11.SWITCHED_PROTOCOL):
            self.waiting.discard(self)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self.waiting.discard(self)
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.our_state is not h11.SWITCHED_PROTOCOL:
            self.waiting.add(self)


def protocol_class(*, most: int, request_s: float) -> type[GuardedProtocol]:
    """The protocol of one server; uvicorn makes its instances itself."""
    waiting = Waiting(most=most, request_s=request_s)
    return type("PanelProtocol", (GuardedProtocol,), {"waiting": waiting})
