"""Connections: a bounded number of them, read in turns, and none that waits for ever.

A line stands between the network and what speaks HTTP or WebSocket on it. It has a deadline for
every wait: for the handshake and a whole request to come, for what was sent to be taken, and for a
good-bye to be answered.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from mien.apps.panel.guard import STALLED_S, Places

CLOSE_S: Final = 1.0  # for the other side to answer a good-bye
MAX_FRAGMENTS: Final = 64  # of a WebSocket message
# Bytes that are read at a time. As WebSocket frames without content, the most work a byte can
# make, it is some milliseconds until somebody else has their turn.
PIECE: Final = 1024
_REST: Final = 2.0  # times the work a turn made, before the next one
_LONGEST_REST_S: Final = 0.02
_PARDON: Final = 0.02  # of the time a line has taken, forgotten each second
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Turns:
    """Who is read next: whoever has taken least of the server's time, one piece after another.

    After a turn the server rests for twice the time it had to work, so that the filter, which
    shares the interpreter, gets its part whatever is sent here.
    """

    def __init__(self) -> None:
        self._waiting: dict[Line, None] = {}
        self._is_coming = False  # whether the next turn is
        self._rested_s = 0.0  # when the next turn may begin, on the loop's clock
        self._worked_s = time.thread_time()

    def ask(self, line: Line) -> None:
        """Read a piece of what the line has, when it is its turn."""
        self._waiting[line] = None
        if not self._is_coming:
            self._is_coming = True
            asyncio.get_running_loop().call_at(self._rested_s, self._next)

    def forget(self, line: Line) -> None:
        """Forget a line that is closed."""
        self._waiting.pop(line, None)

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._waiting:
            line = min(self._waiting, key=lambda waiting: waiting.taken_s(now_s))
            del self._waiting[line]
            line.read_piece()
        # What earlier pieces brought about was done since the last turn.
        before_s, self._worked_s = self._worked_s, time.thread_time()
        self._rested_s = loop.time() + min(_LONGEST_REST_S, _REST * (self._worked_s - before_s))
        self._is_coming = bool(self._waiting)
        if self._is_coming:
            loop.call_at(self._rested_s, self._next)


class Lines:
    """All lines of a server. tls: None where they are not encrypted."""

    def __init__(
        self, *, most: int, request_s: float, send_s: float, tls: ssl.SSLContext | None
    ) -> None:
        self.request_s, self.send_s, self.tls = request_s, send_s, tls
        self.places: Places[Line] = Places(most)
        self.turns = Turns()
        self._open: set[Line] = set()

    def protocol_class(self) -> type[Line]:
        """What uvicorn makes for each connection."""
        return type("PanelLine", (Line,), {"lines": self})

    def add(self, line: Line) -> bool:
        """Whether there is room for the line."""
        self._open.add(line)
        return self.places.take(line)

    def discard(self, line: Line) -> None:
        """Forget a line that is closed."""
        self._open.discard(line)
        self.places.free(line)
        self.turns.forget(line)

    def close(self, *, served: bool) -> None:
        """Close the lines on which nothing is served; served: the others as well."""
        for line in list(self._open):
            if served or line.spare(time.monotonic()) is not None:
                line.abort()


class Line(asyncio.Protocol):
    """One connection."""

    lines: Lines
    address = ""

    def __init__(self, **uvicorns: Any) -> None:
        self._speech: asyncio.Protocol = PanelHttp(self, **uvicorns)
        self._wire: asyncio.Transport | None = None
        self._channel: Channel | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None  # to ask, or to leave
        self._stall: asyncio.TimerHandle | None = None
        self._asking_s: float | None = None  # since when nothing is served
        self._stalled_s: float | None = None  # since when nothing was taken
        self._is_leaving = False
        self._unread = bytearray()
        self._is_listening = True
        self._taken_s, self._taken_at_s = 0.0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up a connection, or refuse it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        # What was sent is on its way when this is empty; more than that is a reader that is slow.
        transport.set_write_buffer_limits(high=0)
        if not self.lines.add(self):
            self._refuse(transport)
            return
        self.asks()
        if self.lines.tls is None:
            self._begin(transport)
        else:
            self._handshake = asyncio.ensure_future(self._encrypt(transport, self.lines.tls))

    def data_received(self, data: bytes) -> None:
        """Keep what came until it is this line's turn."""
        self._unread += data
        self._read_on()

    def eof_received(self) -> None:
        """Close the connection: None says so."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever speaks on it."""
        self.lines.discard(self)
        self._unread.clear()
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        if self._channel is not None:
            self._channel.is_lost = True
            self._speech.connection_lost(exc)
            self._channel.cut()  # or Python 3.10 takes what encrypts to be open

    def pause_writing(self) -> None:
        """Begin to wait for the other side to take what was sent."""
        if self._stalled_s is None:
            self._stalled_s = time.monotonic()
            self._stall = self._later(self.lines.send_s, self.abort)
        self._speech.pause_writing()

    def resume_writing(self) -> None:
        """Note that everything was taken."""
        self._stalled_s = None
        if self._stall is not None:
            self._stall.cancel()
        self._speech.resume_writing()
        self._read_on()

    def asks(self) -> None:
        """Begin to wait for the next request, for at most `request_s`."""
        self._asking_s = time.monotonic()
        if not self._is_leaving:
            self._set_deadline(self.lines.request_s)

    def serves(self) -> None:
        """Note that the request is there."""
        self._asking_s = None
        if not self._is_leaving and self._deadline is not None:
            self._deadline.cancel()

    def leaves(self) -> None:
        """Give the other side a moment to answer the closing message."""
        if not self._is_leaving:
            self._is_leaving = True
            self._asking_s = time.monotonic()
            self._set_deadline(CLOSE_S)

    def abort(self) -> None:
        """Close the connection at once; what was not sent yet is lost."""
        self.lines.discard(self)
        if self._handshake is not None:
            self._handshake.cancel()
        if self._channel is not None:
            self._channel.cut()
        if self._wire is not None:
            self._wire.abort()

    def spare(self, now_s: float) -> tuple[int, float] | None:
        """Where nothing is served, the oldest first; then who takes nothing."""
        if self._asking_s is not None:
            return 2, now_s - self._asking_s
        if self._stalled_s is not None and now_s - self._stalled_s > STALLED_S:
            return 1, now_s - self._stalled_s
        return None

    def make_room(self) -> None:
        """End the connection: somebody newer needs the place."""
        self.abort()

    def taken_s(self, now_s: float) -> float:
        """How much of the server's time was read away here lately."""
        past_s, self._taken_at_s = now_s - self._taken_at_s, now_s
        self._taken_s = max(0.0, self._taken_s - _PARDON * past_s)
        return self._taken_s

    def read_piece(self) -> None:
        """Hand on a piece of what came, where it is wanted."""
        if not self._is_wanted() or self._channel is None or self._channel.is_closing():
            return
        piece = bytes(self._unread[:PIECE])
        del self._unread[:PIECE]
        began_s = time.perf_counter()
        self._speech.data_received(piece)
        self._taken_s += time.perf_counter() - began_s
        self._read_on()

    def listen(self, is_listening: bool) -> None:
        """Begin or cease to hand on what comes."""
        self._is_listening = is_listening
        self._read_on()

    def speak(self, speech: asyncio.BaseProtocol) -> None:
        """Let another protocol speak from now on."""
        assert isinstance(speech, asyncio.Protocol)
        self._speech = speech

    def _is_wanted(self) -> bool:
        # Who takes no answers is not read: each ping would make one more.
        return self._is_listening and self._stalled_s is None

    def _read_on(self) -> None:
        """Read from the network exactly while all that came was handed on and more is wanted."""
        if self._channel is None or self._channel.is_closing():
            return
        if self._unread or not self._is_wanted():
            self._channel.hold(is_held=True)
            if self._unread and self._is_wanted():
                self.lines.turns.ask(self)
        else:
            self._channel.hold(is_held=False)

    async def _encrypt(self, wire: asyncio.Transport, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            inner = await loop.start_tls(
                wire, self, tls, server_side=True, ssl_handshake_timeout=self.lines.request_s
            )
        except (OSError, EOFError):  # no TLS, not in time, or gone
            self.abort()
            return
        if inner is None:
            self.abort()
            return
        inner.set_write_buffer_limits(high=1, low=0)  # at 0, it would count as full while empty
        self._begin(inner)

    def _begin(self, transport: asyncio.Transport) -> None:
        self._channel = Channel(self, transport)
        self._speech.connection_made(self._channel)
        self._read_on()

    def _refuse(self, transport: asyncio.Transport) -> None:
        self.leaves()
        if self.lines.tls is None:
            transport.write(_FULL)
        transport.close()

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._later(seconds, self.abort)

    def _later(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, act)


class Channel(asyncio.Transport):
    """A line as HTTP and WebSocket see it."""

    def __init__(self, line: Line, transport: asyncio.Transport) -> None:
        super().__init__()
        self.line = line
        self.is_lost = False
        self._transport = transport
        self._is_held = False

    def write(self, data: Any) -> None:
        """Send the data, if somebody is still there."""
        if not self.is_lost:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether no more is to be sent."""
        return self.is_lost or self._transport.is_closing()

    def close(self) -> None:
        """Close when everything is sent, or at the deadline."""
        self.line.leaves()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.line.abort()

    def cut(self) -> None:
        """Close what is under it at once; called by the line."""
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Hand on nothing more for now."""
        self.line.listen(False)

    def resume_reading(self) -> None:
        """Hand on what comes."""
        self.line.listen(True)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol speak."""
        self.line.speak(protocol)

    def hold(self, *, is_held: bool) -> None:
        """Read from the network, or leave there what comes."""
        if is_held is not self._is_held and not self.is_closing():
            self._is_held = is_held
            (self._transport.pause_reading if is_held else self._transport.resume_reading)()


class PanelHttp(H11Protocol):
    """HTTP as uvicorn speaks it; tells the line whether something is being served."""

    def __init__(self, line: Line, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._line = line

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state in (h11.DONE, h11.MUST_CLOSE, h11.SWITCHED_PROTOCOL):
            self._line.serves()
            # Many requests in a row would be answered without waiting for their turn. No browser
            # sends the next one before it has the answer.
            cycle: Any = self.cycle  # None before the first request
            if cycle is not None and self.conn.trailing_data[0]:
                cycle.keep_alive = False

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._line.serves()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A request that had come already may be served by now.
        if self.cycle.response_complete and self.conn.our_state is not h11.SWITCHED_PROTOCOL:
            self._line.asks()


class PanelWebSocket(WebSocketsSansIOProtocol):
    """WebSocket as uvicorn speaks it; a good-bye has a deadline, a message few fragments."""

    transport: Channel

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.close":
            self.transport.line.leaves()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.close_sent = True
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "this message has too many fragments")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
