"""The bytes of a picture file, of edited pixels and the metadata of its source.

`cv2.imencodeWithMetadata` writes EXIF, XMP and a colour profile, and only that: it would lose the
density and comments of a JPEG, its IPTC, and the texts, chromaticities and times of a PNG. So it is
used for AVIF, of which nothing more is carried over, and the others are put together by hand.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from mien.engines.errors import VideoError
from mien.runtime.pictures.bitmaps import bmp_with_metadata, encode_gif, jp2_with_metadata
from mien.runtime.pictures.container import Container, Kind
from mien.runtime.pictures.heif import encode_avif, encode_heic
from mien.runtime.pictures.jpeg import jpeg_with_metadata
from mien.runtime.pictures.png import PNG_SIGNATURE, png_chunk, png_with_metadata
from mien.runtime.pictures.tiff import tiff_with_metadata
from mien.runtime.pictures.webp import webp_with_metadata

# The suffixes of each format, the usual one first.
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "webp": (".webp",),
    "avif": (".avif",),
    "heic": (".heic", ".heif", ".hif"),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "jp2": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpg2"),
}
# Where a lossy picture does not tell its quality; AVIF and HEIC of one number are finer than JPEG.
DEFAULT_QUALITY = 90
HEIF_QUALITY = 80
# From here on a JPEG is written line by line: its Huffman tables are the standard ones, and it is
# not progressive, either of which takes the coefficients of the whole picture.
LARGE_PX = 50_000_000
# What OpenCV takes for the chroma sampling of a JPEG, by (horizontal, vertical).
JPEG_SAMPLING = {
    (1, 1): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    (2, 1): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    (2, 2): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    (1, 2): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    (4, 1): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
TIFF_PREDICTOR = {5: 2, 8: 2}  # differences between neighbours, for what compresses them


def encode(
    colour: np.ndarray, alpha: np.ndarray | None, container: Container, quality: int | None
) -> bytes:
    """The bytes of a file of the container's kind. Raises VideoError.

    colour: grey (H, W) or BGR (H, W, 3). alpha: (H, W) of the same dtype.
    quality: 0..100 for lossy files, None for that of the source as near as can be told.
    """
    kind = container.kind
    if kind == "png" and colour.ndim == 2 and alpha is not None:
        return png_with_metadata(_encode_gray_alpha(colour, alpha), container.metadata)
    pixels = _joined(colour, alpha, container)
    if kind == "gif":
        return encode_gif(pixels, container)
    if kind in ("avif", "heic"):
        asked = HEIF_QUALITY if quality is None else quality
        return (encode_avif if kind == "avif" else encode_heic)(pixels, container, asked)
    encoded = _opencv(pixels, container, quality)
    if kind == "webp":
        if not container.metadata:
            return bytes(encoded)
        return webp_with_metadata(encoded, container.metadata, alpha=alpha is not None)
    return _with_metadata(encoded, container, is_doubled=pixels.size > _stored_samples(container))


def _stored_samples(container: Container) -> int:
    return container.width * container.height * max(container.channels, 1)


def _with_metadata(encoded: memoryview, container: Container, *, is_doubled: bool) -> bytes:
    if container.kind == "jpeg":
        return jpeg_with_metadata(encoded, container.metadata)
    if container.kind == "png":
        return png_with_metadata(encoded, container.metadata)
    if container.kind == "tiff":
        return tiff_with_metadata(encoded, container)
    if container.kind == "bmp":
        return bmp_with_metadata(encoded, container.metadata)
    return jp2_with_metadata(encoded, container, keep_header=not is_doubled)


def _joined(colour: np.ndarray, alpha: np.ndarray | None, container: Container) -> np.ndarray:
    """Colour and alpha as the encoder of that kind takes them."""
    takes_gray = container.kind not in ("gif", "webp")
    if alpha is None:
        return (
            colour if colour.ndim == 3 or takes_gray else cv2.cvtColor(colour, cv2.COLOR_GRAY2BGR)
        )
    if colour.ndim == 2 and container.kind == "tiff":  # as grey of twice the width
        return np.dstack([colour, alpha]).reshape(colour.shape[0], -1)
    if colour.ndim == 2 and container.kind == "heic":
        return np.dstack([colour, alpha])
    if colour.ndim == 2:
        colour = cv2.cvtColor(colour, cv2.COLOR_GRAY2BGR)
    return np.dstack([colour, alpha])


def _opencv(pixels: np.ndarray, container: Container, quality: int | None) -> memoryview:
    suffix = SUFFIXES[container.kind][0]
    try:
        done, encoded = cv2.imencode(suffix, pixels, _flags(pixels, container, quality))
    except cv2.error as error:
        raise VideoError(f"the edited picture cannot be encoded: {error.err}") from error
    if not done:
        height, width = pixels.shape[:2]
        raise VideoError(f"the edited picture ({width}x{height}) cannot be encoded as {suffix}")
    return encoded.data


def _flags(pixels: np.ndarray, container: Container, quality: int | None) -> list[int]:
    if container.kind == "png":
        return [cv2.IMWRITE_PNG_COMPRESSION, 6]
    if container.kind == "webp":
        # above 100 OpenCV's encoder is lossless
        asked = 101 if container.lossless else DEFAULT_QUALITY if quality is None else quality
        return [cv2.IMWRITE_WEBP_QUALITY, asked]
    if container.kind == "tiff":
        predictor = 1 if container.channels == 2 else TIFF_PREDICTOR.get(container.compression, 1)
        flags = [cv2.IMWRITE_TIFF_COMPRESSION, container.compression]
        return [*flags, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    if container.kind == "jp2":
        return [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]  # nothing is lost
    return _jpeg_flags(pixels, container, quality) if container.kind == "jpeg" else []


def _jpeg_flags(pixels: np.ndarray, container: Container, quality: int | None) -> list[int]:
    is_small = pixels.shape[0] * pixels.shape[1] < LARGE_PX
    asked = (container.quality or DEFAULT_QUALITY) if quality is None else quality
    flags = [cv2.IMWRITE_JPEG_QUALITY, asked, cv2.IMWRITE_JPEG_OPTIMIZE, int(is_small)]
    flags += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(container.progressive and is_small)]
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
