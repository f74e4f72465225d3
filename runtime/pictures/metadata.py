"""Metadata of a picture without what shows the picture as it was, or claims what is left out.

A picture contains itself more than once: as a thumbnail in EXIF, in Photoshop's resources and in
XMP, as a preview in a camera's notes. XMP also announces what lies behind a JPEG: a gain map, a
video, a depth map. What is taken out here leaves everything else as it was, byte for byte.
`cv2.imdecodeWithMetadata` gives whole blocks of EXIF and XMP, and knows of nothing within them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

THUMBNAIL = "thumbnail"
GAIN_MAP = "gain map (HDR)"
VIDEO = "video of the motion photo"
DEPTH = "depth map"
FURTHER = "further pictures"
EXTENDED = "extended XMP"
UNREADABLE = "XMP that cannot be read"

# Namespaces of XMP that speak of nothing but what is left out.
_CLAIMS: Final = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": GAIN_MAP,
    "http://ns.google.com/photos/1.0/container/": FURTHER,
    "http://ns.google.com/photos/1.0/container/item/": FURTHER,
    "http://ns.google.com/photos/1.0/depthmap/": DEPTH,
    "http://ns.google.com/photos/1.0/image/": FURTHER,
    "http://ns.google.com/photos/1.0/audio/": "sound",
    "http://ns.oplus.com/photos/1.0/camera/": VIDEO,
    "http://ns.xiaomi.com/photos/1.0/camera/": FURTHER,
    "http://ns.adobe.com/xap/1.0/g/img/": THUMBNAIL,
}
_DYNAMIC_DEPTH: Final = "http://ns.google.com/photos/dd/1.0/"
# Names that say it in whatever namespace.
_NAMES: Final = (
    ("MicroVideo", VIDEO),
    ("MotionPhoto", VIDEO),
    ("OLivePhoto", VIDEO),
    ("LivePhoto", VIDEO),
    ("Thumbnails", THUMBNAIL),
    ("HasExtendedXMP", EXTENDED),
    ("HDRGainMap", GAIN_MAP),
)
_WORDS: Final = tuple(
    word.encode() for word in (*_CLAIMS, _DYNAMIC_DEPTH, *(name for name, _ in _NAMES))
)
_TAG: Final = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")
# Base64 of a JPEG, with line ends as XML writes them; of fewer letters it is no picture.
_BASE64_JPEG: Final = re.compile(rb"/9j/(?:[A-Za-z0-9+/=\s]|&#x?[0-9A-Fa-f]{1,4};){400,}")
_SOI: Final = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")
_SCAN_END: Final = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_THUMBNAIL_JPEG, _STRIPS, _TILES, _SUB_IFDS = (0x0201, 0x0202), (0x0111, 0x0117), (324, 325), 330
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_VIDEO: Final = re.compile(rb"ftyp[\x20-\x7e]{4}")
_GAIN_MAPS: Final = (b"hdr-gain-map", b"HDRGainMap", b"hdrgainmap", b"iso:ts:21496")
MAX_DIRECTORIES: Final = 32
MAX_VALUES: Final = 1 << 16
# Photoshop's resources that hold the picture once more, or metadata of their own that may.
_IRB_SIGNATURES: Final = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
_IRB_LEFT_OUT: Final = {
    1033: THUMBNAIL,
    1036: THUMBNAIL,
    1058: "a second EXIF",
    1060: "a second XMP",
}


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A block of metadata, and the names of what was taken out of it. block: empty if all was."""

    block: bytes
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TiffEntry:
    """A field of a TIFF directory: tag, type, count, and where its values lie in the file."""

    tag: int
    kind: int
    count: int
    place: int

    @property
    def size(self) -> int:
        """The bytes of its values."""
        return _SIZES.get(self.kind, 1) * self.count


@dataclass(frozen=True, slots=True)
class TiffDirectory:
    """A directory of a TIFF file or an EXIF block: its fields, and where the next one is told."""

    start: int
    entries: tuple[TiffEntry, ...]
    next_place: int


class TiffBlock:
    """Reads the directories of a TIFF file or an EXIF block; nothing beyond its end is looked at.

    order: of its bytes, "" where it is none.
    """

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        self.order: Any = {b"II*\0": "little", b"MM\0*": "big"}.get(bytes(data[:4]), "")

    def number(self, place: int, size: int) -> int:
        """The number at a place, 0 behind the end."""
        return int.from_bytes(self.data[place : place + size], self.order or "big")

    def directory(self, start: int) -> TiffDirectory | None:
        """The directory at a place, None where there is none."""
        count = self.number(start, 2)
        end = start + 2 + 12 * count
        if start < 8 or not count or end > len(self.data):
            return None
        entries = []
        for at in range(start + 2, end, 12):
            tag, kind, values = self.number(at, 2), self.number(at + 2, 2), self.number(at + 4, 4)
            size = _SIZES.get(kind, 1) * values
            entries.append(
                TiffEntry(tag, kind, values, at + 8 if size <= 4 else self.number(at + 8, 4))
            )
        return TiffDirectory(start, tuple(entries), end)

    def directories(self, place: int) -> Iterator[TiffDirectory]:
        """A directory whose start is told at a place, and those after it."""
        seen: set[int] = set()
        while len(seen) < MAX_DIRECTORIES:
            start = self.number(place, 4)
            found = None if start in seen else self.directory(start)
            if found is None:
                return
            seen.add(start)
            yield found
            place = found.next_place

    def numbers(self, entry: TiffEntry | None) -> list[int]:
        """The whole numbers of a field, at most MAX_VALUES of them."""
        if entry is None or entry.kind not in (1, 3, 4, 7, 13):
            return []
        size = _SIZES[entry.kind]
        most = min(entry.count, MAX_VALUES, max(0, len(self.data) - entry.place) // size)
        return [self.number(entry.place + size * i, size) for i in range(most)]


def plain_exif(block: bytes) -> Cleaned:
    """An EXIF block without the pictures in it; every other byte keeps its place and value.

    Camera makers' notes have places of their own in them, which is why nothing is moved: the
    directory of the thumbnail is unlinked, and zeros stand where pictures were.
    """
    data = bytearray(block)
    tiff = TiffBlock(data)
    found = False
    if tiff.order:
        for number, directory in enumerate(list(tiff.directories(4))):
            if number == 0:
                for entry in directory.entries:
                    if entry.tag == _SUB_IFDS:
                        found |= _blank_directories(tiff, tiff.numbers(entry))
            else:
                found |= _blank_directory(tiff, directory)
        first = tiff.directory(tiff.number(4, 4))
        if first is not None and first.next_place + 4 <= len(data):
            data[first.next_place : first.next_place + 4] = bytes(4)
    found |= _blank_jpegs(data)
    return Cleaned(bytes(data), (THUMBNAIL,) if found else ())


def _blank_directories(tiff: TiffBlock, starts: list[int]) -> bool:
    directories = [tiff.directory(start) for start in starts[:MAX_DIRECTORIES]]
    found = [_blank_directory(tiff, each) for each in directories if each is not None]
    return any(found)


def _blank_directory(tiff: TiffBlock, directory: TiffDirectory) -> bool:
    """Zero the picture of a directory, and its fields. Returns whether there was one."""
    assert isinstance(tiff.data, bytearray)
    entries = {entry.tag: entry for entry in directory.entries}
    found = False
    for places, sizes in (_THUMBNAIL_JPEG, _STRIPS, _TILES):
        starts, lengths = tiff.numbers(entries.get(places)), tiff.numbers(entries.get(sizes))
        for start, length in zip(starts, lengths, strict=False):
            end = min(len(tiff.data), start + length)
            if 8 <= start < end:
                found = True
                tiff.data[start:end] = bytes(end - start)
    end = min(directory.next_place + 4, len(tiff.data))
    tiff.data[directory.start : end] = bytes(end - directory.start)
    return found


def _blank_jpegs(data: bytearray) -> bool:
    """Zero every JPEG in a block. Returns whether there was one."""
    found, at = False, 0
    while match := _SOI.search(data, at):
        start = match.start()
        end = _jpeg_end(data, start)
        at = end or start + 2
        if end:
            found = True
            data[start:end] = bytes(end - start)
    return found


def _jpeg_end(data: bytearray, start: int) -> int:
    """Where the JPEG ends that begins at `start`, at the latest with the data; 0 if none does."""
    at, is_jpeg = start + 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xD9:
            return at + 2
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        is_jpeg = is_jpeg or (at + 2 <= len(data) and data[at] == 0xFF)
        if marker == 0xDA:
            scan_end = _SCAN_END.search(data, at)
            at = scan_end.start() if scan_end else len(data)
    return len(data) if is_jpeg else 0


def plain_xmp(packet: bytes) -> Cleaned:
    """An XMP packet without pictures, and without claims of what does not come along."""
    text = _utf8(packet)
    left_out: list[str] = []
    if any(word in text for word in _WORDS):
        cutting = _Cutting(text)
        try:
            cutting.run()
        except (expat.ExpatError, ValueError):
            return Cleaned(b"", (UNREADABLE,))
        text, left_out = cutting.result(), cutting.left_out
    text, pictures = _BASE64_JPEG.subn(b"", text)
    if pictures:
        left_out.append(THUMBNAIL)
    return Cleaned(text, named(left_out)) if left_out else Cleaned(packet)


def named(left_out: list[str]) -> tuple[str, ...]:
    """The names of what was left out, each once, the vague one only where there is no other."""
    names = dict.fromkeys(left_out)
    if len(names.keys() - {FURTHER, EXTENDED}) > 0:
        names.pop(FURTHER, None)
    return tuple(names)


def _utf8(packet: bytes) -> bytes:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if packet.startswith(mark):
            return packet.decode(encoding, "replace").encode()
    return packet


@dataclass(slots=True)
class _Cutting:
    """Finds the elements and attributes of a packet to leave out; the rest keeps its bytes."""

    text: bytes
    left_out: list[str] = field(default_factory=list)
    _cuts: list[tuple[int, int]] = field(default_factory=list)
    _spaces: list[dict[str, str]] = field(default_factory=lambda: [{}])
    _inside: int = 0
    _start: int = 0

    def run(self) -> None:
        """Look through the packet. Raises expat.ExpatError, ValueError."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = lambda name, values: self._begin(
            name, values, parser.CurrentByteIndex
        )
        parser.EndElementHandler = lambda _: self._end(parser.CurrentByteIndex)
        parser.StartDoctypeDeclHandler = self._refuse
        # what follows the element, as the padding of a packet, is none of the parser's business
        parser.Parse(self.text.rstrip(b"\0"), True)

    def result(self) -> bytes:
        """The packet without what was found."""
        kept, at = [], 0
        for start, end in sorted(self._cuts):
            if start >= at:
                kept.append(self.text[at:start])
                at = end
        return b"".join([*kept, self.text[at:]])

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type")

    def _begin(self, name: str, values: dict[str, str], place: int) -> None:
        spaces = dict(self._spaces[-1])
        for key, value in values.items():
            if key.startswith("xmlns:"):
                spaces[key[6:]] = value
        self._spaces.append(spaces)
        if self._inside:
            self._inside += 1
            return
        tag = self._tag(place)
        claim = _claim(name, spaces)
        if claim:
            self.left_out.append(claim)
            self._inside, self._start = 1, place
            if tag.endswith(b"/>"):  # its end is told behind it
                self._cuts.append((place, place + len(tag)))
                self._start = -1
            return
        for key, value in values.items():
            claim = _claim(key, spaces)
            if claim:
                self.left_out.append(claim)
            if claim or (key.startswith("xmlns:") and _speaks_of(value)):
                quoted = re.escape(key.encode()) + rb"""\s*=\s*("[^"]*"|'[^']*')"""
                found = re.search(rb"\s" + quoted, tag)
                if found is None:
                    raise ValueError("an attribute that is not where it was")
                self._cuts.append((place + found.start(), place + found.end()))

    def _end(self, place: int) -> None:
        self._spaces.pop()
        if not self._inside:
            return
        self._inside -= 1
        if not self._inside and self._start >= 0:
            self._cuts.append((self._start, place + len(self._tag(place))))

    def _tag(self, place: int) -> bytes:
        found = _TAG.match(self.text, place)
        if found is None:
            raise ValueError("an element without its tag")
        return found[0]


def _claim(name: str, spaces: dict[str, str]) -> str:
    """What an element or attribute of this name speaks of, if that is left out; else empty."""
    prefix, _, local = name.rpartition(":")
    if prefix == "xmlns":
        return ""
    said = _speaks_of(spaces.get(prefix, ""))
    return said or next((claim for start, claim in _NAMES if local.startswith(start)), "")


def _speaks_of(space: str) -> str:
    """What a namespace of XMP speaks of, if that is left out; else empty."""
    return DEPTH if space.startswith(_DYNAMIC_DEPTH) else _CLAIMS.get(space, "")


def plain_photoshop(resources: bytes) -> Cleaned:
    """Photoshop's image resources without those that hold the picture once more."""
    kept, left_out, at = [], [], 0
    while at + 12 <= len(resources) and resources[at : at + 4] in _IRB_SIGNATURES:
        number = int.from_bytes(resources[at + 4 : at + 6], "big")
        name = 1 + resources[at + 6]
        head = at + 6 + name + (name & 1)
        size = int.from_bytes(resources[head : head + 4], "big")
        end = head + 4 + size + (size & 1)
        if number in _IRB_LEFT_OUT:
            left_out.append(_IRB_LEFT_OUT[number])
        else:
            kept.append(resources[at:end])
        at = end
    rest = resources[at:]
    if _SOI.search(rest):  # resources that cannot be followed to their end
        rest = b""
        left_out.append(THUMBNAIL)
    if not left_out:
        return Cleaned(resources)
    return Cleaned(b"".join([*kept, rest]), named(left_out))


def behind_the_end(rest: bytes) -> str:
    """What lies behind the end of a JPEG, as far as it shows the picture; empty where it does not.

    Motion photos have a video there, whose makers' marks differ; others have more JPEGs.
    """
    if _VIDEO.search(rest):
        return VIDEO
    if not _SOI.search(rest):
        return ""
    return GAIN_MAP if any(word in rest for word in _GAIN_MAPS) else FURTHER


def has_picture(block: bytes) -> bool:
    """Whether there is a JPEG in it, as it is or in base64."""
    return bool(_SOI.search(block) or _BASE64_JPEG.search(block))
