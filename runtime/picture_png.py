"""PNG files as containers: their header, and the chunks to carry over."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from mien.engines.errors import VideoError
from mien.runtime.picture_container import Container, exif_orientation

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What a PNG says about its pixels and itself, and what stays true when a face is edited. Palette,
# transparency key, significant bits, histogram and animation are left out.
PNG_KEPT = frozenset(
    (b"iCCP", b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI", b"pHYs", b"eXIf", b"tIME")
) | frozenset((b"tEXt", b"zTXt", b"iTXt"))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and whole bytes of every chunk that is complete."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            return
        yield data[at + 4 : at + 8], data[at : at + 12 + length]
        at += 12 + length


def read_png(data: bytes) -> Container:
    """What a PNG file declares. Raises VideoError (without the file's name)."""
    header, orientation, whole = b"", 1, False
    metadata: list[bytes] = []
    for name, chunk in _png_chunks(data):
        if name == b"IHDR":
            header = chunk[8:-4]
        elif name == b"acTL" and int.from_bytes(chunk[8:12], "big") > 1:
            raise VideoError("is an animated PNG; mien edits single pictures and videos")
        elif name in PNG_KEPT:
            metadata.append(chunk)
            if name == b"eXIf":
                orientation = exif_orientation(chunk[8:-4])
        elif name == b"IEND":
            whole = True
            break
    if len(header) != 13:
        raise VideoError("is a PNG without a header; it may be cut short")
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(header[9], 0)
    return Container(
        "png", width, height, orientation, tuple(metadata), channels, lossless=True, whole=whole
    )


def png_with_metadata(encoded: bytes, metadata: tuple[bytes, ...]) -> bytes:
    """The PNG `encoded` with the chunks of `metadata` in the place of its own."""
    kept = [chunk for name, chunk in _png_chunks(encoded) if name not in PNG_KEPT]
    return PNG_SIGNATURE + kept[0] + b"".join(metadata) + b"".join(kept[1:])


def png_chunk(name: bytes, payload: bytes) -> bytes:
    """A whole PNG chunk: length, name, payload, check sum."""
    check = zlib.crc32(name + payload)
    return len(payload).to_bytes(4, "big") + name + payload + check.to_bytes(4, "big")
