"""What a picture file says about itself, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

EXIF_HEADER = b"Exif\x00\x00"
EXIF_ORIENTATION = 0x0112
MAX_PARTS = 1 << 16  # segments or chunks to carry over; real files have up to some hundred

Kind = Literal["jpeg", "png", "webp", "avif", "heic", "tiff", "bmp", "gif", "jp2"]


@dataclass(frozen=True, slots=True)
class Container:
    """What a picture file says about itself.

    width, height: as stored, before the orientation.
    orientation: of EXIF, 1..8.
    metadata: the JPEG segments, PNG chunks or WebP chunks to carry over, whole and in order.
    channels: colour components, alpha included; 0 where the header does not say.
    lossless: whether decoding and encoding again gives the same pixels.
    quality: for JPEG the libjpeg quality (1..100) nearest to its luma table; 0 elsewhere.
    subsampling_xy: for JPEG, how many luma samples a chroma sample covers.
    progressive: whether a JPEG is progressive.
    whole: False where the file ends before the picture does.
    sound: whether the data of a large PNG was looked through, and is as it was written.
    damaged: whether some of the metadata is, and does not come along.
    left_out: what does not come along since it shows or claims the picture as it was.
    pixel_bytes: of one decoded pixel.
    working_bytes: what the decoder holds besides the file and the pixels.
    depth: significant bits of a sample, 0 for all of them.
    premultiplied: whether the colours are multiplied with the alpha.
    colours: primaries and transfer that an AVIF states, by their numbers in ITU-T H.273.
    compression: of a TIFF, by its number there.
    tile_px: the side of the tiles that a HEIC is made of, 0 for one picture.
    settings: what a HEIC says besides, as pillow-heif names it.
    """

    kind: Kind
    width: int
    height: int
    orientation: int = 1
    metadata: tuple[bytes, ...] = ()
    channels: int = 0
    lossless: bool = False
    quality: int = 0
    subsampling_xy: tuple[int, int] = (1, 1)
    progressive: bool = False
    whole: bool = True
    sound: bool = False
    damaged: bool = False
    left_out: tuple[str, ...] = ()
    pixel_bytes: int = 4
    working_bytes: int = 0
    depth: int = 0
    premultiplied: bool = False
    colours: tuple[int, int] | None = None
    compression: int = 0
    tile_px: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def exif_orientation(exif: bytes) -> int:
    """The orientation (1..8) that an EXIF block (a TIFF header and what follows) states, else 1."""
    order = _order(exif)
    place = _orientation_place(exif)
    value = int.from_bytes(exif[place : place + 2], order) if place else 1
    return value if 1 <= value <= 8 else 1


def exif_with_orientation(exif: bytes, orientation: int) -> bytes:
    """The EXIF block with this orientation, in a block of its own where there is none.

    A block that states none is upright, and stays as it is where that is asked for.
    """
    place, order = _orientation_place(exif), _order(exif)
    if place:
        return exif[:place] + orientation.to_bytes(2, order) + exif[place + 2 :]
    if orientation == 1:
        return exif
    exif = exif if exif[:2] in (b"II", b"MM") else b"II*\0\x08\0\0\0"
    order = _order(exif)
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    end = start + 2 + 12 * count
    entries = [exif[at : at + 12] for at in range(start + 2, min(end, len(exif) - 11), 12)]
    numbers = ((EXIF_ORIENTATION, 2), (3, 2), (1, 4), (orientation, 2), (0, 2))
    entries.append(b"".join(number.to_bytes(size, order) for number, size in numbers))
    entries.sort(key=lambda entry: int.from_bytes(entry[:2], order))
    # a directory behind the block, for nothing in it may move
    whole = exif + bytes(len(exif) & 1)
    head = whole[:4] + len(whole).to_bytes(4, order) + whole[8:]
    return b"".join([head, len(entries).to_bytes(2, order), *entries, bytes(4)])


def _order(exif: bytes) -> Literal["little", "big"]:
    return "little" if exif[:2] == b"II" else "big"


def _orientation_place(exif: bytes) -> int:
    """Where in an EXIF block the orientation stands, 0 where it does not."""
    order = _order(exif)
    if exif[:2] not in (b"II", b"MM") or int.from_bytes(exif[2:4], order) != 42:
        return 0
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    for entry in range(count):
        at = start + 2 + 12 * entry
        if at + 12 > len(exif):
            return 0
        if int.from_bytes(exif[at : at + 2], order) == EXIF_ORIENTATION:
            return at + 8
    return 0
