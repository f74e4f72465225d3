"""BMP, GIF and JPEG 2000 files: what they declare, and how they are written again.

OpenCV reads and writes BMP and JPEG 2000. It would give a GIF a palette of its own, which changes
every pixel; FFmpeg keeps the file's.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.engines.errors import VideoError
from mien.runtime.pictures.container import MAX_PARTS, Container
from mien.runtime.pictures.metadata import FURTHER, has_picture, named, plain_xmp

if TYPE_CHECKING:
    from av.container import OutputContainer

BMP_HEADERS: Final = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
BMP_RESOLUTION: Final = slice(38, 46)
JP2_SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM: Final = b"\xff\x4f\xff\x51"
JP2_XMP: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
JP2_KEPT: Final = frozenset((b"uuid", b"xml ", b"uinf"))
JP2_DECODER_BYTES: Final = 5  # for each sample, besides it; measured at 12 megapixels
COLOURS_AT_ONCE: Final = 1 << 14


def read_bmp(data: bytes) -> Container:
    """What a BMP file declares. Raises VideoError (without the file's name)."""
    header = int.from_bytes(data[14:18], "little")
    is_old = header == 12
    size = 2 if is_old else 4
    width = int.from_bytes(data[18 : 18 + size], "little", signed=not is_old)
    height = abs(int.from_bytes(data[18 + size : 18 + 2 * size], "little", signed=not is_old))
    bits = int.from_bytes(data[24:26] if is_old else data[28:30], "little")
    packing = 0 if is_old else int.from_bytes(data[30:34], "little")
    if bits not in (1, 4, 8, 16, 24, 32) or packing not in (0, 1, 2, 3, 6) or width < 1:
        raise VideoError("is a BMP of an unknown kind; its header may be damaged")
    start, row = int.from_bytes(data[10:14], "little"), (width * bits + 31) // 32 * 4
    if packing in (0, 3, 6) and start + row * height > len(data):
        raise VideoError("is a BMP that is cut short: it ends before its pixels do")
    # four bytes a pixel without a mask for alpha are three and one that nobody looks at
    mask = int.from_bytes(data[66:70], "little") if header >= 56 and packing in (3, 6) else 0
    has_profile = header == 124 and int.from_bytes(data[126:130], "little") > 0
    return Container(
        "bmp",
        width,
        height,
        1,
        () if is_old else (data[BMP_RESOLUTION],),
        4 if bits == 32 and mask else 3 if bits > 8 else 0,
        lossless=True,
        left_out=("colour profile",) if has_profile else (),
        pixel_bytes=4,
    )


def bmp_with_metadata(encoded: bytes | memoryview, metadata: tuple[bytes, ...]) -> bytes:
    """The BMP `encoded` with the resolution of its source."""
    data = bytes(encoded)
    if not metadata:
        return data
    return data[: BMP_RESOLUTION.start] + metadata[0] + data[BMP_RESOLUTION.stop :]


def read_gif(data: bytes) -> Container:
    """What a GIF of one picture declares. Raises VideoError (without the file's name)."""
    if len(data) < 13:
        raise VideoError("is a GIF that is cut short within its header")
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    palette, at = _gif_palette(data, 10, 13)
    pictures, clear = 0, -1
    left_out: tuple[str, ...] = ()
    for kind, start, end in _gif_blocks(data, at):
        if kind == b"!" and data[start] == 0xF9 and not pictures and data[start + 2] & 1:
            clear = data[start + 5]
        if kind == b"!" and data[start] in (0xFE, 0xFF) and b"NETSCAPE" not in data[start:end]:
            left_out = ("comments and XMP",)
        if kind == b",":
            pictures += 1
            own, _ = _gif_palette(data, start + 8, start + 9)
            palette = own or palette
        if pictures > 1:
            raise VideoError("is an animated GIF; mien edits single pictures and videos")
        if end > len(data):
            raise VideoError("is a GIF that is cut short: it ends before its pixels do")
    if not pictures or not palette:
        raise VideoError("is a GIF without a picture in it; it may be cut short")
    return Container(
        "gif",
        width,
        height,
        1,
        (palette, bytes([clear]) if clear >= 0 else b""),
        4 if clear >= 0 else 3,
        left_out=left_out,
        pixel_bytes=4,
        working_bytes=5 * width * height,
    )


def _gif_palette(data: bytes, flags_at: int, at: int) -> tuple[bytes, int]:
    """The palette that the flags announce, and where what follows it begins."""
    flags = data[flags_at] if flags_at < len(data) else 0
    end = at + (3 * (2 << (flags & 7)) if flags & 0x80 else 0)
    return data[at:end], end


def _gif_blocks(data: bytes, at: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of every block, and where it begins, behind its letter, and ends."""
    for _ in range(MAX_PARTS):
        kind = data[at : at + 1]
        if kind not in (b"!", b","):
            return
        start = at + 1
        at = start + 1 if kind == b"!" else _gif_palette(data, start + 8, start + 9)[1] + 1
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        if at > len(data) + 1 or start + 9 > len(data):
            raise VideoError("is a GIF that is cut short")
        yield kind, start, at


def decode_gif(data: bytes, container: Container) -> np.ndarray:
    """The pixels of a GIF that `read_gif` has read: BGR, or BGRA where some are transparent."""
    import av  # noqa: PLC0415 -- takes a while, and of the pictures few need it

    try:
        with av.open(io.BytesIO(data), format="gif") as file:
            frame = next(file.decode(video=0), None)
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError("is a GIF that cannot be decoded; it may be damaged") from error
    if frame is None or (frame.width, frame.height) != (container.width, container.height):
        raise VideoError("is a GIF that cannot be decoded; it may be damaged")
    pixels = frame.to_ndarray(format="bgra", threads=1)
    # a picture smaller than its canvas leaves some of that transparent
    opaque = container.channels == 3 and bool((pixels[..., 3] == 255).all())
    return np.ascontiguousarray(pixels[..., :3]) if opaque else pixels


def encode_gif(pixels: np.ndarray, container: Container) -> bytes:
    """A GIF of the pixels in the palette of its source."""
    palette = np.frombuffer(container.metadata[0], np.uint8).reshape(-1, 3)
    clear = container.metadata[1][0] if container.metadata[1] else -1
    has_alpha = pixels.shape[2] == 4
    if has_alpha and clear < 0:
        clear = min(len(palette), 255)
    allowed = np.array([index for index in range(len(palette)) if index != clear])
    indices = allowed[_nearest(pixels[..., :3], palette[allowed][:, ::-1])].astype(np.uint8)
    if has_alpha:
        indices[pixels[..., 3] == 0] = clear
    table = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
    table[:, 0] = 255
    table[: len(palette), 1:] = palette
    if has_alpha:
        table[clear] = 0
    return _written_gif(indices, table)


def _nearest(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The index of the nearest colour (n, 3) for each pixel (h, w, 3)."""
    codes = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    known, places = np.unique(codes, return_inverse=True)
    parts = np.stack([known >> 16, known >> 8 & 255, known & 255], 1).astype(np.int32)
    nearest = np.empty(len(known), np.int64)
    for start in range(0, len(known), COLOURS_AT_ONCE):
        part = parts[start : start + COLOURS_AT_ONCE, None]
        distances = ((part - colours.astype(np.int32)) ** 2).sum(2)
        nearest[start : start + COLOURS_AT_ONCE] = distances.argmin(1)
    found: np.ndarray = nearest[places.reshape(codes.shape)]
    return found


def _written_gif(indices: np.ndarray, table: np.ndarray) -> bytes:
    import av  # noqa: PLC0415 -- as above

    out = io.BytesIO()
    height, width = indices.shape
    file: OutputContainer = av.open(out, "w", format="gif", options={"loop": "-1"})
    with file:
        stream = file.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        pair: Any = (indices, table)  # PyAV takes both, and its types do not say so
        frame = av.VideoFrame.from_ndarray(pair, format="pal8")
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return out.getvalue()


def read_jp2(data: bytes) -> Container:
    """What a JPEG 2000 file declares. Raises VideoError (without the file's name)."""
    metadata: list[bytes] = []
    left_out: list[str] = []
    header, stream = b"", data
    if not data.startswith(CODESTREAM):
        stream = b""
        for kind, box in _jp2_boxes(data):
            if kind == b"jp2c" and not stream:
                stream = box
            elif kind == b"jp2h":
                header = box
            elif kind in JP2_KEPT:
                block = _plain_box(box, left_out)
                metadata += [block] if block else []
            elif kind in (b"jp2c", b"jpch", b"jplh"):
                left_out.append(FURTHER)
    at = stream.find(CODESTREAM)
    if at < 0 or len(stream) < at + 42:
        raise VideoError("is a JPEG 2000 without a picture in it; it may be cut short")
    size = stream[at + 8 :]
    numbers = [int.from_bytes(size[4 * i : 4 * i + 4], "big") for i in range(4)]
    width, height = numbers[0] - numbers[2], numbers[1] - numbers[3]
    channels = int.from_bytes(size[32:34], "big")
    parts = [tuple(size[34 + 3 * i : 37 + 3 * i]) for i in range(channels)]
    depth = (max((part[0] for part in parts if part), default=7) & 0x7F) + 1
    plain = b"pclr" not in header and len(set(parts)) == 1 and depth in (8, 16)
    _check_jp2(channels, depth, plain=plain)
    return Container(
        "jp2",
        width,
        height,
        1,
        (header, *metadata),
        channels,
        lossless=_is_reversible(stream[at:]),
        left_out=named(left_out),
        pixel_bytes=channels * depth // 8,
        working_bytes=width * height * channels * JP2_DECODER_BYTES,
    )


def _check_jp2(channels: int, depth: int, *, plain: bool) -> None:
    """Raise VideoError for what OpenCV does not read or write as it is."""
    if not plain or channels not in (1, 3, 4) or (channels == 1 and depth == 16):
        raise VideoError(
            f"is a JPEG 2000 of {channels} components of {depth} bits in a form that is not "
            "edited; convert it to PNG or TIFF first"
        )


def _is_reversible(stream: bytes) -> bool:
    place = stream.find(b"\xff\x52", 0, 1 << 16)  # the coding style; its last byte is the wavelet
    return place > 0 and stream[place + 13 : place + 14] == b"\1"


def _jp2_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the whole of every box."""
    at = 0
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        size = size or len(data) - at
        if size < 8 or at + size > len(data):
            raise VideoError("is a JPEG 2000 that is cut short")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size


def _plain_box(box: bytes, left_out: list[str]) -> bytes:
    """A box of metadata without what shows the picture as it was, empty if it does itself."""
    if box[8:24] == JP2_XMP:
        clean = plain_xmp(box[24:])
        left_out += clean.left_out
        body = box[4:24] + clean.block
        return (len(body) + 4).to_bytes(4, "big") + body if clean.block else b""
    if has_picture(box):
        left_out.append("metadata with a picture in it")
        return b""
    return box


def jp2_with_metadata(
    encoded: bytes | memoryview, container: Container, *, keep_header: bool
) -> bytes:
    """The JP2 `encoded` with the boxes of its source; its codestream where that was all.

    keep_header: whether the source's sizes and colours are those of the picture.
    """
    boxes = dict(_jp2_boxes(bytes(encoded)))
    header, *metadata = container.metadata
    if not header:
        stream = boxes[b"jp2c"]
        return stream[stream.find(CODESTREAM) :]
    kept = header if keep_header else boxes[b"jp2h"]
    return b"".join([JP2_SIGNATURE, boxes[b"ftyp"], kept, *metadata, boxes[b"jp2c"]])
