"""WebP files as containers: their header, and the chunks to carry over."""

from __future__ import annotations

from collections.abc import Iterator

from mien.engines.errors import VideoError
from mien.runtime.picture_container import EXIF_HEADER, Container, exif_orientation


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and payload of every chunk; a chunk that is cut short comes with what is there."""
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def read_webp(data: bytes) -> Container:
    """What a WebP file declares. Raises VideoError (without the file's name)."""
    size_wh: tuple[int, int] | None = None
    orientation, lossless = 1, False
    metadata: list[bytes] = []
    for name, payload in _webp_chunks(data):
        if name == b"ANIM" or (name == b"VP8X" and payload[:1] and payload[0] & 2):
            raise VideoError("is an animated WebP; mien edits single pictures and videos")
        if name in (b"VP8 ", b"VP8L", b"VP8X"):
            size_wh = size_wh or _webp_size(name, payload)
            lossless = lossless or name == b"VP8L"
        elif name in (b"ICCP", b"EXIF", b"XMP "):
            metadata.append(_webp_chunk(name, payload))
            if name == b"EXIF":
                orientation = exif_orientation(payload.removeprefix(EXIF_HEADER))
    if size_wh is None:
        raise VideoError("is a WebP without a picture in it; it may be cut short")
    whole = int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return Container("webp", *size_wh, orientation, tuple(metadata), lossless=lossless, whole=whole)


def _webp_size(name: bytes, payload: bytes) -> tuple[int, int] | None:
    if len(payload) < (5 if name == b"VP8L" else 10):
        return None
    if name == b"VP8X":
        return (
            int.from_bytes(payload[4:7], "little") + 1,
            int.from_bytes(payload[7:10], "little") + 1,
        )
    if name == b"VP8L":
        bits = int.from_bytes(payload[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (
        int.from_bytes(payload[6:8], "little") & 0x3FFF,
        int.from_bytes(payload[8:10], "little") & 0x3FFF,
    )


def _webp_chunk(name: bytes, payload: bytes) -> bytes:
    return name + len(payload).to_bytes(4, "little") + payload + b"\0" * (len(payload) & 1)


def webp_with_metadata(encoded: bytes, metadata: tuple[bytes, ...], *, alpha: bool) -> bytes:
    """The WebP `encoded` in the extended form, with the chunks of `metadata`."""
    size_wh = read_webp(encoded).width, read_webp(encoded).height
    names = {chunk[:4] for chunk in metadata}
    flags = 0x10 * alpha + 0x20 * (b"ICCP" in names) + 0x08 * (b"EXIF" in names)
    flags += 0x04 * (b"XMP " in names)
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in size_wh)
    picture = [
        _webp_chunk(name, payload)
        for name, payload in _webp_chunks(encoded)
        if name in (b"ALPH", b"VP8 ", b"VP8L")
    ]
    before = [chunk for chunk in metadata if chunk[:4] == b"ICCP"]
    after = [chunk for chunk in metadata if chunk[:4] != b"ICCP"]
    header = _webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + canvas)
    body = b"WEBP" + header + b"".join([*before, *picture, *after])
    return b"RIFF" + len(body).to_bytes(4, "little") + body
