"""TIFF files: what they declare, the tags to carry over, and a plain form for the decoder.

OpenCV reads and writes the pixels, but no tag besides those of the pixels and the resolution: its
`imencodeWithMetadata` writes none into a TIFF. The directory is therefore written here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mien.engines.errors import VideoError
from mien.runtime.pictures.container import Container
from mien.runtime.pictures.metadata import (
    FURTHER,
    THUMBNAIL,
    TiffBlock,
    TiffDirectory,
    TiffEntry,
    has_picture,
    named,
    plain_photoshop,
    plain_xmp,
)

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, ORIENTATION, SAMPLES, ROWS, STRIP_SIZES = 273, 274, 277, 278, 279
PLANAR, PREDICTOR, PALETTE, TILE_WIDTH, TILE_HEIGHT = 284, 317, 320, 322, 323
TILES, TILE_SIZES, EXTRA, FORMAT, JPEG_TABLES = 324, 325, 338, 339, 347
SUBFILE, SUB_DIRECTORIES, XMP, PHOTOSHOP, MAKER_NOTE, DNG = 254, 330, 700, 34377, 37500, 50706
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
# What the decoder needs: the pixels, and how they are packed.
PIXEL_TAGS: Final = (
    frozenset(
        (WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 266, STRIPS, SAMPLES, ROWS, STRIP_SIZES)
    )
    | frozenset(
        (PLANAR, 292, 293, PREDICTOR, PALETTE, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES, EXTRA)
    )
    | frozenset((FORMAT, JPEG_TABLES, 529, 530, 531, 532))
)
# Names, makers, dates, resolution, XMP, copyright, IPTC, colour profile, places on the earth.
KEPT: Final = frozenset(
    (269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, XMP, 33432, 33550, 33723, 33922)
) | frozenset((34264, PHOTOSHOP, 34675, 34735, 34736, 34737, ORIENTATION))
BRANCHES: Final = frozenset((EXIF, GPS, INTEROPERABILITY))
COMPRESSIONS: Final = {1: 1, 5: 5, 8: 8, 32946: 8, 32773: 32773}  # those that are kept, else LZW
LZW: Final = 5
MOST_VALUES: Final = 64 << 20  # bytes of one tag that is carried over
MAX_DEPTH: Final = 2
_LONG, _SHORT, _UNDEFINED, _BRANCH = 4, 3, 7, 0xFFFF
_UNITS: Final = {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4, 5: 4, 10: 4, 12: 8}


@dataclass(frozen=True, slots=True)
class _Tag:
    """A tag to write, its values in little-endian order; of a branch the tags in it."""

    number: int
    kind: int
    count: int
    values: bytes = b""
    branch: tuple[_Tag, ...] = ()

    def packed(self) -> bytes:
        """As `Container.metadata` has it."""
        inside = b"".join(tag.packed() for tag in self.branch) if self.branch else self.values
        kind = _BRANCH if self.branch else self.kind
        return struct.pack("<HHII", self.number, kind, self.count, len(inside)) + inside


def _unpacked(data: bytes) -> list[_Tag]:
    tags, at = [], 0
    while at + 12 <= len(data):
        number, kind, count, size = struct.unpack_from("<HHII", data, at)
        inside = data[at + 12 : at + 12 + size]
        at += 12 + size
        if kind == _BRANCH:
            tags.append(_Tag(number, _LONG, 1, branch=tuple(_unpacked(inside))))
        else:
            tags.append(_Tag(number, kind, count, inside))
    return tags


def read_tiff(data: bytes) -> Container:
    """What a TIFF file declares. Raises VideoError (without the file's name)."""
    tiff = TiffBlock(data)
    pages = list(tiff.directories(4))
    if not pages:
        raise VideoError("is a TIFF without a directory; it may be cut short")
    first = pages[0]
    tags = {entry.tag: entry for entry in first.entries}
    pixel_tags = {tag: entry for tag, entry in tags.items() if tag in PIXEL_TAGS}
    if (
        data[8:10] == b"CR"
        or DNG in tags
        or (_number(tiff, tags, SUBFILE) & 1 and SUB_DIRECTORIES in tags)
    ):
        raise VideoError("is a camera's raw picture; develop it to a TIFF or JPEG first")
    reduced = [page for page in pages[1:] if _is_reduced(tiff, page)]
    if len(pages) > 1 + len(reduced):
        raise VideoError(f"is a TIFF of {len(pages) - len(reduced)} pages; mien edits single ones")
    left_out = [THUMBNAIL] * bool(reduced) + [FURTHER] * (SUB_DIRECTORIES in tags)
    channels, bits = _checked_kind(tiff, tags)
    _check_whole(tiff, pixel_tags)
    metadata = [tag.packed() for tag in _kept(tiff, first, KEPT, left_out, MAX_DEPTH)]
    width, height = (_number(tiff, tags, tag) for tag in (WIDTH, HEIGHT))
    orientation = _number(tiff, tags, ORIENTATION) or 1
    return Container(
        "tiff",
        width,
        height,
        orientation if orientation <= 8 else 1,
        tuple(metadata),
        channels,
        lossless=True,
        left_out=named(left_out),
        pixel_bytes=channels * (2 if bits == 16 else 1),
        # the decoder holds a strip or a tile, as four bytes a pixel or as it is
        working_bytes=_part_pixels(tiff, tags, width, height) * max(4, channels * bits // 8),
        compression=COMPRESSIONS.get(_number(tiff, tags, COMPRESSION), LZW),
        premultiplied=_number(tiff, tags, EXTRA) == 1,
    )


def _number(tiff: TiffBlock, tags: dict[int, TiffEntry], tag: int, default: int = 0) -> int:
    values = tiff.numbers(tags.get(tag))
    return values[0] if values else default


def _is_reduced(tiff: TiffBlock, page: TiffDirectory) -> bool:
    tags = {entry.tag: entry for entry in page.entries}
    return bool(_number(tiff, tags, SUBFILE) & 1) or _number(tiff, tags, 255) == 2


def _part_pixels(tiff: TiffBlock, tags: dict[int, TiffEntry], width: int, height: int) -> int:
    if TILE_WIDTH in tags:
        return _number(tiff, tags, TILE_WIDTH) * _number(tiff, tags, TILE_HEIGHT)
    return width * min(height, _number(tiff, tags, ROWS) or height)


def _checked_kind(tiff: TiffBlock, tags: dict[int, TiffEntry]) -> tuple[int, int]:
    """Channels as they are decoded, and bits. Raises VideoError for what is not edited."""
    bits = tiff.numbers(tags.get(BITS)) or [1]
    samples = _number(tiff, tags, SAMPLES, 1)
    photometric = _number(tiff, tags, PHOTOMETRIC)
    names = {5: "CMYK", 8: "Lab", 9: "Lab", 10: "Lab", 32844: "LogL", 32845: "LogLuv"}
    if photometric in names:
        raise VideoError(f"is a {names[photometric]} TIFF; convert it to RGB first")
    if photometric not in (0, 1, 2, 3, 6) or _number(tiff, tags, COMPRESSION) == 6:
        raise VideoError("is a TIFF of an unusual kind; convert it to an RGB TIFF first")
    if _number(tiff, tags, FORMAT, 1) not in (1, 4):
        raise VideoError("is a TIFF of floating-point or signed numbers; convert it first")
    fits = len(set(bits)) == 1 and bits[0] in (1, 2, 4, 8, 16)
    fits = fits and samples in ((3, 4) if photometric in (2, 6) else (1, 2))
    fits = fits and (samples == 1 or bits[0] >= 8) and (photometric != 3 or samples == 1)
    planar = _number(tiff, tags, PLANAR, 1) == 2 and samples > 1
    # stored white as 0 and deep, or with a prediction over two samples: the decoder gets it wrong
    fits = fits and not (photometric == 0 and (bits[0] == 16 or samples == 2))
    fits = fits and not (samples == 2 and _number(tiff, tags, PREDICTOR, 1) != 1)
    if not fits or (planar and (bits[0] == 16 or samples == 2)):
        raise VideoError(
            f"is a TIFF of {samples} samples of {bits[0]} bits in an order that is not edited; "
            "convert it to an RGB TIFF first"
        )
    return (3 if photometric == 3 else samples), bits[0]


def _check_whole(tiff: TiffBlock, tags: dict[int, TiffEntry]) -> None:
    places = (TILES, TILE_SIZES) if TILES in tags else (STRIPS, STRIP_SIZES)
    if any(entry.place + entry.size > len(tiff.data) for entry in tags.values()):
        raise VideoError("is a TIFF that is cut short within its directory")
    starts, sizes = (tiff.numbers(tags.get(tag)) for tag in places)
    if not starts or len(starts) != len(sizes):
        raise VideoError("is a damaged TIFF: it does not say where its pixels are")
    if max(start + size for start, size in zip(starts, sizes, strict=True)) > len(tiff.data):
        raise VideoError("is a TIFF that is cut short: it ends before its pixels do")


def _kept(
    tiff: TiffBlock, page: TiffDirectory, wanted: frozenset[int], left_out: list[str], depth: int
) -> list[_Tag]:
    """The tags of a directory to carry over; all of them where `wanted` is empty."""
    kept = []
    for entry in page.entries:
        if entry.tag in BRANCHES and depth:
            branch = tiff.directory(next(iter(tiff.numbers(entry)), 0))
            inside = _kept(tiff, branch, frozenset(), left_out, depth - 1) if branch else []
            if inside:
                kept.append(_Tag(entry.tag, _LONG, 1, branch=tuple(inside)))
        elif (not wanted or entry.tag in wanted) and entry.tag not in BRANCHES:
            tag = _cleaned(_tag(tiff, entry), left_out)
            if tag is not None:
                kept.append(tag)
    return kept


def _tag(tiff: TiffBlock, entry: TiffEntry) -> _Tag:
    values = bytes(tiff.data[entry.place : entry.place + min(entry.size, MOST_VALUES)])
    unit = _UNITS.get(entry.kind, 1)
    if tiff.order == "big" and unit > 1:
        whole = values[: len(values) // unit * unit]
        values = np.frombuffer(whole, f">u{unit}").astype(f"<u{unit}").tobytes()
    return _Tag(entry.tag, entry.kind, entry.count, values)


def _cleaned(tag: _Tag, left_out: list[str]) -> _Tag | None:
    """A tag without what shows the picture as it was; None where nothing of it is left."""
    if not tag.values or tag.kind not in range(1, 14):
        return None
    if tag.number in (XMP, PHOTOSHOP):
        clean = (plain_xmp if tag.number == XMP else plain_photoshop)(tag.values)
        left_out += clean.left_out
        if not clean.block:
            return None
        kind = tag.kind if tag.kind in (1, _UNDEFINED) else _UNDEFINED
        return replace(tag, kind=kind, values=clean.block, count=len(clean.block))
    if tag.kind in (1, 2, _UNDEFINED) and has_picture(tag.values):
        left_out.append(THUMBNAIL)
        return None
    return tag


def plain_tiff(data: bytes, container: Container) -> bytes:
    """What the decoder needs of a file that `read_tiff` has read: its pixels and their tags.

    Grey with alpha, which OpenCV reads without the alpha, is declared as grey of twice the width;
    alpha as a plain further sample, for libtiff would multiply the colours by it.
    """
    tiff = TiffBlock(data)
    page = next(iter(tiff.directories(4)))
    tags = {entry.tag: _tag(tiff, entry) for entry in page.entries if entry.tag in PIXEL_TAGS}
    tags.pop(EXTRA, None)
    if container.channels == 2:
        tags[WIDTH] = _Tag(WIDTH, _LONG, 1, struct.pack("<I", 2 * container.width))
        tags[SAMPLES] = _Tag(SAMPLES, _SHORT, 1, struct.pack("<H", 1))
        tags[BITS] = _Tag(BITS, _SHORT, 1, tags[BITS].values[:2])
    elif container.channels == 4:
        tags[EXTRA] = _Tag(EXTRA, _SHORT, 1, struct.pack("<H", 0))
    if tiff.order == "big":
        return _big_endian(data, list(tags.values()))
    return _with_directory(data, list(tags.values()))


def _big_endian(data: bytes, tags: list[_Tag]) -> bytes:
    """As `_with_directory`; samples of 16 bits are in the order of the file, so it keeps it."""
    at = len(data) + (len(data) & 1)
    return b"".join(
        [
            data[:4],
            at.to_bytes(4, "big"),
            data[8:],
            bytes(at - len(data)),
            _directory(tags, at, ">"),
        ]
    )


def tiff_with_metadata(encoded: bytes | memoryview, container: Container) -> bytes:
    """The TIFF `encoded`, which OpenCV wrote, with the tags of the container's metadata."""
    encoded = bytes(encoded)
    tiff = TiffBlock(encoded)
    page = next(iter(tiff.directories(4)))
    tags = {entry.tag: _tag(tiff, entry) for entry in page.entries}
    if container.channels == 2:
        width = _number(tiff, {entry.tag: entry for entry in page.entries}, WIDTH)
        tags[WIDTH] = _Tag(WIDTH, _LONG, 1, struct.pack("<I", width // 2))
        tags[SAMPLES] = _Tag(SAMPLES, _SHORT, 1, struct.pack("<H", 2))
        tags[BITS] = _Tag(BITS, _SHORT, 2, tags[BITS].values[:2] * 2)
    if container.channels in (2, 4):
        kind = 1 if container.premultiplied else 2
        tags[EXTRA] = _Tag(EXTRA, _SHORT, 1, struct.pack("<H", kind))
    for tag in _unpacked(b"".join(container.metadata)):
        tags[tag.number] = tag
    return _with_directory(encoded, list(tags.values()))


def _with_directory(data: bytes, tags: list[_Tag]) -> bytes:
    """The file with these tags and no others; pixels stay where they are."""
    at = len(data) + (len(data) & 1)
    return b"".join(
        [data[:4], at.to_bytes(4, "little"), data[8:], bytes(at - len(data)), _directory(tags, at)]
    )


def _directory(tags: list[_Tag], start: int, order: str = "<") -> bytes:
    """A directory for the place `start`, with the values that do not fit into it behind it."""
    tags = sorted(tags, key=lambda tag: tag.number)
    fields, behind = [struct.pack(order + "H", len(tags))], b""
    free = start + 2 + 12 * len(tags) + 4
    for tag in tags:
        place = free + len(behind)
        if tag.branch:
            values = struct.pack(order + "I", place)
            behind += _directory(list(tag.branch), place, order)
        else:
            values = _in_order(tag, order)
            if len(values) > 4:
                behind += values
                values = struct.pack(order + "I", place)
        behind += b"\0" * (len(behind) & 1)
        fields.append(struct.pack(order + "HHI", tag.number, tag.kind, tag.count))
        fields.append(values.ljust(4, b"\0"))
    return b"".join([*fields, bytes(4), behind])


def _in_order(tag: _Tag, order: str) -> bytes:
    unit = _UNITS.get(tag.kind, 1)
    if order == "<" or unit == 1:
        return tag.values
    return np.frombuffer(tag.values, f"<u{unit}").astype(f">u{unit}").tobytes()
