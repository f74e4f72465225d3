"""JPEG files as containers: their header, their scans, and the segments to carry over.

Only the bytes around the compressed picture are read here; the pixels are the decoders' business.
Every length that a file states is checked against the bytes that are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mien.engines.errors import VideoError
from mien.runtime.pictures.container import EXIF_HEADER, MAX_PARTS, Container, exif_orientation
from mien.runtime.pictures.metadata import (
    EXTENDED,
    THUMBNAIL,
    Cleaned,
    behind_the_end,
    has_picture,
    named,
    plain_exif,
    plain_photoshop,
    plain_xmp,
)

# Segments that speak of the picture and not of how it is packed.
JFIF, JFXX = b"JFIF\x00", b"JFXX\x00"
XMP_HEADER, EXTENDED_XMP = (
    b"http://ns.adobe.com/xap/1.0/\0",
    b"http://ns.adobe.com/xmp/extension/\0",
)
ICC_HEADER, PHOTOSHOP = b"ICC_PROFILE\x00", b"Photoshop 3.0\0"
APP0, APP1, APP2, APP13, COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
MOST_PAYLOAD = 65_533  # bytes of a segment
STANDALONE_MARKERS = frozenset([0x01, *range(0xD0, 0xD8)])
# The Huffman-coded 8-bit frames: baseline, extended, progressive.
SOF_READABLE = frozenset([0xC0, 0xC1, 0xC2])
SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SOI, EOI, SOS, DRI = 0xD8, 0xD9, 0xDA, 0xDD
# What decoders need: the frame, tables, restart interval, scans, and what says how colour is meant.
NEEDED_MARKERS = SOF_READABLE | {0xC4, 0xDB, DRI, SOS, 0xE0, 0xEE}
NO_FILL = re.compile(rb"[^\xff]")
SCAN_END = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
RESERVED = re.compile(rb"\xff[\x01-\xbf]")  # no marker: a damaged byte of a scan
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
# A progressive file needs about ten; each asks the decoder to go through the whole picture.
MAX_SCANS = 100
MOST_TABLES = 4 * 129  # bytes of the four tables that there can be
# The sum of the standard luma table (ITU-T T.81, table K.1), as libjpeg scales it.
JPEG_LUMA_SUM = 3688


@dataclass(frozen=True, slots=True)
class _Segment:
    """A marker, its payload, and of a scan the coded data behind it; places in the file.

    start: of the marker. payload: behind the length. end: of the segment. scan_end: of the coded
    data, `end` where there is none.
    """

    marker: int
    start: int
    payload: int
    end: int
    scan_end: int


def _segments(data: bytes) -> Iterator[_Segment]:
    """Every segment up to the end of the picture, which comes last where the file has it."""
    at, has_scan = 2, False
    for _ in range(MAX_PARTS):
        start = _marker_at(data, at, has_scan=has_scan)
        if start is None:
            break
        marker = data[start + 1]
        at = start + 2
        if marker in STANDALONE_MARKERS:
            continue
        if marker == EOI:
            yield _Segment(marker, start, at, at, at)
            return
        end = at + int.from_bytes(data[at : at + 2], "big")
        if not at + 2 <= end <= len(data):
            if not has_scan:
                raise VideoError("is a JPEG that is cut short within its header")
            break
        at = end
        if marker == SOS:
            has_scan, found = True, SCAN_END.search(data, end)
            at = found.start() if found else len(data)
        yield _Segment(marker, start, start + 4, end, at)
    else:
        raise VideoError(f"is a JPEG of more than {MAX_PARTS:,} segments")
    if not has_scan:
        raise VideoError("is a JPEG without a picture in it; it may be cut short")


def _marker_at(data: bytes, at: int, *, has_scan: bool) -> int | None:
    """Where the next marker begins, fill bytes aside; None where the file ends before it."""
    behind_fill = NO_FILL.search(data, at)
    if behind_fill is None:
        return None
    if behind_fill.start() > at:
        return behind_fill.start() - 1
    if not has_scan:
        raise VideoError(f"is a damaged JPEG: no marker at byte {at}")
    found = SCAN_END.search(data, at)  # stray bytes between two segments
    return found.start() if found else None


@dataclass(frozen=True, slots=True)
class _Header:
    """What the frame header says. names: of the components. sampling_xy: of each of them."""

    marker: int
    width: int
    height: int
    names: bytes
    sampling_xy: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, marker: int, payload: bytes) -> _Header:
        """The header in a segment. Raises VideoError for what is not decoded here."""
        if len(payload) < 6:
            raise VideoError("is a JPEG without a frame header")
        if marker not in SOF_READABLE or payload[0] != 8:
            raise VideoError("is a lossless, arithmetic-coded or 12-bit JPEG; convert it first")
        if payload[5] not in (1, 3):
            raise VideoError("is a CMYK JPEG; convert it to RGB first")
        parts = payload[6:]
        if len(parts) < 3 * payload[5]:
            raise VideoError("is a JPEG without a frame header")
        end = 3 * payload[5]
        sampling = tuple((max(1, both >> 4), max(1, both & 15)) for both in parts[1:end:3])
        height, width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
        return cls(marker, width, height, parts[:end:3], sampling)

    def _most_xy(self) -> tuple[int, int]:
        return max(x for x, _ in self.sampling_xy), max(y for _, y in self.sampling_xy)

    def blocks(self) -> int:
        """The blocks of 8 x 8 samples that the whole picture is coded in."""
        x, y = self._most_xy()
        units = -(-self.width // (8 * x)) * -(-self.height // (8 * y))
        return units * sum(across * down for across, down in self.sampling_xy)

    def units(self, names: bytes) -> int:
        """The units between which restart markers are counted, of a scan of these components."""
        x, y = self._most_xy()
        if len(names) == 1 and names in self.names:
            # blocks of that component, without those at the border that are not seen
            own_x, own_y = self.sampling_xy[self.names.index(names)]
            across, down = -(-self.width * own_x // x), -(-self.height * own_y // y)
            return -(-across // 8) * -(-down // 8)
        return -(-self.width // (8 * x)) * -(-self.height // (8 * y))


class _Metadata:
    """The segments of metadata to carry over, without what shows the picture as it was.

    APP2 may also index further pictures behind this one (MPF), which do not come along.
    """

    def __init__(self) -> None:
        self.orientation = 0
        self.left_out: list[str] = []
        self._kept: list[tuple[int, bytes]] = []
        self._resources = b""

    def take(self, marker: int, payload: bytes) -> None:
        """Look at a segment, and keep of it what may be kept."""
        if marker == APP0 and payload.startswith(JFIF):
            has_thumbnail = len(payload) >= 14 and payload[12] * payload[13] > 0
            self._keep(marker, b"", Cleaned(payload[:12] + b"\0\0", (THUMBNAIL,) * has_thumbnail))
        elif marker == APP0 and payload.startswith(JFXX):
            self.left_out.append(THUMBNAIL)
        elif marker == APP1 and payload.startswith(EXIF_HEADER):
            exif = payload[len(EXIF_HEADER) :]
            self.orientation = self.orientation or exif_orientation(exif)
            self._keep(marker, EXIF_HEADER, plain_exif(exif))
        elif marker == APP1 and payload.startswith(XMP_HEADER):
            self._keep(marker, XMP_HEADER, plain_xmp(payload[len(XMP_HEADER) :]))
        elif marker == APP1 and payload.startswith(EXTENDED_XMP):
            self.left_out.append(EXTENDED)
        elif marker == APP13 and payload.startswith(PHOTOSHOP):
            if not self._resources:
                self._kept.append((APP13, b""))
            self._resources += payload[len(PHOTOSHOP) :]
        elif marker == COMMENT or (marker == APP2 and payload.startswith(ICC_HEADER)):
            self._keep(marker, b"", Cleaned(payload if not has_picture(payload) else b""))

    def _keep(self, marker: int, header: bytes, cleaned: Cleaned) -> None:
        self.left_out += cleaned.left_out
        if cleaned.block:
            self._kept.append((marker, header + cleaned.block))

    def segments(self) -> tuple[bytes, ...]:
        """What is kept, in order; Photoshop's resources, which may be spread over several, once."""
        resources = plain_photoshop(self._resources)
        self.left_out += resources.left_out
        step = MOST_PAYLOAD - len(PHOTOSHOP)
        segments = []
        for marker, payload in self._kept:
            if marker != APP13:
                segments.append(_segment_bytes(marker, payload))
                continue
            for at in range(0, len(resources.block), step):
                part = resources.block[at : at + step]
                segments.append(_segment_bytes(APP13, PHOTOSHOP + part))
        return tuple(segments)


def _segment_bytes(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def read_jpeg(data: bytes) -> Container:
    """What a JPEG file declares. Raises VideoError (without the file's name)."""
    header: _Header | None = None
    metadata = _Metadata()
    luma_sum, scans, whole = 0, 0, False
    for segment in _segments(data):
        marker, payload = segment.marker, data[segment.payload : segment.end]
        scans += marker == SOS
        whole = marker == EOI
        if marker == SOI or (marker in SOF_MARKERS and header is not None):
            raise VideoError("is a damaged JPEG: it begins a second time")
        if marker in SOF_MARKERS:
            header = _Header.of(marker, payload)
        elif marker == SOS and header is None:
            raise VideoError("is a JPEG without a frame header")
        elif marker == 0xDB:
            luma_sum = _luma_table_sum(payload[:MOST_TABLES]) or luma_sum
        elif not scans:
            metadata.take(marker, payload)
        if whole:
            metadata.left_out.append(behind_the_end(data[segment.end :]))
    assert header is not None  # there is a scan
    if scans > MAX_SCANS:
        raise VideoError(f"is a JPEG of {scans:,} scans; up to {MAX_SCANS} are decoded")
    channels = len(header.names)
    # decoders keep the coefficients of what is not coded in one go, two bytes each
    in_steps = header.marker == 0xC2 or scans > 1
    return Container(
        "jpeg",
        header.width,
        header.height,
        metadata.orientation or 1,
        metadata.segments(),
        channels,
        quality=_quality(luma_sum) if luma_sum else 0,
        subsampling_xy=header.sampling_xy[0] if channels == 3 else (1, 1),
        progressive=header.marker == 0xC2,
        whole=whole,
        left_out=named([name for name in metadata.left_out if name]),
        pixel_bytes=channels,
        working_bytes=2 * 64 * header.blocks() if in_steps else 0,
    )


@dataclass(frozen=True, slots=True)
class PlainJpeg:
    """What decoders need of a JPEG file: no metadata, and nothing behind the picture.

    stream: without the marker of its end. scans: how many there are.
    fits: whether the scans are free of what no encoder writes, restart markers as they should be.
    blocks: of 8 x 8 samples that the picture is coded in.
    """

    stream: bytes
    scans: int
    fits: bool
    blocks: int


def plain_jpeg(data: bytes) -> PlainJpeg:
    """The plain form of a file that `read_jpeg` has read."""
    header: _Header | None = None
    interval, scans, fits, after = 0, 0, True, 0
    parts, needed = [data[:2]], 0
    for segment in _segments(data):
        marker, payload = segment.marker, data[segment.payload : segment.end]
        stray = data[after : segment.start].strip(b"\xff") if after else b""
        if stray:  # the rest of a scan, which a damaged byte made look like its end
            fits = False
            parts.append(stray)
            needed = len(parts)
        if marker in SOF_MARKERS:
            header = _Header.of(marker, payload)
        elif marker == DRI:
            interval = int.from_bytes(payload[:2], "big")
        if marker in NEEDED_MARKERS and (marker != APP0 or payload.startswith(JFIF)):
            parts.append(data[segment.start : segment.end])
        if marker == SOS:
            assert header is not None  # read_jpeg has checked it
            scans += 1
            scan = data[segment.end : segment.scan_end]
            if RESERVED.search(scan):
                fits, scan = False, RESERVED.sub(b"", scan)
            names = payload[1 : 1 + 2 * payload[0] : 2] if payload else b""
            fits = fits and bool(names) and _restarts_fit(scan, header.units(names), interval)
            parts.append(scan)
            needed = len(parts)  # what no scan follows is for nothing
        after = segment.scan_end if marker == SOS or after else 0
    assert header is not None
    return PlainJpeg(b"".join(parts[:needed]), scans, fits, header.blocks())


def _restarts_fit(scan: bytes, units: int, interval: int) -> bool:
    numbers = b"".join(RESTART.findall(scan))
    expected = -(-units // interval) - 1 if interval else 0
    in_order = (bytes(range(0xD0, 0xD8)) * (len(numbers) // 8 + 1))[: len(numbers)]
    return numbers == in_order and expected <= len(numbers) <= expected + 1


def _luma_table_sum(tables: bytes) -> int:
    """The sum of the last luma table in a segment; 0 without one."""
    at, total = 0, 0
    while at < len(tables):
        step = 2 if tables[at] >> 4 else 1
        values = tables[at + 1 : at + 1 + 64 * step]
        if tables[at] & 15 == 0 and len(values) == 64 * step:
            total = sum(
                int.from_bytes(values[i : i + step], "big") for i in range(0, 64 * step, step)
            )
        at += 1 + 64 * step
    return total


def _quality(luma_sum: int) -> int:
    """The libjpeg quality whose luma table has the nearest sum."""
    return min(range(1, 101), key=lambda quality: abs(_scaled_sum(quality) - luma_sum))


def _scaled_sum(quality: int) -> float:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return max(64.0, JPEG_LUMA_SUM * scale / 100)


def jpeg_with_metadata(encoded: bytes | memoryview, metadata: tuple[bytes, ...]) -> bytes:
    """The JPEG `encoded` with the segments of `metadata` in the place of its own."""
    at = 2
    while encoded[at] == 0xFF and encoded[at + 1] == 0xE0:
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return b"".join([encoded[:2], *metadata, encoded[at:]])
