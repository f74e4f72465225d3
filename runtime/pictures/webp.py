"""WebP files as containers: their header, and the chunks to carry over."""

from __future__ import annotations

from collections.abc import Iterator

from mien.engines.errors import VideoError
from mien.runtime.pictures.container import EXIF_HEADER, MAX_PARTS, Container, exif_orientation
from mien.runtime.pictures.metadata import Cleaned, named, plain_exif, plain_xmp

PICTURE_CHUNKS = (b"VP8 ", b"VP8L")
ALPHA_FLAG = 0x10


def _webp_chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Name and payload of every chunk; a chunk that is cut short comes with what is there."""
    view, at = memoryview(data), 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(view):
            return
        length = int.from_bytes(view[at + 4 : at + 8], "little")
        yield bytes(view[at : at + 4]), view[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    raise VideoError(f"is a WebP of more than {MAX_PARTS:,} chunks")


def read_webp(data: bytes) -> Container:
    """What a WebP file declares. Raises VideoError (without the file's name)."""
    sizes: list[tuple[int, int]] = []
    orientation, lossless, has_alpha = 0, False, False
    metadata: list[bytes] = []
    left_out: list[str] = []
    for name, payload in _webp_chunks(data):
        if name in (b"ANIM", b"ANMF") or (name == b"VP8X" and payload[:1] and payload[0] & 2):
            raise VideoError("is an animated WebP; mien edits single pictures and videos")
        if name == b"VP8X" or name in PICTURE_CHUNKS:
            sizes.append(_size_wh(name, payload))
            lossless = lossless or name == b"VP8L"
            has_alpha = has_alpha or _has_alpha(name, payload)
        elif name in (b"ICCP", b"EXIF", b"XMP "):
            cleaned = _plain(name, bytes(payload))
            left_out += cleaned.left_out
            if cleaned.block:
                metadata.append(_webp_chunk(name, cleaned.block))
            if name == b"EXIF" and not orientation:
                orientation = exif_orientation(bytes(payload).removeprefix(EXIF_HEADER))
    if not sizes:
        raise VideoError("is a WebP without a picture in it; it may be cut short")
    if len(set(sizes)) > 1:
        (width, height), *others = sizes
        raise VideoError(
            f"is a damaged WebP: its size is {width}x{height}, and {others[-1][0]}x{others[-1][1]}"
        )
    width, height = sizes[0]
    return Container(
        "webp",
        width,
        height,
        orientation or 1,
        tuple(metadata),
        lossless=lossless,
        whole=_is_whole(data),
        left_out=named(left_out),
        pixel_bytes=4 if has_alpha else 3,
        working_bytes=(4 if lossless else 2) * width * height,
    )


def _plain(name: bytes, payload: bytes) -> Cleaned:
    """A chunk of metadata without what shows the picture as it was."""
    if name == b"XMP ":
        return plain_xmp(payload)
    if name != b"EXIF":
        return Cleaned(payload)
    header = EXIF_HEADER if payload.startswith(EXIF_HEADER) else b""
    exif = plain_exif(payload[len(header) :])
    return Cleaned(header + exif.block, exif.left_out)


def _is_whole(data: bytes) -> bool:
    """Whether everything is there that the file and its chunks state the length of."""
    at = end = 12
    for _ in _webp_chunks(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        at = end + (end & 1)
    return max(end, int.from_bytes(data[4:8], "little") + 8) <= len(data)


def _size_wh(name: bytes, payload: memoryview) -> tuple[int, int]:
    if len(payload) < (5 if name == b"VP8L" else 10):
        raise VideoError("is a WebP that is cut short within its header")
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


def _has_alpha(name: bytes, payload: memoryview) -> bool:
    if name == b"VP8X":
        return bool(payload[0] & ALPHA_FLAG)
    return name == b"VP8L" and bool(payload[4] & 0x10)


def plain_webp(data: bytes) -> bytes:
    """What decoders need of a file that `read_webp` has read: the picture and its alpha."""
    kept: dict[bytes, bytes] = {}
    for name, payload in _webp_chunks(data):
        if name in (b"VP8X", b"ALPH", *PICTURE_CHUNKS) and name not in kept:
            kept[name] = _webp_chunk(name, payload)
    if b"VP8X" in kept:  # of its flags only that of alpha speaks of what is left
        header = bytearray(kept[b"VP8X"])
        header[8] &= ALPHA_FLAG
        kept[b"VP8X"] = bytes(header)
    else:
        kept.pop(b"ALPH", None)
    order = [name for name in (b"VP8X", b"ALPH", *PICTURE_CHUNKS) if name in kept]
    return _riff([kept[name] for name in order])


def _webp_chunk(name: bytes, payload: bytes | memoryview) -> bytes:
    return b"".join([name, len(payload).to_bytes(4, "little"), payload, b"\0" * (len(payload) & 1)])


def _riff(chunks: list[bytes]) -> bytes:
    size = 4 + sum(map(len, chunks))
    return b"".join([b"RIFF", size.to_bytes(4, "little"), b"WEBP", *chunks])


def webp_with_metadata(
    encoded: bytes | memoryview, metadata: tuple[bytes, ...], *, alpha: bool
) -> bytes:
    """The WebP `encoded` in the extended form, with the chunks of `metadata`."""
    picture: list[bytes] = []
    size_wh = (0, 0)
    for name, payload in _webp_chunks(encoded):
        if name in PICTURE_CHUNKS:
            size_wh = _size_wh(name, payload)
        if name == b"ALPH" or name in PICTURE_CHUNKS:
            picture.append(_webp_chunk(name, payload))
    names = {chunk[:4] for chunk in metadata}
    flags = ALPHA_FLAG * alpha + 0x20 * (b"ICCP" in names) + 0x08 * (b"EXIF" in names)
    flags += 0x04 * (b"XMP " in names)
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in size_wh)
    before = [chunk for chunk in metadata if chunk[:4] == b"ICCP"]
    after = [chunk for chunk in metadata if chunk[:4] != b"ICCP"]
    header = _webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + canvas)
    return _riff([header, *before, *picture, *after])
