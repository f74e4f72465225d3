"""The sizes of a video's frames, read ahead of time from its packets: some change in mid-clip.

Calls, screen recordings and streams that follow the network change their size as they go.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import av
import av.error
from av.packet import Packet
from av.stream import Discard
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

Size = tuple[int, int]
_MAX_HEADERS: Final = 64  # that are decoded to know their size: a healthy file has one or two
_MAX_ERRORS_IN_A_ROW: Final = 64
_PROVEN: Final = 2  # frames that state a size and cannot be decoded alone: one may be damaged
_NAL_HEADERS: Final = {"h264": (0x1F, 0, 7), "hevc": (0x7E, 1, 33)}  # mask, shift, type of an SPS
_START: Final = b"\0\0\1"
_VP8_KEY, _VP9_KEY = b"\x9d\x01\x2a", 0x498342
_VP9_HEADER_BYTES: Final = 32  # that are looked at: the size is within the first ten
_JPEG_SIZES: Final = frozenset((0xC0, 0xC1, 0xC2))
_AV1_SEQUENCE: Final = 1


def frame_sizes(
    stream: VideoStream,
    *,
    options: dict[str, str],
    check: Callable[[], None] = lambda: None,
    limit_s: float | None = None,
) -> set[Size]:
    """The sizes that a stream's packets state, as far as its codec says so in them.

    stream: of a file that is opened for this alone. options: for decoding single frames.
    check: called for each packet. limit_s: seconds after which the rest is not looked at.
    """
    codec = stream.codec_context.name
    headers: set[bytes] = set()
    between: Counter[Size] = Counter()
    sizes: set[Size] = set()
    for packet in _packets(stream, check, limit_s):
        if not packet.is_keyframe:
            between.update(set(_vp9_sizes(bytes(packet))))
            continue
        header = _header(codec, packet)
        if header and header not in headers and len(headers) < _MAX_HEADERS:
            headers.add(header)
            sizes.update(_decoded_sizes(stream, packet, options))
    return sizes | {size_wh for size_wh, count in between.items() if count >= _PROVEN}


def stated_sizes(codec: str, packet: Packet[Any]) -> list[Size]:
    """The sizes that a packet of some codecs states in plain numbers."""
    return list(_STATED[codec](bytes(packet))) if codec in _STATED else []


def _packets(
    stream: VideoStream, check: Callable[[], None], limit_s: float | None
) -> Iterator[Packet[Any]]:
    """The stream's packets that may state a size: key frames, and all of VP9."""
    is_any = stream.codec_context.name == "vp9"
    if not is_any:
        stream.discard = Discard.nonkey  # which some demuxers then do not read
    until_s = time.monotonic() + limit_s if limit_s is not None else float("inf")
    errors, packets = 0, stream.container.demux(stream)  # type: ignore[attr-defined]
    while errors < _MAX_ERRORS_IN_A_ROW and time.monotonic() < until_s:
        check()
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError):
            errors += 1
            packets = stream.container.demux(stream)  # type: ignore[attr-defined]
            continue
        except IndexError:  # PyAV, at the end of a file in which streams appeared on the way
            return
        if packet is None:
            return
        errors = 0
        if packet.size and (is_any or packet.is_keyframe):
            yield packet


def _decoded_sizes(
    stream: VideoStream, packet: Packet[Any], options: dict[str, str]
) -> Iterator[Size]:
    """The size of the frame that a key frame's packet gives alone."""
    context = cast("VideoCodecContext", av.CodecContext.create(stream.codec_context.name, "r"))
    extradata = stream.codec_context.extradata
    if packet.has_sidedata("new_extradata"):
        extradata = bytes(packet.get_sidedata("new_extradata"))
    if extradata:
        context.extradata = extradata
    context.options, context.thread_count = options, 1
    try:
        for frame in (*context.decode(packet), *context.decode(None)):
            yield frame.width, frame.height
    except (av.error.FFmpegError, OSError):
        return


# What packets state


def _header(codec: str, packet: Packet[Any]) -> bytes:
    """The part of a packet that decides on the size of its frames, empty where there is none."""
    data = bytes(packet)
    if packet.has_sidedata("new_extradata"):
        return bytes(packet.get_sidedata("new_extradata"))
    if stated := stated_sizes(codec, packet):
        return repr(stated).encode()
    if codec in _NAL_HEADERS:
        mask, shift, wanted = _NAL_HEADERS[codec]
        return b"".join(
            unit for unit in _units(data) if unit and (unit[0] & mask) >> shift == wanted
        )
    if codec == "mpeg4":
        return b"".join(unit for unit in data.split(_START) if unit and unit[0] & 0xF0 == 0x20)
    if codec in ("av1", "libdav1d", "libaom-av1"):
        return b"".join(data for kind, data in _open_units(data) if kind == _AV1_SEQUENCE)
    return b""


def _units(data: bytes) -> list[bytes]:
    """The units of a packet of H.264 or HEVC: each after a start code, or after its length."""
    if data.startswith((_START, b"\0" + _START)):
        return data.split(_START)
    units, position = [], 0
    while position + 4 < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        units.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return units


def _open_units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the units of an AV1 packet."""
    position = 0
    while position < len(data):
        head = data[position]
        position += 2 if head & 4 else 1
        length = shift = 0
        while head & 2 and position < len(data):
            length |= (data[position] & 0x7F) << shift
            shift, position = shift + 7, position + 1
            if not data[position - 1] & 0x80:
                break
        end = position + length if head & 2 else len(data)
        yield head >> 3 & 0xF, data[position:end]
        position = end


def _vp8_sizes(data: bytes) -> Iterator[Size]:
    if len(data) >= 10 and not data[0] & 1 and data[3:6] == _VP8_KEY:
        width, height = (int.from_bytes(data[at : at + 2], "little") for at in (6, 8))
        yield width & 0x3FFF, height & 0x3FFF


def _vp9_sizes(data: bytes) -> Iterator[Size]:
    """Those of each frame in a packet: also one that is no key frame can state a new size."""
    count, width = (data[-1] & 7) + 1, (data[-1] >> 3 & 3) + 1
    index = 2 + count * width
    starts = [0]
    if data[-1] & 0xE0 == 0xC0 and len(data) > index and data[-index] == data[-1]:
        for number in range(count - 1):
            at = len(data) - index + 1 + number * width
            starts.append(starts[-1] + int.from_bytes(data[at : at + width], "little"))
    for start in starts:
        if size := vp9_size(data[start : start + _VP9_HEADER_BYTES]):
            yield size


def vp9_size(data: bytes) -> Size | None:
    """The size that a frame's header states itself. Source: VP9 bitstream specification, 6.2."""
    bits = _Bits(data)
    bits.take(2)
    profile = bits.take(1) | bits.take(1) << 1
    if profile == 3:
        bits.take(1)
    if bits.take(1):  # shows a frame that there is
        return None
    is_inter, is_shown, is_resilient = bits.take(1), bits.take(1), bits.take(1)
    is_intra_only = is_inter and not is_shown and bits.take(1)
    if is_inter and not is_resilient:
        bits.take(2)
    if not is_inter or is_intra_only:
        if bits.take(24) != _VP9_KEY:
            return None
        if not is_inter or profile > 0:
            _skip_vp9_colour(bits, profile)
        bits.take(8 if is_inter else 0)
    else:
        bits.take(8 + 3 * 4)
        if any(bits.take(1) for _ in range(3)):  # as the frame that it refers to
            return None
    return bits.take(16) + 1, bits.take(16) + 1


def _skip_vp9_colour(bits: _Bits, profile: int) -> None:
    if profile >= 2:
        bits.take(1)
    if bits.take(3) != 7:  # RGB
        bits.take(1)
        if profile in (1, 3):
            bits.take(3)
    elif profile in (1, 3):
        bits.take(1)


class _Bits:
    """Bits read one after the other, the highest of each byte first; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        self._left -= count
        if self._left < 0:
            return 0
        return self._number >> self._left & ((1 << count) - 1)


def _mpeg_sizes(data: bytes) -> Iterator[Size]:
    """Those of MPEG-1 and MPEG-2, which has two more bits of each in an extension."""
    for part in data.split(_START + b"\xb3")[1:]:
        width, height = part[0] << 4 | part[1] >> 4, (part[1] & 0xF) << 8 | part[2]
        extension = part.find(_START + b"\xb5")
        if extension >= 0 and len(part) > extension + 6 and part[extension + 4] >> 4 == 1:
            bits = _Bits(part[extension + 4 : extension + 8])
            bits.take(4 + 8 + 1 + 2)
            width, height = width | bits.take(2) << 12, height | bits.take(2) << 12
        yield width, height


def _jpeg_sizes(data: bytes) -> Iterator[Size]:
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        if data[position + 1] in _JPEG_SIZES:
            height, width = (
                int.from_bytes(data[at : at + 2], "big") for at in (position + 5, position + 7)
            )
            yield width, height
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")


_STATED: Final[dict[str, Callable[[bytes], Iterator[Size]]]] = {
    "vp8": _vp8_sizes,
    "vp9": _vp9_sizes,
    "mpeg1video": _mpeg_sizes,
    "mpeg2video": _mpeg_sizes,
    "mjpeg": _jpeg_sizes,
}
