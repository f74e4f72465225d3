"""Still pictures in and out, with their orientation and metadata.

JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF and JPEG 2000, and HEIC with pillow-heif. The pixels stay in
the stored orientation and in the file's own depth.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mien.engines.errors import VideoError
from mien.engines.system.limits import MAX_MEMORY, check_memory, file_size
from mien.runtime.frame import Frame, PixelLayout, Plane, side_by_side_order
from mien.runtime.pictures.bitmaps import (
    BMP_HEADERS,
    CODESTREAM,
    JP2_SIGNATURE,
    read_bmp,
    read_gif,
    read_jp2,
)
from mien.runtime.pictures.container import Container, Kind
from mien.runtime.pictures.decoding import decode
from mien.runtime.pictures.encoding import LARGE_PX, SUFFIXES, encode
from mien.runtime.pictures.heif import (
    AVIF_BRANDS,
    HEIC_BRANDS,
    STILL_BRANDS,
    brands,
    check_still,
    is_in_tiles,
    read_avif,
    read_heic,
)
from mien.runtime.pictures.jpeg import read_jpeg
from mien.runtime.pictures.png import PNG_SIGNATURE, read_png
from mien.runtime.pictures.tiff import read_tiff
from mien.runtime.pictures.webp import read_webp
from mien.runtime.whole_file import write_whole

PICTURE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
# EXIF orientation to clockwise quarter turns, and whether left and right then change places.
TURNS = {
    1: (0, False),
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (1, True),
    6: (1, False),
    7: (3, True),
    8: (3, False),
}
READERS: dict[Kind, Callable[[bytes], Container]] = {
    "jpeg": read_jpeg,
    "png": read_png,
    "webp": read_webp,
    "avif": read_avif,
    "heic": read_heic,
    "tiff": read_tiff,
    "bmp": read_bmp,
    "gif": read_gif,
    "jp2": read_jp2,
}
HEAD_BYTES = 64  # by which a format is told
# What pictures begin with that are not edited.
OTHER_PICTURES = (
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"II+\0", "a BigTIFF"),
    (b"MM\0+", "a BigTIFF"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance picture (HDR)"),
    (b"FUJIFILMCCD-RAW", "a camera's raw picture"),
    (b"IIU\0", "a camera's raw picture"),
    (b"IIRO", "a camera's raw picture"),
    (b"IIRS", "a camera's raw picture"),
    (b"MMOR", "a camera's raw picture"),
    (b"II\xbc\x01", "a JPEG XR"),
    (b"qoif", "a QOI picture"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"%PDF-", "a PDF"),
    (b"P4\n", "a portable bitmap (PBM)"),
    (b"P5\n", "a portable graymap (PGM)"),
    (b"P6\n", "a portable pixmap (PPM)"),
)
MAX_SIDE_PX = 1_000_000  # as libpng has it
MAX_PIXELS = 1 << 30  # as OpenCV has it
# Bytes that were measured: how often a file is held while it is read, its metadata included, and
# for each pixel, what the blender holds besides the picture and the edited one, and the encoders.
READING_COPIES: dict[Kind, int] = {"png": 1, "heic": 1}
EDITING_BYTES = 1
ENCODER_BYTES: dict[Kind, int] = {"jp2": 11, "heic": 11}
OTHER_ENCODER_BYTES = 8
LINEWISE_BYTES = 1  # of a JPEG that is written line by line, and of what it grows to
LOSSLESS_WEBP_BYTES = 24  # 30 at 7680x4320, which took 1.28 GB in all; pictures of 8K are to pass


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file, decoded.

    frame: one plane, grey (H, W) or interleaved BGR (H, W, 3), uint8 or uint16, without a time.
    alpha: (H, W) of the same dtype and orientation, None where the picture is opaque.
    container: what the file declares, metadata included.
    lost: what is missing of a file that is cut short, else None.
    """

    frame: Frame
    alpha: np.ndarray | None
    container: Container
    lost: str | None = None


def picture_kind(head: bytes) -> Kind | None:  # noqa: PLR0911 -- one for each format
    """Which format begins like this; None for none that is edited. Needs HEAD_BYTES."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(PNG_SIGNATURE):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith((JP2_SIGNATURE, CODESTREAM)):
        return "jp2"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return "bmp"
    return _heif_kind(head)


def _heif_kind(head: bytes) -> Kind | None:
    found = brands(head)
    if head[8:12] not in STILL_BRANDS or not found & (AVIF_BRANDS | HEIC_BRANDS):
        return "heic" if head[8:12] in (b"mif1", b"mif2") else None
    return "avif" if found & AVIF_BRANDS else "heic"


def _head(path: Path) -> bytes:
    file_size(path, error=VideoError)
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture: by its first bytes, or by its name.

    Raises VideoError for what is no file, and for a kind of picture that is not edited.
    """
    head = _head(path)
    suffix = path.suffix.lower()
    if suffix in (".mjpg", ".mjpeg"):
        return False
    try:
        _check_other(head)
    except VideoError as error:
        raise VideoError(f"{path} {error}") from error
    return picture_kind(head) is not None or suffix in PICTURE_SUFFIXES


def _check_other(head: bytes) -> None:
    """Raise VideoError, without a file's name, for a kind of picture that is not edited."""
    check_still(head)
    name = next((name for start, name in OTHER_PICTURES if head.startswith(start)), None)
    if head[4:12] == b"ftypcrx ":
        name = "a camera's raw picture"
    if name:
        raise VideoError(f"is {name}, which mien does not edit; convert it to PNG or TIFF first")


def picture_suffix(path: Path) -> str | None:
    """What the name of an edited picture ends in: as its own does, where that fits the file.

    None for what is no picture. Raises VideoError where it cannot be read.
    """
    kind = picture_kind(_head(path))
    if kind is None:
        return None
    return path.suffix if path.suffix.lower() in SUFFIXES[kind] else SUFFIXES[kind][0]


def read_picture(path: Path, *, max_memory: int = MAX_MEMORY, doubled: bool = False) -> Picture:
    """The picture in a file. Raises VideoError: unreadable, too large, CMYK, animated, damaged.

    max_memory: bytes that reading, editing and writing it may take, by what the file states.
    doubled: whether it is written beside its edit, which takes more.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise VideoError(f"received {type(path).__name__}, expected the path of a picture")
    path = Path(path)
    size = file_size(path, error=VideoError)
    check_memory(2 * size, f"{path} has {size:,} bytes and", limit=max_memory, error=VideoError)
    try:
        with path.open("rb") as file:
            data = file.read(size)
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error
    try:
        return decode_picture(data, max_memory=max_memory, doubled=doubled)
    except VideoError as error:
        raise VideoError(f"{path} {error}") from error


def decode_picture(data: bytes, *, max_memory: int = MAX_MEMORY, doubled: bool = False) -> Picture:
    """The picture in the bytes of a file. Raises VideoError, without a file's name.

    max_memory, doubled: as of `read_picture`. Several threads may do this at once, and nothing of
    the process is changed.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise VideoError(f"is no picture: received {type(data).__name__}, expected bytes")
    data = bytes(data)
    _check_other(data[:HEAD_BYTES])
    kind = picture_kind(data[:HEAD_BYTES])
    if kind is None:
        raise VideoError("is not a picture of a known kind, as JPEG, PNG, WebP, AVIF and TIFF are")
    container = READERS[kind](data)
    _check_size(container, needed_memory(container, len(data), doubled=doubled), max_memory)
    pixels, lost = decode(data, container)
    rotation, mirrored = TURNS[container.orientation]
    colour, alpha = _split_alpha(pixels, container)
    depth = container.depth or 8 * colour.dtype.itemsize
    layout = (
        PixelLayout("gray", depth, full_range=True)
        if colour.ndim == 2
        else PixelLayout("rgb", depth, full_range=True, rgb_order=(2, 1, 0))
    )
    size_wh = container.width, container.height
    planes = (Plane(colour, (1, 1)),)
    frame = Frame(planes, layout, *size_wh, rotation=rotation, mirrored=mirrored)
    return Picture(frame, alpha, container, lost)


def _check_size(container: Container, needed: int, max_memory: int) -> None:
    width, height = container.width, container.height
    if width < 1 or height < 1:
        raise VideoError(f"has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE_PX or width * height >= MAX_PIXELS:
        raise VideoError(
            f"has {width}x{height} pixels; mien edits up to {MAX_SIDE_PX:,} a side and "
            f"{MAX_PIXELS:,} in all"
        )
    what = f"has {width}x{height} pixels and"
    check_memory(needed, what, limit=max_memory, error=VideoError)


def write_picture(
    path: Path,
    picture: Picture,
    frame: Frame,
    quality: int | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write `frame` as a file of the kind that `picture` came from, with its metadata.

    quality: 0..100 for lossy files; None keeps that of the source as near as can be told. The file
    appears under `path` only when it is whole. Raises VideoError.
    """
    check_picture_suffix(path, picture.container)
    data = encode_picture(picture, frame, quality)
    write_whole(path, data, overwrite=overwrite)


def check_picture_suffix(path: Path, container: Container) -> None:
    """Raise VideoError where `path` is not named like a file of the container's kind."""
    if path.suffix.lower() not in SUFFIXES[container.kind]:
        raise VideoError(
            f"the output {path} must end in {SUFFIXES[container.kind][0]}: "
            "a picture keeps its format"
        )


def side_by_side(original: Frame, edited: Frame) -> Frame:
    """Both pictures in one, the original left of the edited one as they are displayed."""
    axis, is_first = side_by_side_order(original)
    planes = []
    for before, after in zip(original.planes, edited.planes, strict=True):
        pair = (before, after) if is_first else (after, before)
        samples = np.concatenate([plane.samples for plane in pair], axis)
        planes.append(Plane(samples, before.subsampling_xy))
    height, width = planes[0].samples.shape[:2]
    return replace(edited, planes=tuple(planes), width=width, height=height)


def encode_picture(picture: Picture, frame: Frame, quality: int | None = None) -> bytes:
    """The bytes of a file with the pixels of `frame` and the metadata of `picture`.

    frame: as in `picture`, edited, or twice as wide or high from `side_by_side`.
    """
    return encode(frame.planes[0].samples, _alpha_for(picture, frame), picture.container, quality)


def left_out_note(picture: Picture) -> tuple[str, ...]:
    """The note on what an edited picture lacks of its source, empty where that is nothing."""
    names = picture.container.left_out
    if not names:
        return ()
    return (f"left out of the result: {', '.join(names)}",)


def needed_memory(container: Container, file_bytes: int, *, doubled: bool = False) -> int:
    """The bytes that reading, editing and writing a picture takes, where a face fills all of it.

    file_bytes: of the file, of which only the metadata is held to the end.
    doubled: whether it is written beside its edit; if not, it is released before that is written.
    """
    area = container.width * container.height
    pixels = area * container.pixel_bytes
    copies = READING_COPIES.get(container.kind, 2)
    split = pixels if container.pixel_bytes in (4, 8) else 0  # from its alpha
    reading = copies * file_bytes + pixels + max(split, container.working_bytes)
    metadata = sum(map(len, container.metadata))
    editing = metadata + 2 * pixels + EDITING_BYTES * area
    # the source too, and both in one
    held = pixels + (3 * pixels if doubled else 0) + split
    writing = metadata + held + (2 if doubled else 1) * _encoder_memory(container, area, pixels)
    return max(reading, editing, writing)


def _encoder_memory(container: Container, area: int, pixels: int) -> int:
    if container.kind == "webp" and container.lossless:
        return LOSSLESS_WEBP_BYTES * area
    if container.kind == "jpeg" and area >= LARGE_PX:
        return LINEWISE_BYTES * area
    if container.kind == "heic" and is_in_tiles(container):
        return pixels + LINEWISE_BYTES * area
    if container.kind in ("png", "tiff", "bmp"):
        return 2 * pixels
    return ENCODER_BYTES.get(container.kind, OTHER_ENCODER_BYTES) * area


def _split_alpha(pixels: np.ndarray, container: Container) -> tuple[np.ndarray, np.ndarray | None]:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels), None
    alpha = np.ascontiguousarray(pixels[..., -1]) if pixels.shape[2] in (2, 4) else None
    # OpenCV spreads grey with alpha over three equal colours
    if pixels.shape[2] == 2 or container.channels == 2:
        return np.ascontiguousarray(pixels[..., 0]), alpha
    return np.ascontiguousarray(pixels[..., :3]), alpha


def _alpha_for(picture: Picture, frame: Frame) -> np.ndarray | None:
    """The alpha of `picture`, repeated where `frame` shows the picture twice."""
    if picture.alpha is None:
        return None
    height, width = picture.alpha.shape
    return np.tile(picture.alpha, (frame.height // height, frame.width // width))
