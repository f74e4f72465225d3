"""Whether a container's own sizes fit its file: one that is cut off, broken inside, or boasts.

FFmpeg's demuxers look for the next place where they can go on and do not say what they left out;
and MP4's takes the numbers of samples that a file states for true: 60 kB can take gigabytes.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from mien.engines.errors import VideoError
from mien.engines.limits import check_memory

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_VOID, _CRC = 0xEC, 0xBF
# Children of a segment: SeekHead, Info, Tracks, Cues, Attachments, Chapters, Tags.
_IN_SEGMENT: Final = frozenset(
    (_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367)
)
# Children of a cluster: Timestamp, SilentTracks, Position, PrevSize, SimpleBlock, BlockGroup,
# EncryptedBlock.
_IN_CLUSTER: Final = frozenset((0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, _VOID, _CRC))
_PACKET_BYTES: Final = (188, 192, 204)  # transport streams: plain, with a time, with a checksum
# Boxes of MP4 that hold others.
_HOLDERS: Final = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts", b"udta")
) | frozenset((b"dinf", b"gmhd", b"sinf", b"schi", b"wave", b"tref", b"cmov"))
_MAX_PACKED_BYTES, _MAX_PACKED_DEPTH = 64 << 20, 2
_PACKED_COPIES: Final = 4  # of a packed header: in here, in FFmpeg, and read
_SAMPLE_BYTES: Final = 40  # that FFmpeg's index takes for each sample
_PADDING_BYTES: Final = 64  # by which writers of AVI are wrong about their files
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
            return _last_box_end(file, size) > size
        if "avi" in names:
            head = file.read(8)
            return head[:4] == b"RIFF" and _little(head[4:]) > size - 8 + _PADDING_BYTES
        if "mpegts" in names:
            length = _packet_bytes(file.read(2 * max(_PACKET_BYTES)))
            return length is not None and size % length != 0
    return False


def is_broken(path: Path, format_name: str) -> bool:
    """Whether a Matroska file's elements do not follow each other; False for other containers.

    Reads the head of every element. A file of too many is not said to be broken.
    """
    if "matroska" not in format_name.split(","):
        return False
    with path.open("rb") as file:
        size = path.stat().st_size
        heads = _Heads(file)
        try:
            for kind, start, end in heads.outermost():
                if kind == _SEGMENT and not _is_whole_segment(heads, start, end or size):
                    return True
        except _TooManyError:
            return False
    return False


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


def _is_whole_segment(heads: _Heads, position: int, end: int) -> bool:
    while position < end:
        head = heads.at(position)
        if head is None or head[0] not in _IN_SEGMENT | {_VOID, _CRC}:
            return False
        kind, position, own_end = head
        if kind == _CLUSTER:
            after = _after_cluster(heads, position, min(own_end or end, end))
            if after is None or (own_end is not None and after != own_end):
                return False
            position = after
        elif own_end is None:
            return False
        else:
            position = own_end
    return position == end


def _after_cluster(heads: _Heads, position: int, end: int) -> int | None:
    """Where the elements of a cluster end; None where one of them is none, or goes on too far."""
    while position < end:
        head = heads.at(position)
        if head is not None and head[0] in _IN_SEGMENT:
            return position  # a cluster that does not say its size
        if head is None or head[0] not in _IN_CLUSTER or head[2] is None:
            return None
        position = head[2]
    return position if position == end else None


def _last_box_end(file: BinaryIO, size: int) -> int:
    """Where the last of an MP4 file's outermost boxes says that it ends."""
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position + 8 > size:
            break
        file.seek(position)
        head = file.read(16)
        length = _big(head[:4])
        if length == 1 and len(head) == 16:
            length = _big(head[8:])
        if length < 8 or not head[4:8].isalnum():  # to the end of the file, or no box at all
            return size
        position += length
    return position


def _big(number: bytes) -> int:
    return int.from_bytes(number, "big")


def _little(number: bytes) -> int:
    return int.from_bytes(number, "little")


def _packet_bytes(head: bytes) -> int | None:
    """How long the packets of a transport stream are, None where it does not begin with one."""
    for length, start in zip(_PACKET_BYTES, (0, 4, 0), strict=True):
        if head[start : start + 1] == b"G" == head[start + length : start + length + 1]:
            return length
    return None
