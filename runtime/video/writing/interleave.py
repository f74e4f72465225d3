"""Copied packets held back until the encoded video has reached their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from av.packet import Packet

_MAX_HELD_BYTES = 16 << 20  # of badly interleaved sources; what is beyond goes out early


class Interleaver:
    """Passes packets to `mux` so that copied streams run along with the video.

    The encoder gives its packets late; without this the muxer would have to hold the others.
    """

    def __init__(self, mux: Callable[[Packet[Any]], None]) -> None:
        self._mux = mux
        self._held: dict[int, deque[tuple[float, Packet[Any]]]] = {}
        self._held_bytes = 0
        self._video_s = float("-inf")

    def copy(self, packet: Packet[Any]) -> None:
        """Take a packet of a copied stream."""
        seconds = _seconds(packet)
        if seconds is None:
            self._mux(packet)
            return
        self._held.setdefault(packet.stream_index, deque()).append((seconds, packet))
        self._held_bytes += packet.size
        self._release(self._video_s)
        while self._held_bytes > _MAX_HELD_BYTES:
            self._release(min(queue[0][0] for queue in self._held.values() if queue))

    def video(self, packet: Packet[Any]) -> None:
        """Take a packet of the encoded video."""
        seconds = _seconds(packet)
        if seconds is not None:
            self._video_s = max(self._video_s, seconds)
            self._release(self._video_s)
        self._mux(packet)

    def finish(self) -> None:
        """Pass on all that is held, in order of time."""
        self._release(float("inf"))

    def _release(self, until_s: float) -> None:
        due = [
            (queue[0][0], index)
            for index, queue in self._held.items()
            if queue and queue[0][0] <= until_s
        ]
        while due:
            _, index = min(due)
            _, packet = self._held[index].popleft()
            self._held_bytes -= packet.size
            self._mux(packet)
            due = [
                (queue[0][0], key)
                for key, queue in self._held.items()
                if queue and queue[0][0] <= until_s
            ]


def rescale_into(packet: Packet[Any], base: Fraction) -> None:
    """Give a packet's times in another base, each the nearest there is."""
    own = packet.time_base
    if not own or own == base:
        return
    factor = Fraction(own.numerator * base.denominator, own.denominator * base.numerator)
    packet.pts = None if packet.pts is None else _nearest(packet.pts, factor)
    packet.dts = None if packet.dts is None else _nearest(packet.dts, factor)
    packet.duration = None if packet.duration is None else _nearest(packet.duration, factor)
    packet.time_base = base


def _nearest(ticks: int, factor: Fraction) -> int:
    """The product as a whole number, halves away from zero, as FFmpeg does it."""
    doubled = 2 * abs(ticks) * factor.numerator + factor.denominator
    nearest = doubled // (2 * factor.denominator)
    return nearest if ticks >= 0 else -nearest


def _seconds(packet: Packet[Any]) -> float | None:
    ticks = packet.dts if packet.dts is not None else packet.pts
    base: Fraction | None = packet.time_base
    return None if ticks is None or base is None else float(ticks * base)
