"""What MPEG-1 and MPEG-2 say in the stream itself: a rate from a short list, and a shape.

Their encoders count frames at that rate; when each is shown is for the container to say.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import av
from av.packet import Packet

FRAME_COUNTERS: Final = frozenset({"mpeg1video", "mpeg2video"})
_RATES: Final = (
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
)
_MAX_MULTIPLE, _MAX_DIVISOR = 4, 32  # of a rate, in the extension that MPEG-2 has
_SEQUENCE: Final = b"\0\0\1\xb3"  # begins a header: 12 bits each of width and height, then these
_SHAPE_BYTE: Final = 7
_SQUARE: Final = 1
_SHAPES: Final = {2: Fraction(4, 3), 3: Fraction(16, 9), 4: Fraction(221, 100)}  # as displayed
_ALIKE: Final = Fraction(1, 100)


def stream_rate(encoder: str, rates: list[Fraction | None]) -> Fraction:
    """The first of `rates` that there are as the encoder can write it: the nearest one it has."""
    rate = next((rate for rate in rates if rate), Fraction(25))
    if encoder == "mpeg2video":
        for base in _RATES:
            part = rate / base
            if part.numerator <= _MAX_MULTIPLE and part.denominator <= _MAX_DIVISOR:
                return rate
    return min(_RATES, key=lambda known: max(known / rate, rate / known))


def rate_note(encoder: str, rates: list[Fraction | None]) -> str | None:
    """What to say where the stream states another rate than the source's, by more than rounding."""
    asked = next((rate for rate in rates if rate), None)
    if asked is None:
        return None
    stated = stream_rate(encoder, [asked])
    if abs(stated - asked) <= _ALIKE * asked:
        return None
    return f"{encoder} has no {float(asked):g} frames a second; its stream states {float(stated):g}"


def shape_note(encoder: str, size_wh: tuple[int, int], pixel_shape: Fraction | None) -> str | None:
    """What to say where MPEG-2 cannot state the shape of the pixels, which others show by it."""
    if encoder != "mpeg2video" or not pixel_shape or pixel_shape == 1:
        return None
    shown = pixel_shape * size_wh[0] / size_wh[1]
    nearest = min(_SHAPES.values(), key=lambda shape: abs(shape - shown))
    if abs(nearest - shown) <= _ALIKE * shown:
        return None
    return (
        f"MPEG-2 has no pixels of {pixel_shape.numerator}:{pixel_shape.denominator}; "
        f"players may show the picture as {float(nearest):.2f}:1 instead of {float(shown):.2f}:1"
    )


class CountedFrames:
    """The times of frames, kept beside an encoder that counts them.

    time_base: of those times. rate: at which the encoder counts. is_square: whether pixels are.
    """

    def __init__(self, time_base: Fraction, rate: Fraction, *, is_square: bool) -> None:
        self._time_base, self._rate, self._is_square = time_base, rate, is_square
        self._count = 0
        self._times: dict[int, tuple[int, int]] = {}

    def number_into(self, picture: av.VideoFrame) -> None:
        """Give a picture its number as its time, and keep that."""
        assert picture.pts is not None
        self._times[self._count] = (picture.pts, picture.duration or 0)
        picture.pts, picture.time_base = self._count, 1 / self._rate
        picture.duration = 1
        self._count += 1

    def time_into(self, packet: Packet[Any]) -> None:
        """Give a packet the time of its picture; frames come as they went, none ahead of others."""
        assert packet.pts is not None
        packet.pts, packet.duration = self._times.pop(packet.pts)
        packet.dts, packet.time_base = packet.pts, self._time_base
        data = bytes(packet)
        if self._is_square and data.startswith(_SEQUENCE):
            # FFmpeg's encoder takes square pixels for the nearest of the other shapes.
            shaped = bytearray(data)
            shaped[_SHAPE_BYTE] = _SQUARE << 4 | shaped[_SHAPE_BYTE] & 0x0F
            packet.update(bytes(shaped))
