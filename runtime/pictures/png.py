"""PNG files as containers: their header, and the chunks to carry over."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mien.engines.errors import VideoError
from mien.runtime.pictures.container import EXIF_HEADER, MAX_PARTS, Container, exif_orientation
from mien.runtime.pictures.metadata import (
    THUMBNAIL,
    Cleaned,
    has_picture,
    named,
    plain_exif,
    plain_photoshop,
    plain_xmp,
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What a PNG says about its pixels and itself, and what stays true when a face is edited. Palette,
# transparency key, significant bits, histogram and animation are left out.
PNG_KEPT = frozenset(
    (b"iCCP", b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI", b"pHYs", b"eXIf", b"tIME")
) | frozenset((b"tEXt", b"zTXt", b"iTXt"))
TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
MOST_TEXT = 16 << 20  # bytes of an inflated text that are looked at


MAX_CHUNKS = 1 << 18
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type, as coded: a palette's index is one
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PALETTE = 3  # a colour type
# First row and column and the steps between them, of the seven passes of an interlaced picture.
PASSES = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)),
    (1, 0, 2, 1),
)
LARGE_DATA = 1 << 26  # bytes of the data that are left compressed where they are sound
PIECE = 1 << 20  # bytes of the picture's data that are handled at once


def _png_chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Name and whole bytes of every chunk up to the end; the last may be cut short."""
    view, at = memoryview(data), len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        name = bytes(view[at + 4 : at + 8])
        yield name, view[at:end]
        if name == b"IEND":
            return
        at = end
    raise VideoError(f"is a PNG of more than {MAX_CHUNKS:,} chunks")


def _is_sound(chunk: memoryview) -> bool:
    """Whether a chunk is all there, and what its writer wrote."""
    length = int.from_bytes(chunk[:4], "big")
    if len(chunk) != 12 + length:
        return False
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


@dataclass(frozen=True, slots=True)
class _Header:
    """What IHDR says, with palette and transparency where the picture needs them."""

    chunk: bytes
    palette: bytes = b""
    transparency: bytes = b""

    @property
    def depth(self) -> int:
        return self.chunk[16]

    @property
    def kind(self) -> int:
        return self.chunk[17]

    @property
    def is_interlaced(self) -> bool:
        return self.chunk[20] == 1

    @property
    def size_wh(self) -> tuple[int, int]:
        return int.from_bytes(self.chunk[8:12], "big"), int.from_bytes(self.chunk[12:16], "big")

    @classmethod
    def of(cls, data: bytes) -> _Header:
        """The header of a file. Raises VideoError where there is none that libpng would read."""
        found: dict[bytes, bytes] = {}
        for name, chunk in _png_chunks(data):
            if name in (b"IHDR", b"PLTE", b"tRNS") and name not in found:
                if not _is_sound(chunk):
                    raise VideoError("is a PNG with a damaged header; it may be cut short")
                found[name] = bytes(chunk)
        header = cls(found.get(b"IHDR", b""))
        if len(header.chunk) != 25:
            raise VideoError("is a PNG without a header; it may be cut short")
        methods_fit = header.chunk[18:20] == b"\0\0" and header.chunk[20] in (0, 1)
        if header.depth not in DEPTHS.get(header.kind, ()) or not methods_fit:
            raise VideoError("is a PNG of an unknown kind; its header may be damaged")
        return header._with_colours(found.get(b"PLTE", b""), found.get(b"tRNS", b""))

    def _with_colours(self, palette: bytes, transparency: bytes) -> _Header:
        opacities = transparency[8:-4]
        if self.kind != PALETTE:
            fits = len(opacities) == {0: 2, 2: 6}.get(self.kind)
            return replace(self, transparency=transparency if fits else b"")
        colours = palette[8:-4]
        if not colours or len(colours) % 3 or len(colours) > 768:
            raise VideoError("is a PNG without its palette; its header may be damaged")
        most = 1 << self.depth  # black for indices that it has no colour for
        whole = png_chunk(b"PLTE", colours[: 3 * most].ljust(3 * most, b"\0"))
        return replace(
            self,
            palette=whole,
            transparency=png_chunk(b"tRNS", opacities[:most]) if opacities else b"",
        )

    def row_bytes(self, width: int) -> int:
        """The bytes of a row in the picture's data: its filter and the samples, packed."""
        return 1 + -(-width * CHANNELS[self.kind] * self.depth // 8)

    def data_bytes(self) -> int:
        """The bytes of the picture's data."""
        width, height = self.size_wh
        if not self.is_interlaced:
            return height * self.row_bytes(width)
        sizes = [
            (max(0, -(-(width - left) // right)), max(0, -(-(height - top) // down)))
            for top, left, down, right in PASSES
        ]
        return sum(rows * self.row_bytes(columns) for columns, rows in sizes if columns)


def read_png(data: bytes) -> Container:
    """What a PNG file declares. Raises VideoError (without the file's name)."""
    header = _Header.of(data)
    orientation, whole, damaged = 0, False, False
    metadata: list[bytes] = []
    left_out: list[str] = []
    for name, chunk in _png_chunks(data):
        if name == b"acTL" and int.from_bytes(chunk[8:12], "big") > 1:
            raise VideoError("is an animated PNG; mien edits single pictures and videos")
        whole = name == b"IEND"
        if name not in PNG_KEPT:
            continue
        if len(metadata) == MAX_PARTS:
            raise VideoError(f"is a PNG with more than {MAX_PARTS:,} chunks of metadata")
        if _is_sound(chunk):
            cleaned = _plain_chunk(name, bytes(chunk[8:-4]))
            left_out += cleaned.left_out
            if cleaned.block:
                metadata.append(png_chunk(name, cleaned.block))
        else:
            damaged = True
        if name == b"eXIf" and not orientation:
            orientation = exif_orientation(bytes(chunk[8:-4]))
    sound = whole and _is_large_and_sound(data, header)
    channels = 3 if header.kind == PALETTE else CHANNELS[header.kind]
    decoded = 4 if header.transparency or channels in (2, 4) else channels
    return Container(
        "png",
        *header.size_wh,
        orientation or 1,
        tuple(metadata),
        channels,
        lossless=True,
        whole=whole,
        damaged=damaged,
        left_out=named(left_out),
        pixel_bytes=decoded * (2 if header.depth == 16 else 1),
        # the plain form, in a bytearray that grows, and what OpenCV copies of it
        working_bytes=len(data) + header.data_bytes() if sound else header.data_bytes() * 9 // 8,
        sound=sound,
    )


def _plain_chunk(name: bytes, payload: bytes) -> Cleaned:
    """A chunk of metadata without what shows the picture as it was."""
    if name not in TEXTS:
        return plain_exif(payload) if name == b"eXIf" else Cleaned(payload)
    keyword, _, rest = payload.partition(b"\0")
    head, text = _text(name, rest)
    if text is None:
        return Cleaned(payload)  # what nobody can inflate shows nothing
    if len(text) > MOST_TEXT:
        return Cleaned(b"", ("a text that is too long to look into",))
    if keyword == b"XML:com.adobe.xmp":
        xmp = plain_xmp(text)
        if not xmp.left_out:
            return Cleaned(payload)
        # stored without compression, which readers of XMP prefer
        whole = keyword + b"\0" + b"\0\0" + head[2:] + xmp.block
        return Cleaned(whole if xmp.block else b"", xmp.left_out)
    left_out = _shown_by(keyword, text)
    return Cleaned(b"" if left_out else payload, left_out)


def _text(name: bytes, rest: bytes) -> tuple[bytes, bytes | None]:
    """What stands before the text of a chunk, and the text, None where it cannot be inflated."""
    if name == b"tEXt":
        return b"", rest
    if name == b"zTXt":
        return rest[:1], _inflated_text(rest[1:])
    language = rest.find(b"\0", 2)
    start = rest.find(b"\0", language + 1) + 1
    if len(rest) < 4 or language < 0 or not start:
        return b"", rest
    return rest[:start], _inflated_text(rest[start:]) if rest[0] else rest[start:]


def _inflated_text(packed: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(packed, MOST_TEXT + 1)
    except zlib.error:
        return None


def _shown_by(keyword: bytes, text: bytes) -> tuple[str, ...]:
    """What of the picture a text shows; ImageMagick writes EXIF and more as one, in digits."""
    block = text
    if keyword.startswith(b"Raw profile type "):
        digits = b"".join(text.split(b"\n")[3:])
        try:
            block = bytes.fromhex(digits.decode("ascii"))
        except ValueError:
            block = text
        for clean in (plain_exif, plain_xmp, plain_photoshop):
            start = len(EXIF_HEADER) if block.startswith(EXIF_HEADER) else 0
            left_out = clean(block[start:]).left_out
            if left_out:
                return left_out
    return (THUMBNAIL,) if has_picture(block) else ()


@dataclass(frozen=True, slots=True)
class PlainPng:
    """What decoders need of a PNG file: no metadata, and the data stored, without compression.

    missing: bytes of the data that are missing, or not to be inflated; zeros stand for them.
    has_pixels: whether any of it is there.
    fits: whether what is there is what the writer wrote.
    row_bytes: of the data, 0 where its rows are not in the order of the picture.
    """

    stream: bytearray
    missing: int
    has_pixels: bool
    fits: bool
    row_bytes: int


def plain_png(data: bytes, *, sound: bool) -> PlainPng:
    """The plain form of a file that `read_png` has read.

    A chunk's stated length is believed only as far as there is data: OpenCV allocates what a length
    says, and libpng gives up the whole picture at the first wrong byte, and says so on stderr.

    sound: whether the data can be left as it is, of which OpenCV then holds a copy.
    """
    header = _Header.of(data)
    row_bytes = 0 if header.is_interlaced else header.row_bytes(header.size_wh[0])
    stream = bytearray(PNG_SIGNATURE + header.chunk + header.palette + header.transparency)
    if sound:
        for name, chunk in _png_chunks(data):
            if name == b"IDAT":
                stream += chunk
        stream += png_chunk(b"IEND", b"")
        return PlainPng(stream, 0, True, True, row_bytes)
    left, store, fits = header.data_bytes(), zlib.compressobj(0), True
    try:
        for piece in _with_known_filters(_inflated(data, left), row_bytes):
            stream += png_chunk(b"IDAT", store.compress(piece))
            left -= len(piece)
    except zlib.error:
        fits = False
    missing = left
    while left > 0:
        stream += png_chunk(b"IDAT", store.compress(bytes(min(left, PIECE))))
        left -= PIECE
    stream += png_chunk(b"IDAT", store.flush()) + png_chunk(b"IEND", b"")
    return PlainPng(stream, missing, missing < header.data_bytes(), fits, row_bytes)


def _is_large_and_sound(data: bytes, header: _Header) -> bool:
    """Whether the data is large, and nothing is wrong with it that libpng would speak of."""
    size = header.data_bytes()
    if not LARGE_DATA <= size <= 16 * LARGE_DATA:
        return False
    row_bytes = 0 if header.is_interlaced else header.row_bytes(header.size_wh[0])
    inflater = zlib.decompressobj()
    try:
        for piece in _with_known_filters(_chunk_pieces(data, inflater), row_bytes):
            size -= len(piece)
            if size < 0:
                return False
    except zlib.error:
        return False
    return size == 0 and inflater.eof and not inflater.unused_data


def _chunk_pieces(data: bytes, inflater: zlib._Decompress) -> Iterator[bytes]:
    """What the data inflates to. Raises zlib.error where a chunk is not as it was written."""
    for name, chunk in _png_chunks(data):
        if name != b"IDAT":
            continue
        if inflater.eof or not _is_sound(chunk):
            raise zlib.error("more than the picture, or other than it was")
        packed: bytes | memoryview = chunk[8:-4]
        while packed and not inflater.eof:
            yield inflater.decompress(packed, PIECE)
            packed = inflater.unconsumed_tail


def _inflated(data: bytes, most: int) -> Iterator[bytes]:
    """The data of the picture in pieces, `most` bytes at most. Raises zlib.error where it breaks.

    Its own check sum is looked at, the chunks' are not: they cover the same bytes.
    """
    inflater, check, ends = zlib.decompressobj(-zlib.MAX_WBITS), 1, b""
    for name, chunk in _png_chunks(data):
        if name != b"IDAT":
            continue
        packed = chunk[8 : 8 + int.from_bytes(chunk[:4], "big")]
        before = max(0, 2 - len(ends))  # the stream's header
        ends += bytes(packed[:before])
        for piece in _pieces(inflater, packed[before:], PIECE):
            if piece and not most:
                return  # more than the picture has: nobody looks at it
            check = zlib.adler32(piece, check)
            yield piece[:most]
            most -= min(most, len(piece))
        if inflater.eof:
            ends += inflater.unused_data[:4] if len(ends) == 2 else bytes(packed[:4])
    if not most and (ends[2:6] != check.to_bytes(4, "big") or int.from_bytes(ends[:2], "big") % 31):
        raise zlib.error("the check sum is another")


def _pieces(inflater: zlib._Decompress, packed: bytes | memoryview, step: int) -> Iterator[bytes]:
    """What `packed` inflates to, to the last byte before an error. Raises zlib.error there."""
    while not inflater.eof:
        kept = inflater.copy()
        try:
            piece = inflater.decompress(packed, step)
        except zlib.error:  # with what was inflated before it
            if step == 1:
                raise
            yield from _pieces(kept, packed, step >> 10)
            raise
        packed = inflater.unconsumed_tail
        if not piece and not packed:
            return
        yield piece


def _with_known_filters(pieces: Iterator[bytes], row_bytes: int) -> Iterator[bytes]:
    """The pieces up to a row whose filter is unknown. Raises zlib.error there."""
    at = 0
    for piece in pieces:
        filters = piece[-at % row_bytes :: row_bytes] if row_bytes else b""
        for place, number in enumerate(filters) if max(filters, default=0) > 4 else ():
            if number > 4:
                yield piece[: -at % row_bytes + place * row_bytes]
                raise zlib.error("an unknown filter")
        at += len(piece)
        yield piece


def png_with_metadata(encoded: bytes | memoryview, metadata: tuple[bytes, ...]) -> bytes:
    """The PNG `encoded` with the chunks of `metadata` in the place of its own."""
    kept = [chunk for name, chunk in _png_chunks(encoded) if name not in PNG_KEPT]
    return b"".join([PNG_SIGNATURE, kept[0], *metadata, *kept[1:]])


def png_chunk(name: bytes, payload: bytes) -> bytes:
    """A whole PNG chunk: length, name, payload, check sum."""
    check = zlib.crc32(name + payload)
    return len(payload).to_bytes(4, "big") + name + payload + check.to_bytes(4, "big")
