"""What a picture file says about itself, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EXIF_HEADER = b"Exif\x00\x00"
EXIF_ORIENTATION = 0x0112
MAX_PARTS = 1 << 16  # segments or chunks to carry over; real files have up to some hundred

Kind = Literal["jpeg", "png", "webp"]


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
    damaged: whether some of the metadata is, and does not come along.
    left_out: what does not come along since it shows or claims the picture as it was.
    pixel_bytes: of one decoded pixel.
    working_bytes: what the decoder holds besides the file and the pixels.
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
    damaged: bool = False
    left_out: tuple[str, ...] = ()
    pixel_bytes: int = 4
    working_bytes: int = 0


def exif_orientation(exif: bytes) -> int:
    """The orientation (1..8) that an EXIF block (a TIFF header and what follows) states, else 1."""
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"
    if exif[:2] not in (b"II", b"MM") or int.from_bytes(exif[2:4], order) != 42:
        return 1
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    for entry in range(count):
        at = start + 2 + 12 * entry
        field = exif[at : at + 12]
        if len(field) < 12:
            return 1
        if int.from_bytes(field[:2], order) == EXIF_ORIENTATION:
            value = int.from_bytes(field[8:10], order)
            return value if 1 <= value <= 8 else 1
    return 1
