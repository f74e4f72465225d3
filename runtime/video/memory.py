"""How much memory a video takes while it is edited, by the size of its frames, and how to spare it.

All is counted in frames, for that is what decoders and encoders hold. Measured with PyAV 18 as the
most memory that a process had, less what it had before, at 7680x4320 where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Frames up to 4K are read and written as is best for them; what larger ones take is spared.
FOUR_K_PIXELS: Final = 4096 * 2304
IN_FLIGHT: Final = 7  # pictures between decoder and encoder: two queues of two, three in hand
EDITING: Final = 2  # frames that an edit makes: its planes, and the picture that they go into
# What a decoder holds beside the picture that it gave, with one thread and with two. A stream may
# ask for more references than it needs: these are x264's `medium`, x265's `fast`, and the defaults
# of libvpx and SVT-AV1; the first and the last ones measured at 1280x720.
_DECODERS: Final = {
    "h264": (7.0, 9.5),
    "hevc": (8.5, 11.0),
    "vp8": (4.0, 5.0),
    "vp9": (3.5, 4.7),
    "libdav1d": (8.7, 15.0),
    "av1": (8.7, 15.0),
    "mpeg1video": (3.0, 3.0),
    "mpeg2video": (3.0, 3.0),
    "mpeg4": (4.0, 6.5),
}
_OTHER_DECODER: Final = (2.2, 3.5)


@dataclass(frozen=True, slots=True)
class Thrift:
    """A way to write with less memory.

    frames: what the encoder then holds. options: of FFmpeg's wrapper; `speed` stands for the
    preset, which a user's own replaces. parameters: of the encoder's own string. is_mild: neither
    slower nor worse at the same size than without.
    """

    frames: float
    options: tuple[tuple[str, str], ...] = ()
    parameters: tuple[str, ...] = ()
    is_mild: bool = False


_X264: Final = (
    Thrift(24.0),
    Thrift(12.8, (("rc-lookahead", "0"), ("bf", "0"), ("refs", "1"))),
    Thrift(  # without planes between the pixels: three times the bytes at the same quality
        8.5,
        (
            ("rc-lookahead", "0"),
            ("bf", "0"),
            ("refs", "1"),
            ("subq", "0"),
            ("weightp", "none"),
            ("speed", "superfast"),
        ),
    ),
)
_THREADED: Final = (Thrift(16.0), Thrift(3.5, (("threads", "1"),)))  # at 3840x2160
# Richest first.
_ENCODERS: Final = {
    "libx264": _X264,
    "libx264rgb": _X264,
    "libx265": (
        Thrift(90.0),
        Thrift(44.0, parameters=("rc-lookahead=1", "bframes=0", "ref=1")),  # at 2560x1440
    ),
    "libvpx-vp9": (
        Thrift(85.0),
        Thrift(62.0, (("lag-in-frames", "8"),), is_mild=True),
        Thrift(48.0, (("lag-in-frames", "0"),)),
    ),
    "libsvtav1": (
        Thrift(110.0),
        Thrift(82.0, parameters=("lookahead=0",), is_mild=True),  # at 3840x2160, as the one above
        Thrift(14.7, parameters=("lookahead=0", "pred-struct=1", "lp=1")),
    ),
    "libvpx": (Thrift(24.0),),
    "mjpeg": _THREADED,
    "mpeg4": _THREADED,
    "mpeg2video": _THREADED,
    "mpeg1video": _THREADED,
    "flv": _THREADED,
    "ffv1": (Thrift(23.0),),
    "huffyuv": (Thrift(8.0),),
    "ffvhuff": (Thrift(8.0),),
    "prores_ks": (Thrift(4.0),),
    "png": (Thrift(4.0),),
    "rawvideo": (Thrift(2.0),),
    "utvideo": (Thrift(3.0),),
}
_OTHER_ENCODER: Final = (Thrift(24.0),)


def decoder_frames(codec: str, threads: int) -> float:
    """How many frames the decoder holds at 1 or 2 threads."""
    return _DECODERS.get(codec, _OTHER_DECODER)[threads - 1]


def least_edit_frames(written: float) -> float:
    """How many frames the most frugal edit of an ordinary video holds beside those of its decoder.

    written: how much larger the frames are that are written.
    """
    return 1 + EDITING + _X264[-1].frames * written


@dataclass(frozen=True, slots=True)
class Plan:
    """How a video is written. in_flight: pictures between decoder and encoder."""

    thrift: Thrift
    in_flight: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What reading takes of a limit, and so what is left for writing.

    limit: in bytes. frame_bytes: of a decoded frame. decoder: frames that its decoder holds, at so
    many threads. is_strict: the limit is kept; else, up to 4K, it is only come near to.
    """

    limit: int
    frame_bytes: int
    decoder: float
    threads: int
    is_strict: bool

    def needed(self, plan: Plan, written_bytes: int) -> int:
        """Bytes that an edit takes. written_bytes: of a frame as it is given to the encoder."""
        read = (self.decoder + plan.in_flight + EDITING) * self.frame_bytes
        return round(read + plan.thrift.frames * written_bytes)

    def plan(self, encoder: str, written_bytes: int) -> Plan | None:
        """The best way to write that keeps the limit, None where there is none."""
        ways = encoder_ways(encoder)
        if not self.is_strict:
            mild = [way for way in ways if way is ways[0] or way.is_mild]
            plans = [Plan(way, IN_FLIGHT) for way in mild]
            return next((plan for plan in plans if self._has(plan, written_bytes)), plans[-1])
        strict = (Plan(way, count) for way in ways for count in (IN_FLIGHT, 1))
        return next((plan for plan in strict if self._has(plan, written_bytes)), None)

    def least(self, encoder: str, written_bytes: int) -> int:
        """Bytes that the most frugal way of an encoder takes."""
        return self.needed(Plan(encoder_ways(encoder)[-1], 1), written_bytes)

    def _has(self, plan: Plan, written_bytes: int) -> bool:
        return self.needed(plan, written_bytes) <= self.limit


def encoder_ways(encoder: str) -> tuple[Thrift, ...]:
    """Ways to write with an encoder, the richest first."""
    return _ENCODERS.get(encoder, _OTHER_ENCODER)
