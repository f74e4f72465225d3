"""The packets of a stream: read by a thread as they come, so that none wait at the sender.

What a decoder cannot keep up with is left out from one key frame to a later one; what comes faster
than real time, as from a file, is made to wait instead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from mien.engines.errors import DeviceError
from mien.runtime.video.planes import as_fraction
from mien.runtime.video.reading.source import main_video, pixel_format, reason

START_S: Final = 10.0  # from the start of the opening until there is a picture
SILENT_READ_S: Final = 10.0  # without a packet for this long, a connection is taken to be dead
_MOST_BYTES: Final = 64 << 20  # of packets that wait; raw video at 4K has 12 MB a frame
_HELD: Final = 8  # packets that wait at most, where the sender can be made to wait
_CLOSE_S: Final = 0.2  # how long `close` waits for a connection to end by itself
_LOOK_S: Final = 0.2
_MOST_RATE: Final = 1000  # frames a second; a clock's resolution is no rate


@dataclass(frozen=True, slots=True)
class StreamTraits:
    """How a stream gives its packets.

    is_paced: whether they come in bursts or too fast, and are due at their own times.
    can_wait: whether the sender waits until what it sent is taken: a file, a pipe.
    behind_s: how long a packet may wait for the decoder before newer ones are preferred.
    """

    is_paced: bool = False
    can_wait: bool = False
    behind_s: float = 0.25


PUSHED: Final = StreamTraits()
PIPED: Final = StreamTraits(is_paced=True, can_wait=True)
# A segment comes at once, and has up to ten seconds.
SEGMENTED: Final = StreamTraits(is_paced=True, behind_s=15.0)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet of a stream.

    arrived_s: on the clock of time.monotonic. is_after_gap: whether some before it are left out.
    """

    packet: Packet[VideoStream]
    arrived_s: float
    is_after_gap: bool


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a stream says of its video before a picture is decoded."""

    rate: Fraction | None
    pixel_format: str


class StreamEndedError(DeviceError):
    """The sender has ended a stream."""


class PacketReader:
    """Opens a stream in a thread, reads it to its end and keeps the packets that are wanted.

    open_container: gives the open container and how it behaves; what it raises is raised to who
        takes a packet. name: for people.
    """

    def __init__(
        self, name: str, open_container: Callable[[], tuple[InputContainer, StreamTraits]]
    ) -> None:
        self._name, self._open = name, open_container
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Packet[VideoStream], float]] = deque()
        self._bytes = 0
        self._has_gap = True  # a decoder begins at a key frame
        self._is_closing = self._is_idle = False
        self._error: DeviceError | None = None
        self.dropped = 0
        self.traits = PUSHED
        self.stream: VideoStream | None = None
        self.info = StreamInfo(None, "")
        self._thread = threading.Thread(target=self._run, name="mien-stream", daemon=True)
        self._thread.start()

    def take(self, stopped: Callable[[], bool], timeout_s: float) -> Arrived | None:
        """The next packet to decode, None where none came in time or `stopped` says so.

        Raises: DeviceError where there will be none any more.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._error is not None or stopped(), timeout_s
            )
            if stopped():
                return None
            self._catch_up()
            if self._waiting:
                packet, arrived_s = self._waiting.popleft()
                self._bytes -= packet.size
                self._changed.notify_all()
                arrived = Arrived(packet, arrived_s, self._has_gap)
                self._has_gap = False
                return arrived
            if self._error is not None:
                raise self._error
            return None

    def wake(self) -> None:
        """Let who waits in `take` look again whether to stop."""
        with self._changed:
            self._changed.notify_all()

    def rest(self) -> None:
        """Throw away what comes until `go_on`: the sender goes on, and nobody looks."""
        with self._changed:
            self._is_idle = True
            self._clear()
            self._changed.notify_all()

    def go_on(self) -> None:
        """Keep packets again, from the next key frame on."""
        with self._changed:
            self._is_idle = False

    def close(self) -> None:
        """End the reading; a connection that is silent is left behind to end by its timeout."""
        with self._changed:
            self._is_closing = True
            self._clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        container: InputContainer | None = None
        try:
            container, self.traits = self._open()
            stream = self.stream = self._video(container)
            for packet in container.demux(stream):
                if self._is_closing:
                    break
                if packet.size:  # the last one of a stream is empty
                    self._put(packet)
            self._fail(StreamEndedError(f"{self._name} has ended"))
        except DeviceError as error:
            self._fail(error)
        except av.error.ExitError:
            self._fail(DeviceError(f"{self._name} has sent nothing for {SILENT_READ_S:g} seconds"))
        except Exception as error:  # noqa: BLE001 -- whatever a stream does, its reader says so
            self._fail(DeviceError(f"{self._name} broke off ({reason(error)})"))
        finally:
            if container is not None:
                self._close_at_the_end(container)

    def _video(self, container: InputContainer) -> VideoStream:
        stream = main_video(container)
        if stream is None:
            raise DeviceError(f"{self._name} has no video, only other streams")
        rate = as_fraction(stream.average_rate or stream.base_rate)
        is_sensible = rate is not None and 0 < rate <= _MOST_RATE
        self.info = StreamInfo(rate if is_sensible else None, pixel_format(stream))
        return stream

    def _close_at_the_end(self, container: InputContainer) -> None:
        """Close the container once nobody decodes any more what came of it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing)
        container.close()

    def _fail(self, error: DeviceError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _put(self, packet: Packet[Any]) -> None:
        arrived_s = time.monotonic()
        with self._changed:
            if self._is_idle or (self._has_gap and not self._waiting and not packet.is_keyframe):
                self._has_gap = True
                return
            if self.traits.can_wait:
                while len(self._waiting) >= _HELD and not (self._is_closing or self._is_idle):
                    self._changed.wait(_LOOK_S)
            elif self._bytes + packet.size > _MOST_BYTES:
                self._clear()
                if not packet.is_keyframe:
                    return
            self._waiting.append((packet, arrived_s))
            self._bytes += packet.size
            self._changed.notify_all()

    def _catch_up(self) -> None:
        """Begin at the newest key frame, where the decoder is behind."""
        if self.traits.can_wait or not self._waiting:
            return
        if time.monotonic() - self._waiting[0][1] <= self.traits.behind_s:
            return
        keys = [place for place, (packet, _) in enumerate(self._waiting) if packet.is_keyframe]
        for _ in range(keys[-1] if keys else 0):
            packet, _arrived_s = self._waiting.popleft()
            self._bytes -= packet.size
            self.dropped += 1
            self._has_gap = True

    def _clear(self) -> None:
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        self._has_gap = True
