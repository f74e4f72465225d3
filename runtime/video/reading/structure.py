"""Whether a container's own sizes fit its file: one that is cut off, broken inside, or boasts.

FFmpeg's demuxers look for the next place where they can go on and do not say what they left out;
and MP4's takes the numbers of samples that a file states for true: 60 kB can take gigabytes.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from mien.engines.errors import VideoError
from mien.engines.system.limits import check_memory

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_VOID, _CRC = 0xEC, 0xBF
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_LONG_NUMBER = 0x80  # from here on, numbers of tracks take more than one byte
_TRACKS, _TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE, _IS_VIDEO = 0x1654AE6B, 0xAE, 0xD7, 0x83, 1
# Children of a segment: SeekHead, Info, Tracks, Cues, Attachments, Chapters, Tags.
_IN_SEGMENT: Final = frozenset(
    (_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367)
)
# Children of a cluster: Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, BlockGroup,
# EncryptedBlock.
_IN_CLUSTER: Final = frozenset((0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, _VOID, _CRC))
_ASF_FILE: Final = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")  # the file's properties
_PACKET_BYTES: Final = (188, 192, 204)  # transport streams: plain, with a time, with a checksum
# Boxes of MP4 that hold others.
_HOLDERS: Final = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts", b"udta")
) | frozenset((b"dinf", b"gmhd", b"sinf", b"schi", b"wave", b"tref", b"cmov"))
_MAX_PACKED_BYTES, _MAX_PACKED_DEPTH = 64 << 20, 2
_PACKED_COPIES: Final = 4  # of a packed header: in here, in FFmpeg, and read
_SAMPLE_BYTES: Final = 40  # that FFmpeg's index takes for each sample
_PADDING_BYTES: Final = 64  # by which writers of AVI are wrong about their files
_LAST_PACKETS: Final = 5000  # whose marks are looked at: what comes after them would show others
_LIST_WITHIN: Final = 64  # packets before the first picture of a recording is its list of programs
_MAX_ELEMENTS: Final = 1_000_000  # three hours of film; no file may keep its reader for ever


def is_cut_off(path: Path, format_name: str) -> bool:
    """Whether the file ends before its outermost parts do, as far as this container says."""
    names = format_name.split(",")
    size = path.stat().st_size
    with path.open("rb") as file:
        if "matroska" in names:
            with contextlib.suppress(_TooManyError):
                return any(end is not None and end > size for _, _, end in _Heads(file).outermost())
        if "mp4" in names:
            end = _last_box_end(file, size)
            return end is not None and end > size
        if "avi" in names:
            head = file.read(8)
            return head[:4] == b"RIFF" and _little(head[4:]) > size - 8 + _PADDING_BYTES
        if "asf" in names:
            head = file.read(1 << 16)
            start = head.find(_ASF_FILE)
            return start >= 0 and _little(head[start + 40 : start + 48]) > size
        if "mpegts" in names:
            return _is_cut_stream(file, size)
    return False


def _is_cut_stream(file: BinaryIO, size: int) -> bool:
    """Whether a transport stream ends within a packet, or in what is none."""
    length, first = _packet_bytes(file.read(2 * max(_PACKET_BYTES)))
    if length is None:
        return False
    if size % length:
        return True
    count = min(size // length, _LAST_PACKETS)
    file.seek(size - count * length)
    return file.read()[first::length] != b"G" * count


def starts_over(path: Path, position: int) -> bool:
    """Whether a transport stream's packet is the first of a recording that was put there.

    Then its counter, and that of the last list of programs before it, begin at 0.
    """
    with path.open("rb") as file:
        length, first = _packet_bytes(file.read(2 * max(_PACKET_BYTES)))
        if length is None or position < 0:
            return False
        start = max(0, position - _LIST_WITHIN * length)
        file.seek(start)
        data = file.read(position - start + length)[first:]
    packets = [data[at : at + 4] for at in range(0, len(data) - 3, length)]
    lists = [p for p in packets if p[:1] == b"G" and not p[1] & 0x1F and not p[2]]
    own = packets[-1:]
    return bool(lists) and not any(packet[3] & 0x0F for packet in lists[-1:] + own)


def has_stray_bytes(path: Path) -> bool:
    """Whether something else lies between an MP4 file's outermost boxes, or after them.

    With an index that does no harm; fragments that come after it are lost.
    """
    with path.open("rb") as file:
        return _last_box_end(file, path.stat().st_size) is None


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a Matroska file's elements say.

    is_whole: they follow each other without a gap, and each block is of a track that there is.
    count: blocks of the stream that was asked for, each one packet of video.
    """

    is_whole: bool
    count: int


def matroska_blocks(path: Path, video: int) -> Blocks | None:
    """What the elements of a Matroska file say of its video number `video`.

    Reads the head of every element; None where there are too many.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        walk = _Walk(_Heads(file), video)
        try:
            for kind, start, end in _Heads(file).outermost():
                if kind == _SEGMENT and not walk.is_whole_segment(start, end or size):
                    return Blocks(False, walk.count)
        except _TooManyError:
            return None
    return Blocks(walk.strays == 0, walk.count)


def check_movie(path: Path, limit: int) -> None:
    """Raise VideoError where an MP4 file states more than it can have, or `limit` bytes can hold.

    Read from its boxes alone; other files pass.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for kind, stated, is_sound in _stated(file, size):
            if kind != b"cmvd" and stated > size:
                raise VideoError(
                    f"{path} states {stated:,} samples, more than it has bytes; it is damaged, "
                    "or made to be too large"
                )
            if is_sound:  # PCM has one for each moment, and its chunks alone are listed
                continue
            needed = stated * (_PACKED_COPIES if kind == b"cmvd" else _SAMPLE_BYTES)
            check_memory(needed, f"{path} has an index that", limit=limit, error=VideoError)


def _stated(file: BinaryIO, size: int, depth: int = 0) -> Iterator[tuple[bytes, int, bool]]:
    """What boxes say of how many samples there are, or of how large a packed header is.

    Their kind, that number, and whether it is of a track of sound.
    """
    is_sound = False
    for kind, position, end in _boxes(file, size):
        file.seek(position)
        body = file.read(12)
        if kind == b"hdlr" and body[4:8] != b"dhlr":  # which says where the data is
            is_sound = body[8:12] == b"soun"
        elif kind in (b"stsz", b"stz2"):
            yield kind, _big(body[8:12]), is_sound
        elif kind == b"trun":
            yield kind, _big(body[4:8]), False
        elif kind == b"cmvd":
            unpacked_bytes = _big(body[:4]) if depth < _MAX_PACKED_DEPTH else 1 << 62
            yield kind, unpacked_bytes, False
            file.seek(position + 4)
            header = b""
            with contextlib.suppress(zlib.error):
                packed = file.read(min(end - position - 4, _MAX_PACKED_BYTES))
                header = zlib.decompressobj().decompress(packed, unpacked_bytes)
            yield from _stated(io.BytesIO(header), len(header), depth + 1)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content and end of the boxes of an MP4 file, in its order."""
    waiting = [(0, size)]
    for _ in range(_MAX_ELEMENTS):
        if not waiting:
            return
        position, end = waiting.pop()
        file.seek(position)
        head = file.read(16)
        length, skipped, kind = _big(head[:4]), 8, head[4:8]
        if length == 1:
            length, skipped = _big(head[8:16]), 16
        length = length or end - position
        if length < skipped or position + skipped > end:
            continue
        start, own_end = position + skipped, min(position + length, end)
        waiting.append((own_end, end))
        if kind in _HOLDERS:
            waiting.append((start, own_end))
        else:
            yield kind, start, own_end


class _TooManyError(Exception):
    """A file has more elements than are looked at."""


class _Heads:
    """The heads of a Matroska file's elements: kind, start of the content, end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _MAX_ELEMENTS

    def outermost(self) -> Iterator[tuple[int, int, int | None]]:
        """Those of the outermost elements, one after the other."""
        position = 0
        while (head := self.at(position)) and head[0] in (_EBML, _SEGMENT, _VOID):
            yield head
            if head[2] is None:
                return
            position = head[2]

    def at(self, position: int) -> tuple[int, int, int | None] | None:
        """That of the element there, its end None where it is not said; None for no element."""
        self._left -= 1
        if self._left < 0:
            raise _TooManyError
        self._file.seek(position)
        head = self._file.read(12)
        if not head or not head[0]:
            return None
        id_length = 9 - head[0].bit_length()
        if id_length > 4 or len(head) <= id_length or not head[id_length]:
            return None
        size_length = 9 - head[id_length].bit_length()
        if len(head) < id_length + size_length:
            return None
        marked = _big(head[id_length : id_length + size_length])
        largest = (1 << (7 * size_length)) - 1
        size, start = marked & largest, position + id_length + size_length
        kind = _big(head[:id_length])
        return kind, start, None if size == largest else start + size

    def byte(self, position: int) -> int:
        """The number of one byte there."""
        self._file.seek(position)
        return _big(self._file.read(1))

    def number(self, position: int) -> int:
        """The number there that begins a block, without its mark; 0 where it is a long one."""
        first = self.byte(position)
        return first & (_LONG_NUMBER - 1) if first & _LONG_NUMBER else 0


class _Walk:
    """A way through a segment that counts the blocks of one of its videos."""

    def __init__(self, heads: _Heads, video: int) -> None:
        self._heads, self._video = heads, video
        self._track: int | None = None
        self._others = {0}  # which stands for all long ones
        self.count = self.strays = 0  # blocks of the video, blocks of no track that there is

    def is_whole_segment(self, position: int, end: int) -> bool:
        """Whether the elements of a segment follow each other up to its end."""
        while position < end:
            head = self._heads.at(position)
            if head is None or head[0] not in _IN_SEGMENT | {_VOID, _CRC}:
                return False
            kind, position, own_end = head
            if kind == _CLUSTER:
                after = self._after_cluster(position, min(own_end or end, end))
                if after is None or (own_end is not None and after != own_end):
                    return False
                position = after
            elif own_end is None:
                return False
            else:
                if kind == _TRACKS:
                    self._read_tracks(position, min(own_end, end))
                position = own_end
        return position == end

    def _after_cluster(self, position: int, end: int) -> int | None:
        """Where the elements of a cluster end; None where one is none, or goes on too far."""
        while position < end:
            head = self._heads.at(position)
            if head is not None and head[0] in _IN_SEGMENT:
                return position  # a cluster that does not say its size
            if head is None or head[0] not in _IN_CLUSTER or head[2] is None:
                return None
            if head[0] in (_SIMPLE_BLOCK, _BLOCK_GROUP):
                self._count(*head)
            position = head[2]
        return position if position == end else None

    def _count(self, kind: int, start: int, end: int | None) -> None:
        if kind == _BLOCK_GROUP:
            block = self._child(start, end or start, _BLOCK)
            if block is None:
                return
            start = block
        number = self._heads.number(start)
        self.count += number == self._track
        self.strays += number != self._track and number not in self._others

    def _read_tracks(self, position: int, end: int) -> None:
        """Take down by which numbers blocks name the tracks."""
        videos = 0
        for start, own_end in self._children(position, end, _TRACK_ENTRY):
            place = self._child(start, own_end, _TRACK_NUMBER)
            kind = self._child(start, own_end, _TRACK_TYPE)
            number = 0 if place is None else self._heads.byte(place)
            is_video = kind is not None and self._heads.byte(kind) == _IS_VIDEO
            if is_video and videos == self._video:
                self._track = number
            else:
                self._others.add(number)
            videos += is_video

    def _child(self, position: int, end: int, wanted: int) -> int | None:
        """Where the content of the first child of a kind starts."""
        return next((start for start, _ in self._children(position, end, wanted)), None)

    def _children(self, position: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
        while position < end and (head := self._heads.at(position)) and head[2] is not None:
            if head[0] == wanted:
                yield head[1], head[2]
            position = head[2]


def _last_box_end(file: BinaryIO, size: int) -> int | None:
    """Where the last of an MP4 file's outermost boxes says that it ends; None for no box."""
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position + 8 > size:
            break
        file.seek(position)
        head = file.read(16)
        length = _big(head[:4])
        if length == 1 and len(head) == 16:
            length = _big(head[8:])
        if not head[4:8].isalnum() or 0 < length < 8:
            return None
        position += length or size - position
    return position


def _big(number: bytes) -> int:
    return int.from_bytes(number, "big")


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")


def _packet_bytes(head: bytes) -> tuple[int | None, int]:
    """How long the packets of a transport stream are, and where in them their mark is.

    No length where it does not begin with a packet.
    """
    for length, first in zip(_PACKET_BYTES, (0, 4, 0), strict=True):
        if head[first : first + 1] == b"G" == head[first + length : first + length + 1]:
            return length, first
    return None, 0
