"""AVIF and HEIC files: what they declare, and their pixels.

OpenCV reads and writes AVIF of 8, 10 and 12 bits, and takes EXIF, XMP and a colour profile to
write; of a file it reads it gives EXIF alone (5.0), and it leaves the pixels as they are stored.
What else an AVIF says is therefore read here. HEIC takes the package pillow-heif (libheif), which
gives the pixels as they are displayed, put together from their tiles.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.engines.errors import VideoError
from mien.engines.system.install import extras_line, packages_line
from mien.runtime.pictures.boxes import (
    MAX_BOXES,
    Box,
    BoxReader,
    Items,
    find_box,
    item_content,
    read_items,
)
from mien.runtime.pictures.container import EXIF_HEADER, Container, exif_with_orientation
from mien.runtime.pictures.metadata import (
    DEPTH,
    FURTHER,
    GAIN_MAP,
    THUMBNAIL,
    VIDEO,
    named,
    plain_exif,
    plain_xmp,
)

if TYPE_CHECKING:
    from pillow_heif import HeifFile, HeifImage

AVIF_BRANDS: Final = frozenset((b"avif", b"avio"))
HEIC_BRANDS: Final = frozenset((b"heic", b"heix", b"heim", b"heis", b"hev1"))
SEQUENCE_BRANDS: Final = frozenset((b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"))
STILL_BRANDS: Final = AVIF_BRANDS | HEIC_BRANDS | {b"mif1", b"mif2", b"miaf"}
# As libavif has EXIF's orientations: quarter turns against the clock, then the axis of a mirror,
# 0 where top and bottom change places.
TURNS: Final = {
    1: (0, None),
    2: (0, 1),
    3: (2, None),
    4: (0, 0),
    5: (1, 0),
    6: (3, None),
    7: (3, 0),
    8: (1, None),
}
QUARTER: Final = np.array([[0, 1], [-1, 0]])  # (x, y) after a turn against the clock
MIRRORS: Final = {0: np.array([[1, 0], [0, -1]]), 1: np.array([[-1, 0], [0, 1]])}
AUXILIARY: Final = {b"hdrgainmap": GAIN_MAP, b":depth": DEPTH, b"semantic": DEPTH, b"matte": DEPTH}
GRID_FROM_PX: Final = 4096  # a side from which a HEIC is written in tiles, as cameras do
TILE_PX: Final = 1024
AVIF_DECODER_BYTES: Final = 15  # for each pixel of 8 bits, besides it; measured at 12 megapixels
# As fine and as small as libheif's own choice, `slow`, in half the time.
PRESET: Final = "medium"


def brands(head: bytes) -> frozenset[bytes]:
    """The brands that the beginning of a file of ISO boxes states, empty for other files."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(len(head), int.from_bytes(head[:4], "big"))
    return frozenset(head[at : at + 4] for at in (8, *range(16, end - 3, 4)))


def check_still(head: bytes) -> None:
    """Raise VideoError for a file of several pictures with a timing of their own."""
    found = brands(head)
    if b"avis" in found and head[8:12] == b"avis":
        raise VideoError("is an animated AVIF; mien edits single pictures and videos")
    if head[8:12] in SEQUENCE_BRANDS:
        raise VideoError("is an image sequence (HEIF); mien edits single pictures and videos")


def read_avif(data: bytes) -> Container:
    """What an AVIF file declares. Raises VideoError (without the file's name)."""
    check_still(data[:64])
    items = read_items(data)
    _check_whole(data, items)
    properties = items.properties.get(items.primary, [])
    sizes = [_size_wh(data, box) for box in properties if box[0] == b"ispe"]
    if not sizes:
        raise VideoError("is an AVIF without a picture in it; it may be cut short")
    if any(box[0] == b"clap" for box in properties):
        raise VideoError("is an AVIF with a clean aperture (a crop); convert it first")
    depths = [data[box[1] + 5] for box in properties if box[0] == b"pixi" and box[2] > box[1] + 5]
    channels = next((data[box[1] + 4] for box in properties if box[0] == b"pixi"), 3)
    auxiliary = [kind for kind in _auxiliary(data, items) if kind]
    channels += "alpha" in auxiliary
    left_out = [kind for kind in auxiliary if kind != "alpha"]
    left_out += [THUMBNAIL] * any(kind == b"thmb" for kind, _, _ in items.references)
    left_out += [GAIN_MAP] * (b"tmap" in items.kinds.values()) + _behind(data)
    metadata = _avif_metadata(data, items, properties, left_out)
    depth = depths[0] if depths else 8
    width, height = sizes[0]
    return Container(
        "avif",
        width,
        height,
        _orientation(data, properties),
        metadata,
        channels if channels in (1, 3, 4) else 4,
        left_out=named(left_out),
        pixel_bytes=(4 if channels in (2, 4) else channels) * (2 if depth > 8 else 1),
        working_bytes=width * height * (2 if depth > 8 else 1) * AVIF_DECODER_BYTES,
        depth=depth if depth > 8 else 0,
        colours=_colours(data, properties),
    )


def _behind(data: bytes) -> list[str]:
    """The video of a motion photo, where there is one: in a box that Google and Samsung write."""
    return [VIDEO] * (find_box(data, 0, len(data), b"mpvd") is not None)


def _check_whole(data: bytes, items: Items) -> None:
    """Raise VideoError where a box or an item reaches beyond the end of the file."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(data):
            break
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at += max(8, size or len(data) - at)
    ends = [start + length for parts in items.places.values() for start, length in parts]
    if at != len(data) or max(ends, default=0) > len(data):
        raise VideoError("is a picture that is cut short: it ends before its pixels do")


def _size_wh(data: bytes, box: Box) -> tuple[int, int]:
    reader = BoxReader(data, box).full()
    return reader.number(4), reader.number(4)


def _auxiliary(data: bytes, items: Items) -> list[str]:
    """What further pictures of the primary one show: `alpha`, or what is left out."""
    kinds = []
    for kind, source, to in items.references:
        if kind == b"auxl" and items.primary in to:
            names = [
                data[b[1] + 4 : b[2]] for b in items.properties.get(source, []) if b[0] == b"auxC"
            ]
            kinds.append(_auxiliary_kind(names[0] if names else b""))
    return kinds


def _auxiliary_kind(name: bytes) -> str:
    if b"alpha" in name or b"auxid:1" in name:
        return "alpha"
    return next((said for word, said in AUXILIARY.items() if word in name.lower()), FURTHER)


def _avif_metadata(
    data: bytes, items: Items, properties: list[Box], left_out: list[str]
) -> tuple[bytes, ...]:
    """EXIF, XMP and the colour profile, each with four letters before it."""
    metadata: list[bytes] = []
    for number, kind in items.kinds.items():
        content = item_content(data, items, number) if kind in (b"Exif", b"xmp ") else b""
        if not content:
            continue
        if kind == b"Exif":
            start = 4 + int.from_bytes(content[:4], "big")
            clean = plain_exif(content[start:].removeprefix(EXIF_HEADER))
        else:
            clean = plain_xmp(content)
        left_out += clean.left_out
        if clean.block and not any(kind == other[:4] for other in metadata):
            metadata.append(kind + clean.block)
    metadata += [
        b"ICC " + data[box[1] + 4 : box[2]]
        for box in properties
        if box[0] == b"colr" and data[box[1] : box[1] + 4] in (b"prof", b"rICC")
    ]
    return tuple(metadata)


def _colours(data: bytes, properties: list[Box]) -> tuple[int, int] | None:
    for box in properties:
        if box[0] == b"colr" and data[box[1] : box[1] + 4] == b"nclx":
            reader = BoxReader(data, (b"", box[1] + 4, box[2]))
            return reader.number(2), reader.number(2)
    return None


def _orientation(data: bytes, properties: list[Box]) -> int:
    """The orientation (1..8) of all turns and mirrors together, in the order of the file."""
    whole = np.eye(2, dtype=int)
    for kind, start, end in properties:
        value = data[start] if end > start else 0
        if kind == b"irot":
            whole = np.linalg.matrix_power(QUARTER, value & 3) @ whole
        elif kind == b"imir":
            whole = MIRRORS[value & 1] @ whole
    for orientation, (turns, axis) in TURNS.items():
        each = np.linalg.matrix_power(QUARTER, turns)
        if np.array_equal(whole, each if axis is None else MIRRORS[axis] @ each):
            return orientation
    return 1


def encode_avif(pixels: np.ndarray, container: Container, quality: int) -> bytes:
    """An AVIF of the pixels, with the container's metadata and colours. Raises VideoError."""
    if not hasattr(cv2, "imencodeWithMetadata") or not cv2.haveImageWriter(".avif"):
        raise VideoError(
            "this OpenCV cannot write AVIF; "
            + packages_line("opencv-python-headless", options="--upgrade")
        )
    blocks = {block[:4]: block[4:] for block in container.metadata}
    exif = exif_with_orientation(blocks.get(b"Exif", b""), container.orientation)
    # libavif writes irot and imir by the orientation that it finds in EXIF
    wanted = (
        (cv2.IMAGE_METADATA_EXIF, exif),
        (cv2.IMAGE_METADATA_XMP, blocks.get(b"xmp ", b"")),
        (cv2.IMAGE_METADATA_ICCP, blocks.get(b"ICC ", b"")),
    )
    given = [(kind, np.frombuffer(block, np.uint8)) for kind, block in wanted if block]
    flags = [cv2.IMWRITE_AVIF_QUALITY, quality, cv2.IMWRITE_AVIF_DEPTH, container.depth or 8]
    done, encoded = cv2.imencodeWithMetadata(
        ".avif", pixels, [kind for kind, _ in given], [block for _, block in given], flags
    )
    if not done:
        raise VideoError("the edited picture cannot be encoded as AVIF")
    return _with_colours(bytes(encoded.data), container)


def _with_colours(data: bytes, container: Container) -> bytes:
    """The file with the primaries and transfer that the source states; its matrix is its own."""
    place = data.find(b"colrnclx", 0, 1 << 20)
    if container.colours is None or place < 0:
        return data
    primaries, transfer = (value.to_bytes(2, "big") for value in container.colours)
    return data[: place + 8] + primaries + transfer + data[place + 12 :]


# What libheif says of a picture that it takes again on writing; EXIF and XMP are looked into.
SETTINGS: Final = (
    *("chroma", "nclx_profile", "icc_profile", "icc_profile_type", "pixel_aspect_ratio"),
    *("content_light_level", "mastering_display_colour_volume", "ambient_viewing_environment"),
    "nominal_diffuse_white_luminance",
)
_HEIF_ERRORS: Final = (ValueError, EOFError, SyntaxError, RuntimeError, OSError, MemoryError)


def _primary(data: bytes) -> tuple[HeifFile, HeifImage]:
    """The file and its main picture, not yet decoded. Raises VideoError."""
    try:
        import pillow_heif  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise VideoError(
            f"is a HEIC picture, which takes pillow-heif: {extras_line('heif')}"
        ) from error
    try:
        file = pillow_heif.open_heif(
            data, convert_hdr_to_8bit=False, bgr_mode=True, hdr_to_16bit=False
        )
        return file, file[file.primary_index]
    except IndexError as error:
        raise VideoError("is a HEIC without a picture in it; it may be cut short") from error
    except _HEIF_ERRORS as error:
        raise VideoError(f"is a HEIC that cannot be read: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def read_heic(data: bytes) -> Container:
    """What a HEIC file declares, as it is displayed. Raises VideoError."""
    check_still(data[:64])
    file, picture = _primary(data)
    width, height = picture.size
    info: dict[str, Any] = picture.info
    letters, _, bits = picture.mode.partition(";")
    left_out = [FURTHER] * (len(file) > 1) + [THUMBNAIL] * bool(info["thumbnails"])
    left_out += [DEPTH] * bool(info["depth_images"]) + _behind(data)
    for name in info.get("aux", {}):
        kind = _auxiliary_kind(name.encode())
        left_out += [kind] if kind != "alpha" else []
    metadata: list[bytes] = []
    for name, clean in (
        (b"Exif", plain_exif((info["exif"] or b"").removeprefix(EXIF_HEADER))),
        (b"xmp ", plain_xmp(info.get("xmp", b""))),
    ):
        left_out += clean.left_out
        if clean.block:
            metadata.append(name + clean.block)
    tiles = info.get("tiling") or {}
    depth = info["bit_depth"] if bits else 8
    size = 2 if bits else 1
    return Container(
        "heic",
        width,
        height,
        1,  # the pixels come turned
        tuple(metadata),
        len(letters),
        left_out=named(left_out),
        pixel_bytes=len(letters) * size,
        # beside the pixels: those that libheif made them of, and its planes
        working_bytes=width * height * size * (len(letters) + 2),
        depth=depth if depth > 8 else 0,
        premultiplied=letters.endswith("a"),
        settings={key: info[key] for key in SETTINGS if info.get(key) is not None},
        tile_px=tiles.get("tile_width", 0),
    )


def decode_heic(data: bytes, container: Container) -> np.ndarray:
    """The pixels of a file that `read_heic` has read, BGR. Raises VideoError."""
    _, picture = _primary(data)
    try:
        samples, stride = picture.data, picture.stride
    except _HEIF_ERRORS as error:
        raise VideoError(f"cannot be decoded: {_reason(error)}") from error
    dtype = np.dtype(np.uint16 if ";" in picture.mode else np.uint8)
    rows = np.frombuffer(samples, dtype).reshape(container.height, stride // dtype.itemsize)
    pixels = rows[:, : container.width * container.channels]
    return pixels.reshape(container.height, container.width, container.channels)


def is_in_tiles(container: Container) -> bool:
    """Whether a HEIC is written in tiles, which takes the memory of one: not where it has alpha."""
    side = max(container.width, container.height)
    return container.channels in (1, 3) and (bool(container.tile_px) or side >= GRID_FROM_PX)


def encode_heic(pixels: np.ndarray, container: Container, quality: int) -> bytes:
    """A HEIC of the pixels, with the container's metadata. Raises VideoError."""
    import pillow_heif  # noqa: PLC0415 -- an extra; the picture was read with it

    height, width = pixels.shape[:2]
    letters = {1: "L", 2: "LA", 3: "BGR", 4: "BGRA"}[1 if pixels.ndim == 2 else pixels.shape[2]]
    if container.premultiplied:
        letters = letters.replace("A", "a")
    depth = container.depth or 8
    mode = letters if depth == 8 else f"{letters};{depth}"
    blocks = {block[:4]: block[4:] for block in container.metadata}
    exif = blocks.get(b"Exif")
    try:
        file = pillow_heif.from_bytes(
            mode, (width, height), np.ascontiguousarray(pixels).data.cast("B")
        )
        file[0].info.update(container.settings)
        out = io.BytesIO()
        file.save(
            out,
            quality=quality,
            bit_depth=depth,
            exif=None if exif is None else exif_with_orientation(exif, 1),
            xmp=blocks.get(b"xmp "),
            tile_size=(container.tile_px or TILE_PX) if is_in_tiles(container) else 0,
            chroma=container.settings.get("chroma", 420),
            enc_params={"preset": PRESET},
        )
    except _HEIF_ERRORS as error:
        raise VideoError(f"the edited picture cannot be encoded: {_reason(error)}") from error
    return out.getvalue()
