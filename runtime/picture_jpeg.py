"""JPEG files as containers: their header, and the segments to carry over.

Only the bytes around the compressed picture are read here; the pixels are OpenCV's business. Every
length that a file states is checked against the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Iterator

from mien.engines.errors import VideoError
from mien.runtime.picture_container import EXIF_HEADER, Container, exif_orientation

# APPn of JPEG that speak of the picture and not of how it is packed: JFIF (density), Exif and XMP,
# ICC, IPTC. APP2 may also index further pictures behind this one (MPF), which do not come along.
JPEG_KEPT = {
    0xE0: (b"JFIF\x00",),
    0xE1: (b"",),
    0xE2: (b"ICC_PROFILE\x00",),
    0xED: (b"",),
    0xFE: (b"",),
}
STANDALONE_MARKERS = frozenset([0x01, *range(0xD0, 0xD8)])
# The Huffman-coded 8-bit frames: baseline, extended, progressive.
SOF_READABLE = frozenset([0xC0, 0xC1, 0xC2])
SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The sum of the standard luma table (ITU-T T.81, table K.1), as libjpeg scales it.
JPEG_LUMA_SUM = 3688


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of every segment before the first scan; the scan header comes last."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise VideoError(f"is a damaged JPEG: no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in STANDALONE_MARKERS:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            raise VideoError("is a JPEG that is cut short within its header")
        yield marker, data[at + 4 : at + 2 + length]
        if marker == 0xDA:
            return
        at += 2 + length
    raise VideoError("is a JPEG without a picture in it; it may be cut short")


def read_jpeg(data: bytes) -> Container:
    """What a JPEG file declares. Raises VideoError (without the file's name)."""
    frame: tuple[int, bytes] | None = None
    metadata: list[bytes] = []
    orientation, quality = 1, 0
    for marker, payload in _jpeg_segments(data):
        if marker in SOF_MARKERS:
            frame = (marker, payload)
        elif marker == 0xDB:
            quality = _jpeg_quality(payload) or quality
        elif marker in JPEG_KEPT and payload.startswith(JPEG_KEPT[marker]):
            metadata.append(bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload)
            if marker == 0xE1 and payload.startswith(EXIF_HEADER):
                orientation = exif_orientation(payload[len(EXIF_HEADER) :])
    if frame is None or len(frame[1]) < 6:
        raise VideoError("is a JPEG without a frame header")
    marker, header = frame
    height, width, channels = (
        int.from_bytes(header[1:3], "big"),
        int.from_bytes(header[3:5], "big"),
        header[5],
    )
    if marker not in SOF_READABLE or header[0] != 8:
        raise VideoError("is a lossless, arithmetic-coded or 12-bit JPEG; convert it first")
    if channels not in (1, 3):
        raise VideoError("is a CMYK JPEG; convert it to RGB first")
    sampling = header[7] if channels == 3 and len(header) > 7 else 0x11
    return Container(
        "jpeg",
        width,
        height,
        orientation,
        tuple(metadata),
        channels,
        quality=quality,
        subsampling_xy=(max(1, sampling >> 4), max(1, sampling & 15)),
        progressive=marker == 0xC2,
        whole=b"\xff\xd9" in data[-64:] or b"\xff\xd9" in data[data.rfind(b"\xff\xda") :],
    )


def _jpeg_quality(tables: bytes) -> int:
    """The libjpeg quality whose luma table has the nearest sum; 0 without a luma table."""
    at = 0
    while at < len(tables):
        size = 128 if tables[at] >> 4 else 64
        values = tables[at + 1 : at + 1 + size]
        if tables[at] & 15 == 0 and len(values) == size:
            step = size // 64
            total = sum(int.from_bytes(values[i : i + step], "big") for i in range(0, size, step))
            return min(range(1, 101), key=lambda q: abs(_luma_sum(q) - total))
        at += 1 + size
    return 0


def _luma_sum(quality: int) -> float:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return max(64.0, JPEG_LUMA_SUM * scale / 100)


def jpeg_with_metadata(encoded: bytes, metadata: tuple[bytes, ...]) -> bytes:
    """The JPEG `encoded` with the segments of `metadata` in the place of its own."""
    at = 2
    while encoded[at] == 0xFF and encoded[at + 1] == 0xE0:
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return encoded[:2] + b"".join(metadata) + encoded[at:]
