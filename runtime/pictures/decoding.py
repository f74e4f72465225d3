"""The pixels of a picture file, and what of them is lost.

A file is first brought into a plain form in which every length fits: without metadata, and without
what decoders would only stumble over. OpenCV decodes that. What its libraries find wrong they print
on the process's standard error and tell nobody, so damage is found before or beside them: a PNG is
inflated here, a JPEG is decoded a second time by FFmpeg, which reports errors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mien.engines.errors import VideoError
from mien.runtime.pictures.bitmaps import decode_gif
from mien.runtime.pictures.container import Container, Kind
from mien.runtime.pictures.heif import decode_heic
from mien.runtime.pictures.jpeg import PlainJpeg, plain_jpeg
from mien.runtime.pictures.png import plain_png
from mien.runtime.pictures.tiff import plain_tiff
from mien.runtime.pictures.webp import plain_webp

if TYPE_CHECKING:
    import av

IN_PART = "the file is damaged: a part of it is not as it was"
METADATA = "the file is damaged: some of its metadata is left out"
BEHIND = "the file ends early: the picture is whole, what follows it may be missing"
LEAST_WEBP = 32  # bytes; of fewer OpenCV complains on standard error
JPEG_END = b"\xff\xd9"
LOOK_AHEAD = 8  # bytes that libjpeg wants beyond those it needs
TAIL = 512  # bytes at the end of a picture, of which one that is decoded to its end shows something
GREY = 128  # of samples that are missing


def decode(data: bytes, container: Container) -> tuple[np.ndarray, str | None]:
    """The stored pixels, and what is lost of them, None where nothing is.

    data: a file that says of itself what `container` holds. Raises VideoError.
    """
    if container.kind == "png":
        return _png(data, container)
    if container.kind == "webp":
        return _webp(data, container)
    if container.kind == "jpeg":
        return _jpeg(data, container)
    decoders: dict[Kind, Callable[[bytes, Container], np.ndarray]] = {
        "avif": _opencv,
        "heic": decode_heic,
        "tiff": _tiff,
        "bmp": _bmp,
        "gif": decode_gif,
        "jp2": _opencv,
    }
    return decoders[container.kind](data, container), None


def _webp(data: bytes, container: Container) -> tuple[np.ndarray, str | None]:
    cut = None if container.whole else "the file ends early: some of it may be missing"
    plain = plain_webp(data)
    if len(plain) < LEAST_WEBP:
        raise _undecodable(container)
    return _opencv(plain, container), cut


def _png(data: bytes, container: Container) -> tuple[np.ndarray, str | None]:
    plain = plain_png(data, sound=container.sound)
    state = "the file is damaged" if container.whole else "the file ends early"
    if not plain.has_pixels:
        raise _undecodable(container)
    pixels = _opencv(plain.stream, container)
    rows = -(-plain.missing // plain.row_bytes) if plain.row_bytes else 0
    if rows:
        return pixels, f"{state}: about {rows} of {container.height} rows are missing"
    if plain.missing:
        return pixels, f"{state}: some of the detail is missing"
    if not plain.fits:
        return pixels, IN_PART
    if container.damaged:
        return pixels, METADATA
    return pixels, None if container.whole else BEHIND


def _jpeg(data: bytes, container: Container) -> tuple[np.ndarray, str | None]:
    plain = plain_jpeg(data)
    if not container.whole:
        part = _despite_damage(plain, container)
        return part, _lost_rows(part, "the file ends early")
    pixels: np.ndarray | None
    if plain.scans > 1 or container.progressive:  # one by one: each holds all coefficients
        damaged = _is_damaged(plain)
        pixels = None if damaged else _opencv(plain.stream + JPEG_END, container)
    else:
        finding: Future[bool] = Future()
        threading.Thread(target=_settle, args=(finding, plain), daemon=True).start()
        pixels = _endless(plain, container)
        damaged = finding.result()
    if pixels is None:
        part = _despite_damage(plain, container)
        return part, _lost_rows(part, "the file is damaged")
    return pixels, IN_PART if damaged or not plain.fits else None


def _endless(plain: PlainJpeg, container: Container) -> np.ndarray | None:
    """The pixels of a JPEG in one scan as if more was to come; None where it has too few bytes.

    Where no end comes libjpeg does not look for it, and says nothing of the bytes before it that
    some cameras write.
    """
    try:
        return _opencv(plain.stream + bytes(LOOK_AHEAD), container)
    except VideoError:
        return None


def _settle(damaged: Future[bool], plain: PlainJpeg) -> None:
    try:
        damaged.set_result(_is_damaged(plain))
    except BaseException as error:  # noqa: BLE001 -- whatever it is, the waiting thread gets it
        damaged.set_exception(error)


def _opencv(stream: bytes | bytearray, container: Container) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise VideoError(f"cannot be decoded: {error.err}") from error
    if pixels is None or pixels.shape[:2] != (container.height, container.width):
        raise _undecodable(container)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"has samples of an unknown kind ({pixels.dtype})")
    return pixels


def _tiff(data: bytes, container: Container) -> np.ndarray:
    plain = plain_tiff(data, container)
    if container.channels != 2:
        return _opencv(plain, container)
    pixels = _opencv(plain, replace(container, width=2 * container.width))
    return pixels.reshape(container.height, container.width, 2)


def _bmp(data: bytes, container: Container) -> np.ndarray:
    pixels = _opencv(data, container)
    if container.channels == 3 and pixels.ndim == 3 and pixels.shape[2] == 4:
        return np.ascontiguousarray(pixels[..., :3])
    return pixels


def _undecodable(container: Container) -> VideoError:
    state = "damaged" if container.whole else "cut short"
    return VideoError(f"cannot be decoded; the file is {state}")


def _is_damaged(plain: PlainJpeg) -> bool:
    """Whether FFmpeg finds an error in the coded data; at an eighth of the size, which is quick."""
    import av  # noqa: PLC0415 -- takes a while, and only JPEG needs it

    try:
        _ffmpeg(plain, {"lowres": "3", "err_detect": "explode"})
    except av.error.InvalidDataError:
        return True
    except (av.error.FFmpegError, ValueError):
        return False  # a kind of JPEG that it does not decode
    return False


def _despite_damage(plain: PlainJpeg, container: Container) -> np.ndarray:
    """The pixels of a JPEG that ends early, grey where it does, or that has errors.

    FFmpeg stops a scan at an error; libjpeg goes on, and prints a line on standard error.
    """
    part = _what_is_there(plain, container)
    if part is not None:
        less = replace(plain, stream=plain.stream[: -min(TAIL, len(plain.stream) // 4)])
        fewer = _what_is_there(less, container)
        if fewer is None or not np.array_equal(part, fewer):
            return part  # it came to the end
    try:
        return _opencv(plain.stream + JPEG_END, container)
    except VideoError:
        if part is None:
            raise
        return part


def _what_is_there(plain: PlainJpeg, container: Container) -> np.ndarray | None:
    """The pixels that FFmpeg finds in a JPEG; None where it finds none."""
    import av  # noqa: PLC0415 -- as above

    try:
        picture = _ffmpeg(plain, {})
    except (av.error.FFmpegError, ValueError):
        return None
    if picture is None or (picture.width, picture.height) != (container.width, container.height):
        return None
    _grey_what_is_empty(picture)
    return picture.to_ndarray(format="gray" if container.channels == 1 else "bgr24", threads=1)


def _ffmpeg(plain: PlainJpeg, options: dict[str, str]) -> av.VideoFrame | None:
    from av.codec import CodecContext  # noqa: PLC0415 -- as above
    from av.packet import Packet  # noqa: PLC0415

    codec = CodecContext.create("mjpeg", "r")
    codec.options = options
    codec.thread_count = 1
    # FFmpeg takes a picture of more than four blocks a byte, as a flat one is, for a damaged one
    padding = bytes(max(0, plain.blocks // 4 + 64 - len(plain.stream)))
    frames = [*codec.decode(Packet(plain.stream + JPEG_END + padding)), *codec.decode(None)]
    return frames[0] if frames else None


def _grey_what_is_empty(picture: av.VideoFrame) -> None:
    """Paint the samples that were never decoded, which are zero in every plane."""
    from mien.runtime.video.formats import format_layout  # noqa: PLC0415 -- as above
    from mien.runtime.video.planes import plane_views  # noqa: PLC0415

    layout = format_layout(picture.format.name)
    if layout is None:
        return
    picture.make_writable()
    luma, *chroma = plane_views(picture, layout, writable=True)
    if not chroma:
        if not luma[-1].any():  # of black rows at the end some may be meant
            luma[-_rows_alike(luma) :] = GREY
        return
    empty = ~(chroma[0] | chroma[1]).astype(bool)  # no colour has this chroma
    across, down = layout.planes[1][1]
    seen = empty.repeat(down, 0).repeat(across, 1)[: luma.shape[0], : luma.shape[1]]
    for plane, where in ((luma, seen), (chroma[0], empty), (chroma[1], empty)):
        plane[where] = GREY


def _rows_alike(pixels: np.ndarray) -> int:
    """How many rows at the end are alike."""
    rows = pixels.reshape(len(pixels), -1)
    alike = np.all(rows == rows[-1], axis=1)
    return len(rows) if alike.all() else int(np.argmin(alike[::-1]))


def _lost_rows(pixels: np.ndarray, state: str) -> str:
    """How much of a picture is missing: decoders fill what they have not got with one colour."""
    lost = _rows_alike(pixels)
    if lost < 2:
        return f"{state}: some of the detail is missing"
    return f"{state}: about {lost} of {len(pixels)} rows are missing"
