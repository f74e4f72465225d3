"""The boxes and items of HEIF files (ISO/IEC 14496-12 and 23008-12), as AVIF and HEIC are.

Every size and count that a file states is held against what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mien.engines.errors import VideoError

Box = tuple[bytes, int, int]  # its type, and where its content begins and ends
MAX_BOXES: Final = 1 << 16
MAX_ITEMS: Final = 4096
MAX_METADATA: Final = 64 << 20  # bytes of one item that is carried over


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes between two places of a file, as far as they state sizes that can be."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, head = int.from_bytes(data[start : start + 4], "big"), 8
        kind = data[start + 4 : start + 8]
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        size = size or end - start
        if size < head:
            return
        yield kind, start + head, min(end, start + size)
        start += size


def find_box(data: bytes, start: int, end: int, kind: bytes) -> Box | None:
    """The first box of a kind between two places, None without one."""
    return next((box for box in boxes(data, start, end) if box[0] == kind), None)


@dataclass(slots=True)
class Items:
    """The items of a file: kinds, places and properties by number, and how they refer.

    references: kind, from, to.
    """

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    properties: dict[int, list[Box]] = field(default_factory=dict)
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)


class BoxReader:
    """Numbers of a box, one after the other; zeros behind its end."""

    def __init__(self, data: bytes, box: Box) -> None:
        self._data, self.at, self.end = data, box[1], box[2]
        self.version = 0

    def full(self) -> BoxReader:
        """Itself, behind version and flags."""
        self.version = self.number(1)
        self.flags = self.number(3)
        return self

    def number(self, size: int) -> int:
        """The next number of `size` bytes."""
        self.at += size
        return int.from_bytes(
            self._data[min(self.at - size, self.end) : min(self.at, self.end)], "big"
        )


def read_items(data: bytes) -> Items:
    """The items of a file. Raises VideoError where it holds none."""
    meta = find_box(data, 0, len(data), b"meta")
    if meta is None:
        raise VideoError("holds no picture; it may be cut short")
    items = Items()
    content = {box[0]: box for box in boxes(data, meta[1] + 4, meta[2])}
    if b"pitm" in content:
        reader = BoxReader(data, content[b"pitm"]).full()
        items.primary = reader.number(4 if reader.version else 2)
    if b"iinf" in content:
        _read_kinds(data, content[b"iinf"], items)
    if b"iloc" in content:
        stored = content.get(b"idat", (b"", 0, 0))
        _read_places(BoxReader(data, content[b"iloc"]).full(), stored[1], items)
    if b"iprp" in content:
        _read_properties(data, content[b"iprp"], items)
    if b"iref" in content:
        _read_references(data, content[b"iref"], items)
    return items


def _read_kinds(data: bytes, box: Box, items: Items) -> None:
    start = box[1] + (6 if data[box[1]] == 0 else 8)
    for entry in boxes(data, start, box[2]):
        reader = BoxReader(data, entry).full()
        number = reader.number(4 if reader.version == 3 else 2)
        reader.number(2)
        kind = reader.number(4).to_bytes(4, "big")
        rest = data[reader.at : entry[2]]
        is_xmp = kind == b"mime" and b"application/rdf+xml" in rest
        items.kinds[number] = b"xmp " if is_xmp else kind


def _read_places(reader: BoxReader, stored_at: int, items: Items) -> None:
    sizes = reader.number(2)
    offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if reader.version == 2 else 2
    for _ in range(min(reader.number(wide), MAX_ITEMS)):
        number = reader.number(wide)
        method = reader.number(2) & 15 if reader.version in (1, 2) else 0
        reader.number(2)
        start = reader.number(base) + (stored_at if method == 1 else 0)
        parts = []
        for _ in range(min(reader.number(2), MAX_ITEMS)):
            if reader.version in (1, 2):
                reader.number(index)
            place = start + reader.number(offset)
            parts.append((place, reader.number(length)))
        if method in (0, 1):
            items.places[number] = parts


def _read_properties(data: bytes, box: Box, items: Items) -> None:
    container = find_box(data, box[1], box[2], b"ipco")
    known = list(boxes(data, container[1], container[2])) if container else []
    for entry in boxes(data, box[1], box[2]):
        if entry[0] != b"ipma":
            continue
        reader = BoxReader(data, entry).full()
        wide = 2 if reader.flags & 1 else 1
        for _ in range(min(reader.number(4), MAX_ITEMS)):
            number = reader.number(4 if reader.version else 2)
            for _ in range(reader.number(1)):
                index = reader.number(wide) & (0x7FFF if wide == 2 else 0x7F)
                if 1 <= index <= len(known):
                    items.properties.setdefault(number, []).append(known[index - 1])


def _read_references(data: bytes, box: Box, items: Items) -> None:
    wide = 4 if data[box[1]] else 2
    for entry in boxes(data, box[1] + 4, box[2]):
        reader = BoxReader(data, entry)
        source = reader.number(wide)
        to = tuple(reader.number(wide) for _ in range(min(reader.number(2), MAX_ITEMS)))
        items.references.append((entry[0], source, to))


def item_content(data: bytes, items: Items, number: int) -> bytes:
    """The bytes of an item, empty where they are more than may be."""
    parts = items.places.get(number, [])
    if sum(length for _, length in parts) > min(len(data), MAX_METADATA):
        return b""
    return b"".join(data[start : start + length] for start, length in parts)
