"""AVIF, HEIC, TIFF, BMP, GIF and JPEG 2000, read, edited and written again."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.engines.errors import VideoError
from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.frame import Frame, Plane
from mien.runtime.pictures import png as picture_png
from mien.runtime.pictures.container import Container, Kind, exif_orientation, exif_with_orientation
from mien.runtime.pictures.metadata import FURTHER, THUMBNAIL, VIDEO, TiffBlock
from mien.runtime.pictures.picture import (
    Picture,
    decode_picture,
    encode_picture,
    is_picture,
    left_out_note,
    needed_memory,
    picture_suffix,
    read_picture,
    side_by_side,
)
from mien.runtime.pictures.png import png_chunk

ICC = zlib.compress(b"made up")  # any bytes
XMP = b"<x:xmpmeta>made up</x:xmpmeta>"


def scene(height: int = 64, width: int = 96) -> np.ndarray:
    """A smooth colourful picture, uint8 BGR, with nothing symmetric about it."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [120 + 80 * np.sin(x / 9 + y / 17), 60 + x, 200 - 2 * y]
    return np.clip(np.dstack(planes), 0, 255).astype(np.uint8)


def translucent() -> np.ndarray:
    return np.dstack([scene(), 255 - scene()[..., 1]])


def deep(pixels: np.ndarray, bits: int = 16) -> np.ndarray:
    return (pixels.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)


def opencv(suffix: str, pixels: np.ndarray, *flags: int) -> bytes:
    return cv2.imencode(suffix, pixels, list(flags))[1].tobytes()


def pillow(kind: str, pixels: np.ndarray, mode: str | None = None, **options: object) -> bytes:
    """A picture as Pillow writes it. pixels: BGR, BGRA, or (H, W[, 2]) as they are."""
    if pixels.ndim == 3 and pixels.shape[2] > 2:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    out = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int) -> bytes:
    field = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 0x0100, 4, 1, 7) + field + bytes(4)


def heic(pixels: np.ndarray, mode: str = "BGR", **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    size_wh = (pixels.shape[1], pixels.shape[0])
    pillow_heif.encode(mode, size_wh, np.ascontiguousarray(pixels).tobytes(), out, **options)
    return out.getvalue()


def inverted_corner(frame: Frame) -> Frame:
    """`frame` with an inverted corner, standing for an edit."""
    samples = frame.planes[0].samples.copy()
    samples[:16, :16] = (1 << frame.layout.depth) - 1 - samples[:16, :16]
    return replace(frame, planes=(Plane(samples, (1, 1)),))


def again(data: bytes) -> tuple[Picture, Picture, bytes]:
    """A picture, what it is after an edit is written, and that file."""
    picture = decode_picture(data)
    result = encode_picture(picture, inverted_corner(picture.frame))
    return picture, decode_picture(result), result


def gray() -> np.ndarray:
    return scene()[..., 1].copy()


GRAY_ALPHA = np.dstack([gray(), scene()[..., 0]])
LOSSLESS: dict[str, Callable[[], bytes]] = {
    "tiff": lambda: pillow("TIFF", scene()),
    "tiff with alpha": lambda: pillow("TIFF", translucent()),
    "tiff grey": lambda: pillow("TIFF", gray()),
    "tiff grey and alpha": lambda: pillow("TIFF", GRAY_ALPHA),
    "tiff of two colours": lambda: pillow("TIFF", gray(), "1", compression="group4"),
    "tiff with a palette": lambda: pillow("TIFF", scene(), "P"),
    "tiff in tiles of LZW": lambda: pillow("TIFF", scene(), compression="tiff_lzw"),
    "tiff of jpeg": lambda: pillow("TIFF", scene(), compression="jpeg"),
    "tiff deep": lambda: opencv(".tif", deep(scene())),
    "tiff deep grey": lambda: opencv(".tif", deep(gray())),
    "tiff deep with alpha": lambda: opencv(".tif", deep(translucent())),
    "bmp": lambda: opencv(".bmp", scene()),
    "bmp with alpha": lambda: opencv(".bmp", translucent()),
    "bmp grey": lambda: opencv(".bmp", gray()),
    "bmp with a palette": lambda: pillow("BMP", scene(), "P"),
    "gif grey": lambda: pillow("GIF", gray()),
    "jp2": lambda: opencv(".jp2", scene()),
    "jp2 with alpha": lambda: opencv(".jp2", translucent()),
    "jp2 deep": lambda: opencv(".jp2", deep(scene())),
    "jp2 grey": lambda: opencv(".jp2", gray()),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_sample_that_is_not_edited_stays(name: str) -> None:
    before, after, result = again(LOSSLESS[name]())
    assert after.container.kind == before.container.kind
    assert after.frame.layout == before.frame.layout
    samples, kept = before.frame.planes[0].samples, after.frame.planes[0].samples
    assert kept.dtype == samples.dtype
    assert np.array_equal(kept[16:], samples[16:])
    assert (kept[:16, :16] != samples[:16, :16]).mean() > 0.5
    assert (before.alpha is None) == ("alpha" not in name)
    if before.alpha is not None:
        assert after.alpha is not None
        assert np.array_equal(after.alpha, before.alpha)
    assert before.frame.layout.depth == (16 if "deep" in name else 8)
    other = Image.open(io.BytesIO(result))  # another reader takes it
    other.load()
    assert other.size == (before.container.width, before.container.height)
    if before.alpha is not None:
        assert "A" in other.mode
        if "deep" not in name:
            assert np.array_equal(np.asarray(other.getchannel("A")), before.alpha)


LOSSY: dict[str, tuple[Callable[[], bytes], int]] = {
    "avif": (lambda: opencv(".avif", scene()), 8),
    "avif with alpha": (lambda: opencv(".avif", translucent()), 8),
    "avif grey": (lambda: opencv(".avif", gray()), 8),
    "avif deep": (lambda: opencv(".avif", deep(scene(), 10), cv2.IMWRITE_AVIF_DEPTH, 10), 10),
    "avif deeper": (lambda: opencv(".avif", deep(scene(), 12), cv2.IMWRITE_AVIF_DEPTH, 12), 12),
    "heic": (lambda: heic(scene()), 8),
    "heic with alpha": (lambda: heic(translucent(), "BGRA"), 8),
    "heic grey": (lambda: heic(gray(), "L"), 8),
    "heic deep": (lambda: heic(deep(scene()), "BGR;16"), 10),
    "heic in tiles": (lambda: heic(scene(160, 240), tile_size=64), 8),
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_picture_is_much_the_same_afterwards(name: str) -> None:
    make, depth = LOSSY[name]
    before, after, _ = again(make())
    assert after.container.kind == before.container.kind == name.split(maxsplit=1)[0]
    assert after.frame.layout == before.frame.layout
    assert before.frame.layout.depth == depth
    samples = before.frame.planes[0].samples.astype(int)
    difference = np.abs(after.frame.planes[0].samples.astype(int) - samples)
    assert difference[24:, 24:].mean() < 3 << (depth - 8)
    assert difference[2:14, 2:14].mean() > 20 << (depth - 8)
    assert (before.alpha is None) == ("alpha" not in name)
    if before.alpha is not None:
        assert after.alpha is not None
        assert np.abs(after.alpha.astype(int) - before.alpha).mean() < 3
    if "tiles" in name:
        assert (before.container.width, before.container.height) == (240, 160)
        assert after.container.tile_px == 64


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_the_original_can_stand_beside_the_edit(name: str) -> None:
    picture = decode_picture(LOSSLESS[name]() if name in LOSSLESS else LOSSY[name][0]())
    both = side_by_side(picture.frame, inverted_corner(picture.frame))
    after = decode_picture(encode_picture(picture, both))
    assert (after.frame.width, after.frame.height) == (both.width, both.height)
    assert after.frame.layout == picture.frame.layout
    original = after.frame.planes[0].samples[:, : picture.frame.width].astype(int)
    difference = np.abs(original - picture.frame.planes[0].samples)
    assert difference[24:].mean() < (0.1 if name in LOSSLESS else 3 << (both.layout.depth - 8))
    assert (after.alpha is None) == (picture.alpha is None)


def test_the_video_of_a_heic_is_left_out() -> None:
    data = heic(scene()) + (110).to_bytes(4, "big") + b"mpvd" + bytes(102)
    before, _, result = again(data)
    assert before.container.left_out == (VIDEO,)
    assert b"mpvd" not in result


def test_an_avif_is_turned_as_other_readers_turn_it() -> None:
    for orientation in range(1, 9):
        data = pillow("AVIF", scene(), quality=95, exif=b"Exif\0\0" + exif(orientation))
        before, after, result = again(data)
        assert before.container.orientation == after.container.orientation == orientation
        shown = np.rot90(before.frame.planes[0].samples, -before.frame.rotation).astype(int)
        shown = shown[:, ::-1] if before.frame.mirrored else shown
        expected = exif_turned(scene(), orientation)
        assert np.abs(shown - expected).mean() < 3
        # libavif's own reading of the result
        written = cv2.imdecode(np.frombuffer(result, np.uint8), cv2.IMREAD_COLOR)
        assert written.shape == expected.shape


def exif_turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as OpenCV turns a JPEG of that orientation."""
    encoded = opencv(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, 100)
    block = b"Exif\0\0" + exif(orientation)
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    whole = encoded[:2] + segment + encoded[2:]
    return cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR)


def test_metadata_of_an_avif_is_kept() -> None:
    data = pillow("AVIF", scene(), exif=b"Exif\0\0" + exif(1), xmp=XMP, icc_profile=ICC)
    before, after, result = again(data)
    assert after.container.metadata == before.container.metadata
    assert {block[:4] for block in after.container.metadata} >= {b"xmp ", b"ICC "}
    assert ICC in result
    stated = opencv(".avif", scene())
    place = stated.index(b"colrnclx") + 8
    stated = stated[:place] + struct.pack(">HH", 12, 16) + stated[place + 4 :]
    assert again(stated)[1].container.colours == (12, 16)


def test_metadata_of_a_heic_is_kept_and_it_stays_upright() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    data = heic(scene(), exif=exif(6), xmp=XMP, icc_profile=ICC)
    assert pillow_heif.open_heif(data).size == (64, 96)
    _, after, result = again(data)
    assert (after.container.width, after.container.height) == (64, 96)
    assert (after.frame.rotation, after.frame.mirrored) == (0, False)
    info = pillow_heif.open_heif(result).info
    assert exif_orientation(info["exif"].removeprefix(b"Exif\0\0")) == 1
    assert info["xmp"] == XMP
    assert info["icc_profile"] == ICC
    turned = np.rot90(scene(), -1).astype(int)
    assert np.abs(after.frame.planes[0].samples.astype(int) - turned)[24:].mean() < 3


def test_a_heic_has_no_thumbnail_and_no_second_picture() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_bytes("BGR", (96, 64), scene().tobytes())
    file.add_frombytes("BGR", (96, 64), scene()[::-1].tobytes())
    out = io.BytesIO()
    file.save(out, thumbnails=[32])
    before, after, result = again(out.getvalue())
    assert set(before.container.left_out) == {THUMBNAIL}
    assert len(pillow_heif.open_heif(result)) == 1
    assert not pillow_heif.open_heif(result).info["thumbnails"]
    assert left_out_note(before) == ("left out of the result: thumbnail",)
    assert left_out_note(after) == ()


def test_a_heic_without_its_library_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = heic(scene())
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(VideoError, match=r"is a HEIC picture, .*: pip install .*\[heif\]"):
        decode_picture(data)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_tags_of_a_tiff_are_kept(order: str) -> None:
    data = tiff_with_tags(order)
    before, after, result = again(data)
    assert before.container.orientation == 6
    assert (before.frame.rotation, before.frame.mirrored) == (1, False)
    assert np.array_equal(before.frame.planes[0].samples[..., ::-1], scene())
    assert after.container.orientation == 6
    assert after.container.metadata == before.container.metadata
    shown = Image.open(io.BytesIO(result))
    assert shown.tag_v2[270] == "a caption"
    assert shown.tag_v2[282] == 300
    assert shown.tag_v2[34675] == b"profile"
    assert shown.getexif().get_ifd(34665) == {33434: 0.5, 37121: b"\1\2\3\0"}


def tiff_with_tags(order: str, more: bytes = b"", pages: int = 1, subfile: int = 1) -> bytes:
    """An uncompressed RGB TIFF whose place in memory and tags are known."""

    def pack(form: str, *values: int) -> bytes:
        return struct.pack(order + form, *values)

    pixels = scene().tobytes()
    head = (b"II*\0" if order == "<" else b"MM\0*") + pack("I", 8 + len(pixels))
    start = 8 + len(pixels)
    fields: list[tuple[int, int, int, bytes]] = [
        (256, 4, 1, pack("I", 96)),
        (257, 4, 1, pack("I", 64)),
        (258, 3, 3, pack("HHH", 8, 8, 8)),
        (259, 3, 1, pack("H", 1)),
        (262, 3, 1, pack("H", 2)),
        (270, 2, 10, b"a caption\0"),
        (273, 4, 1, pack("I", 8)),
        (274, 3, 1, pack("H", 6)),
        (277, 3, 1, pack("H", 3)),
        (278, 4, 1, pack("I", 64)),
        (279, 4, 1, pack("I", len(pixels))),
        (282, 5, 1, pack("II", 300, 1)),
        (34665, 4, 1, b"branch"),
        (34675, 7, 7, b"profile"),
    ]
    free = start + 2 + 12 * len(fields) + 4
    entries, behind = b"", b""
    for tag, kind, count, values in fields:
        stored = values
        if values == b"branch":
            place = free + len(behind)
            stored = pack("I", place)
            behind += pack("H", 2) + pack("HHII", 33434, 5, 1, place + 30)
            behind += pack("HHI", 37121, 7, 4) + b"\1\2\3\0" + pack("I", 0) + pack("II", 1, 2)
        elif len(values) > 4:
            stored = pack("I", free + len(behind))
            behind += values + bytes(len(values) & 1)
        entries += pack("HHI", tag, kind, count) + stored.ljust(4, b"\0")
    second = free + len(behind) if pages > 1 else 0
    data = head + pixels + pack("H", len(fields)) + entries + pack("I", second) + behind
    if pages > 1:
        small = pack("HHI", 254, 4, 1) + pack("I", subfile)
        data += pack("H", 1) + small + pack("I", 0)
    return data


def test_a_tiff_of_several_pages_is_refused_and_a_small_copy_left_out() -> None:
    with pytest.raises(VideoError, match="is a TIFF of 2 pages"):
        decode_picture(tiff_with_tags("<", pages=2, subfile=0))
    before, _, result = again(tiff_with_tags("<", pages=2, subfile=1))
    assert before.container.left_out == (THUMBNAIL,)
    assert len(list(TiffBlock(result).directories(4))) == 1


def test_a_gif_keeps_its_palette_and_what_is_clear() -> None:
    picture = Image.fromarray(scene()[..., ::-1]).quantize(64)
    out = io.BytesIO()
    picture.save(out, "GIF", transparency=9)
    before, after, _ = again(out.getvalue())
    assert before.alpha is not None
    assert after.alpha is not None
    assert (before.alpha == 0).any()
    assert np.array_equal(after.alpha, before.alpha)
    opaque = before.alpha > 0
    opaque[:16, :16] = False
    samples, kept = before.frame.planes[0].samples, after.frame.planes[0].samples
    assert np.array_equal(kept[opaque], samples[opaque])
    colours = {tuple(colour) for colour in samples.reshape(-1, 3)}
    assert {tuple(colour) for colour in kept.reshape(-1, 3)} <= colours | {(255, 255, 255)}


def canon_raw() -> bytes:
    whole = tiff_with_tags("<")
    return whole[:8] + b"CR\2\0" + whole[12:]


REFUSED = {
    "is an animated GIF": lambda: pillow(
        "GIF", gray(), save_all=True, append_images=[Image.fromarray(255 - gray())]
    ),
    "is an animated AVIF": lambda: pillow(
        "AVIF", scene(), save_all=True, append_images=[Image.fromarray(255 - scene())]
    ),
    "is a CMYK TIFF": lambda: pillow("TIFF", scene(), "CMYK"),
    "is a Lab TIFF": lambda: pillow("TIFF", scene(), "LAB"),
    "floating-point": lambda: pillow("TIFF", gray().astype(np.float32)),
    "is a BigTIFF": lambda: pillow("TIFF", scene(), big_tiff=True),
    "is a Photoshop file (PSD), which mien does not edit": lambda: b"8BPS\0\1" + bytes(80),
    "is a camera's raw picture; develop it": canon_raw,
    "is a camera's raw picture, which": lambda: b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(80),
    "is a TIFF that is cut short": lambda: opencv(".tif", scene())[:-400],
    "is a BMP that is cut short": lambda: opencv(".bmp", scene())[:-400],
    "is a GIF that is cut short": lambda: pillow("GIF", gray())[:-400],
    "is a JPEG 2000 of 1 components of 16 bits": lambda: opencv(".jp2", deep(gray())),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_not_edited_is_refused_by_its_own_name(
    said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(REFUSED[said]())
    if said == "is a TIFF that is cut short":  # OpenCV writes the directory last
        path.write_bytes(tiff_with_tags("<").replace(struct.pack("<I", 18432), b"\xff\xff\xff\0"))
    with pytest.raises(VideoError) as raised:
        assert is_picture(path) and read_picture(path)  # noqa: PT018 -- whichever says it
    message = str(raised.value)
    assert said in message
    assert message.startswith(str(path))
    assert "\n" not in message
    assert capfd.readouterr().err == ""


def test_every_cut_of_a_file_is_a_picture_or_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    makers = [LOSSLESS[name] for name in ("tiff", "tiff deep", "bmp", "gif grey", "jp2")]
    makers += [LOSSY[name][0] for name in ("avif", "avif with alpha", "heic")]
    for make in makers:
        data = make()
        for length in [*range(0, 400, 23), *range(400, len(data), max(7, len(data) // 20))]:
            with contextlib.suppress(VideoError):
                decode_picture(data[:length])
    assert capfd.readouterr().err == ""


def test_a_heic_without_a_picture_in_it_is_refused() -> None:
    whole = heic(scene())
    with pytest.raises(VideoError, match="is a HEIC "):
        decode_picture(whole.replace(b"pitm", b"free").replace(b"hvc1", b"none"))


def test_a_name_fits_what_is_in_the_file(tmp_path: Path) -> None:
    files: dict[str, tuple[Callable[[], bytes], str | None]] = {
        "web.jpg": (lambda: opencv(".webp", scene()), ".webp"),
        "shot.png": (lambda: opencv(".jpg", scene()), ".jpg"),
        "bare": (lambda: opencv(".png", scene()), ".png"),
        "PHOTO.JPEG": (lambda: opencv(".jpg", scene()), ".JPEG"),
        "scan.tiff": (LOSSLESS["tiff"], ".tiff"),
        "photo.jpg": (LOSSY["avif"][0], ".avif"),
        "phone.heif": (LOSSY["heic"][0], ".heif"),
        "phone.avif": (LOSSY["heic"][0], ".heic"),
        "text.jpg": (lambda: b"text", None),
    }
    for name, (make, suffix) in files.items():
        path = tmp_path / name
        path.write_bytes(make())
        assert picture_suffix(path) == suffix, name


@pytest.mark.parametrize("kind", ["jpeg", "png", "heic"])
def test_a_picture_of_108_megapixels_fits_into_the_limit(kind: Kind) -> None:
    container = Container(
        kind,
        12000,
        9000,
        channels=3,
        pixel_bytes=3,
        working_bytes={"jpeg": 0, "png": 504_000_000, "heic": 540_000_000}[kind],
        tile_px=512 if kind == "heic" else 0,
    )
    file_bytes = {"jpeg": 50, "png": 180, "heic": 20}[kind] * 1_000_000
    assert needed_memory(container, file_bytes) < MAX_MEMORY


def test_a_very_large_jpeg_is_written_without_holding_its_coefficients() -> None:
    pixels = np.zeros((7200, 7200), np.uint8)
    pixels[::97] = 200
    progressive = opencv(".jpg", pixels, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    picture = decode_picture(progressive)
    assert picture.container.progressive
    after = decode_picture(encode_picture(picture, picture.frame))
    assert not after.container.progressive
    assert after.container.quality == picture.container.quality


def test_the_data_of_a_large_png_is_left_packed_where_it_is_sound(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = opencv(".png", scene())
    gray_alpha = pillow("PNG", GRAY_ALPHA)
    packed = zlib.compress(bytes(10) + scene().tobytes())
    place = whole.index(b"IDAT") + len(whole) // 2
    torn = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
    more = whole[:33] + png_chunk(b"IDAT", packed) + whole[33:]
    before = [decode_picture(data) for data in (whole, gray_alpha, torn)]
    monkeypatch.setattr(picture_png, "LARGE_DATA", 9000)
    after = [decode_picture(data) for data in (whole, gray_alpha, torn)]
    assert [picture.container.sound for picture in before] == [False, False, False]
    assert [picture.container.sound for picture in after] == [True, True, False]
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.frame.planes[0].samples, other.frame.planes[0].samples)
        assert one.lost == other.lost
    assert after[2].lost is not None
    assert not decode_picture(more).container.sound
    assert capfd.readouterr().err == ""


def test_what_belongs_to_the_unedited_picture_is_named_once() -> None:
    container = Container("jpeg", 1, 1, left_out=(THUMBNAIL, FURTHER))
    picture = Picture(decode_picture(opencv(".png", scene())).frame, None, container)
    assert left_out_note(picture) == ("left out of the result: thumbnail, further pictures",)


def test_an_orientation_is_put_into_any_exif() -> None:
    camera = b"II*\0\x08\0\0\0\2\0" + struct.pack("<HHII", 0x010F, 2, 4, 0x00474241)
    camera += struct.pack("<HHII", 0x0131, 2, 4, 0x00434241) + bytes(4)
    for block in (b"", camera, camera.replace(b"\x31\x01", b"\x12\x01")):
        for orientation in (2, 6, 8):
            whole = exif_with_orientation(block, orientation)
            assert exif_orientation(whole) == orientation
            tags = [entry.tag for entry in next(iter(TiffBlock(whole).directories(4))).entries]
            assert tags == sorted(tags)
            assert (0x010F in tags) == bool(block)
    assert exif_with_orientation(camera, 1) == camera
