"""Still pictures in and out: JPEG, PNG and WebP, with their orientation and metadata.

The pixels stay in the stored orientation and in the file's own depth. A mirrored orientation is
flipped for the filter and flipped back, for `Frame.rotation` knows only quarter turns.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from mien.engines.errors import VideoError
from mien.engines.limits import MAX_MEMORY, check_memory, file_size
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.picture_container import Container, Kind
from mien.runtime.picture_decoding import decode
from mien.runtime.picture_jpeg import jpeg_with_metadata, read_jpeg
from mien.runtime.picture_png import PNG_SIGNATURE, png_chunk, png_with_metadata, read_png
from mien.runtime.picture_webp import read_webp, webp_with_metadata
from mien.runtime.whole_file import write_whole

PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"))
# EXIF orientation to (mirrored, clockwise quarter turns): mirror the stored rows first, then turn.
TURNS = {
    1: (False, 0),
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 3),
    6: (False, 1),
    7: (True, 1),
    8: (False, 3),
}
READERS = {"jpeg": read_jpeg, "png": read_png, "webp": read_webp}
SUFFIXES: dict[Kind, str] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
# Where a lossy picture does not tell its quality.
DEFAULT_QUALITY = 90
MAX_SIDE_PX = 1_000_000  # as libpng has it
MAX_PIXELS = 1 << 30  # as OpenCV has it
# Bytes that were measured: how often a file is held while it is read, its metadata included, and
# for each pixel, what the blender holds besides the picture and the edited one, and the encoders.
READING_COPIES: dict[Kind, int] = {"jpeg": 2, "png": 1, "webp": 2}
EDITING_BYTES = 6
ENCODER_BYTES = 8
LOSSLESS_WEBP_BYTES = 24  # 30 at 7680x4320, which took 1.28 GB in all; pictures of 8K are to pass
# What OpenCV takes for the chroma sampling of a JPEG, by (horizontal, vertical).
JPEG_SAMPLING = {
    (1, 1): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    (2, 1): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    (2, 2): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    (1, 2): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    (4, 1): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file, decoded.

    frame: one plane, grey (H, W) or interleaved BGR (H, W, 3), uint8 or uint16, without a time.
    alpha: (H, W) of the same dtype and orientation, None where the picture is opaque.
    container: what the file declares, metadata included.
    mirrored: whether the rows of `frame` and `alpha` run against those of the file.
    lost: what is missing of a file that is cut short, else None.
    """

    frame: Frame
    alpha: np.ndarray | None
    container: Container
    mirrored: bool = False
    lost: str | None = None


def picture_kind(head: bytes) -> Kind | None:
    """Which of the three formats begins like this; None for none of them. Needs 12 bytes."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(PNG_SIGNATURE):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return None


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture: by its first bytes, or by its name.

    Raises VideoError for what is no file, and for a GIF, which is neither a video with timing of
    its own nor one picture.
    """
    file_size(path, error=VideoError)
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error
    if head.startswith(b"GIF8"):
        raise VideoError(f"{path} is a GIF; mien edits videos and JPEG, PNG and WebP pictures")
    suffix = path.suffix.lower()
    if suffix in (".mjpg", ".mjpeg"):
        return False
    return picture_kind(head) is not None or suffix in PICTURE_SUFFIXES


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
    kind = picture_kind(data[:12])
    if kind is None:
        raise VideoError("is not a JPEG, PNG or WebP picture")
    container = READERS[kind](data)
    _check_size(container, needed_memory(container, len(data), doubled=doubled), max_memory)
    pixels, lost = decode(data, container)
    mirrored, rotation = TURNS[container.orientation]
    if mirrored:
        pixels = cv2.flip(pixels, 1)
    colour, alpha = _split_alpha(pixels, container)
    depth = 8 * colour.dtype.itemsize
    layout = (
        PixelLayout("gray", depth, full_range=True)
        if colour.ndim == 2
        else PixelLayout("rgb", depth, full_range=True, rgb_order=(2, 1, 0))
    )
    size_wh = container.width, container.height
    frame = Frame((Plane(colour, (1, 1)),), layout, *size_wh, rotation=rotation)
    return Picture(frame, alpha, container, mirrored, lost)


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
    suffix = path.suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        fits = False
    elif container.kind == "jpeg":
        fits = suffix not in (".png", ".webp")
    else:
        fits = suffix == SUFFIXES[container.kind]
    if not fits:
        raise VideoError(
            f"the output {path} must end in {SUFFIXES[container.kind]}: a picture keeps its format"
        )


def side_by_side(original: Frame, edited: Frame) -> Frame:
    """Both pictures in one, the original left of the edited one as they are displayed."""
    planes = []
    for before, after in zip(original.planes, edited.planes, strict=True):
        first_is_left = original.rotation in (0, 3)
        pair = (before, after) if first_is_left else (after, before)
        axis = 1 if original.rotation in (0, 2) else 0
        samples = np.concatenate([plane.samples for plane in pair], axis)
        planes.append(Plane(samples, before.subsampling_xy))
    height, width = planes[0].samples.shape[:2]
    return replace(edited, planes=tuple(planes), width=width, height=height)


def encode_picture(picture: Picture, frame: Frame, quality: int | None = None) -> bytes:
    """The bytes of a file with the pixels of `frame` and the metadata of `picture`.

    frame: as in `picture`, edited, or twice as wide or high from `side_by_side`.
    """
    pixels = frame.planes[0].samples
    alpha = _alpha_for(picture, frame)
    if picture.mirrored:
        pixels = cv2.flip(pixels, 1)
        alpha = None if alpha is None else cv2.flip(alpha, 1)
    container = picture.container
    if container.kind == "png" and pixels.ndim == 2 and alpha is not None:
        return png_with_metadata(_encode_gray_alpha(pixels, alpha), container.metadata)
    if alpha is not None:
        colour = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels
        pixels = np.dstack([colour, alpha])
    encoded = _encode(pixels, container, quality)
    if container.kind == "jpeg":
        return jpeg_with_metadata(encoded, container.metadata)
    if container.kind == "png":
        return png_with_metadata(encoded, container.metadata)
    if not container.metadata:
        return bytes(encoded)
    return webp_with_metadata(encoded, container.metadata, alpha=alpha is not None)


def needed_memory(container: Container, file_bytes: int, *, doubled: bool = False) -> int:
    """The bytes that reading, editing and writing a picture takes, where a face fills all of it.

    file_bytes: of the file; as much of it as metadata is held to the end.
    doubled: whether it is written beside its edit.
    """
    area = container.width * container.height
    pixels = area * container.pixel_bytes
    reading = READING_COPIES[container.kind] * file_bytes + 2 * pixels + container.working_bytes
    editing = file_bytes + 2 * pixels + EDITING_BYTES * area
    copied = container.pixel_bytes == 4 or TURNS[container.orientation][0]
    written = 2 if doubled else 1
    encoder = 2 * pixels if container.kind == "png" else ENCODER_BYTES * area
    if container.kind == "webp" and container.lossless:
        encoder = LOSSLESS_WEBP_BYTES * area
    writing = file_bytes + 2 * pixels + written * (encoder + (copied + doubled) * pixels)
    return max(reading, editing, writing)


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


def _encode(pixels: np.ndarray, container: Container, quality: int | None) -> memoryview:
    suffix = SUFFIXES[container.kind]
    flags = _flags(container, quality)
    try:
        done, encoded = cv2.imencode(suffix, pixels, flags)
    except cv2.error as error:
        raise VideoError(f"the edited picture cannot be encoded: {error.err}") from error
    if not done:
        height, width = pixels.shape[:2]
        raise VideoError(f"the edited picture ({width}x{height}) cannot be encoded as {suffix}")
    return encoded.data


def _flags(container: Container, quality: int | None) -> list[int]:
    if container.kind == "png":
        return [cv2.IMWRITE_PNG_COMPRESSION, 6]
    if container.kind == "webp":
        # above 100 OpenCV's encoder is lossless
        asked = 101 if container.lossless else DEFAULT_QUALITY if quality is None else quality
        return [cv2.IMWRITE_WEBP_QUALITY, asked]
    asked = (container.quality or DEFAULT_QUALITY) if quality is None else quality
    flags = [cv2.IMWRITE_JPEG_QUALITY, asked, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    flags += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(container.progressive)]
    sampling = JPEG_SAMPLING.get(container.subsampling_xy)
    if sampling is not None:
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return flags


def _encode_gray_alpha(gray: np.ndarray, alpha: np.ndarray) -> bytes:
    """A PNG with grey and alpha, a kind that OpenCV does not write."""
    height, width = gray.shape
    big_endian = gray.dtype.newbyteorder(">")
    rows = np.dstack([gray, alpha]).astype(big_endian).view(np.uint8).reshape(height, -1)
    # every row begins with its filter; 2 stores the difference to the row above
    above = np.zeros_like(rows)
    above[1:] = rows[:-1]
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header += bytes([8 * gray.dtype.itemsize, 4, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(png_chunk(name, payload) for name, payload in chunks)
