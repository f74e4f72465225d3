"""Boxes put into the sample entry of an MP4 file's video: what PyAV cannot write."""

from __future__ import annotations

import struct
from pathlib import Path

_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def box(kind: bytes, body: bytes) -> bytes:
    """A box of one kind."""
    return struct.pack(">I", 8 + len(body)) + kind + body


def clean_aperture(width: int, height: int) -> bytes:
    """Only the middle of the picture is shown."""
    return box(b"clap", struct.pack(">8I", width, 1, height, 1, 0, 1, 0, 1))


def top_and_bottom() -> bytes:
    """Two views, one above the other."""
    return box(b"st3d", bytes([0, 0, 0, 0, 1]))


def sphere() -> bytes:
    """The picture is that of a sphere, equirectangular."""
    header = box(b"svhd", bytes(4) + b"test\0")
    pose = box(b"prhd", bytes(16))
    return box(b"sv3d", header + box(b"proj", pose + box(b"equi", bytes(20))))


def mastering_display() -> bytes:
    """The colours of the display that the video was made on, and its light."""
    colours = (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450)
    return box(b"mdcv", struct.pack(">8H2I", *colours, 10_000_000, 50))


def light_level() -> bytes:
    """The brightest sample and the brightest frame."""
    return box(b"clli", struct.pack(">2H", 1000, 400))


def dolby_vision() -> bytes:
    """The record of profile 8, which goes with data in every frame."""
    return box(b"dvvC", bytes([1, 0, 8 << 1, (1 << 3) | 0b101, 1 << 4]) + bytes(19))


def with_boxes(path: Path, *boxes: bytes) -> Path:
    """The file with `boxes` in its first sample entry; its index has to be at its end."""
    data = bytearray(path.read_bytes())
    more = b"".join(boxes)
    position, end = 0, len(data)
    sizes = []
    for kind in _PARENTS:
        position = _find(data, kind, position, end)
        sizes.append(position)
        end = position + int.from_bytes(data[position : position + 4], "big")
        position += 8
    position += 8  # the version and the count of entries
    sizes.append(position)
    entry_end = position + int.from_bytes(data[position : position + 4], "big")
    assert data.find(b"mdat") < sizes[0], "the index lies before the samples"
    data[entry_end:entry_end] = more
    for start in sizes:
        size = int.from_bytes(data[start : start + 4], "big") + len(more)
        data[start : start + 4] = size.to_bytes(4, "big")
    path.write_bytes(bytes(data))
    return path


def _find(data: bytes | bytearray, kind: bytes, position: int, end: int) -> int:
    while position < end:
        if data[position + 4 : position + 8] == kind:
            return position
        position += int.from_bytes(data[position : position + 4], "big")
    raise AssertionError(f"no {kind!r} box")
