from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.complaints import complaints
from mien.runtime.frame import Frame, Plane
from mien.runtime.picture import (
    Picture,
    is_picture,
    read_picture,
    side_by_side,
    write_picture,
)
from mien.runtime.picture_container import EXIF_HEADER, exif_orientation
from mien.runtime.picture_png import PNG_SIGNATURE, png_chunk

ICC = b"made up profile" * 9
XMP = b"<x:xmpmeta>made up</x:xmpmeta>"


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth colourful picture, uint8 BGR, with nothing symmetric about it."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [120 + 80 * np.sin(x / 9 + y / 17), 60 + 2 * x, 200 - 2 * y]
    return np.clip(np.dstack(planes), 0, 255).astype(np.uint8)


def exif(orientation: int, order: str = "<") -> bytes:
    """A TIFF block with two fields, the orientation second."""
    little = order == "<"
    number = lambda value, size: value.to_bytes(size, "little" if little else "big")  # noqa: E731
    field = lambda tag, value: number(tag, 2) + number(3, 2) + number(1, 4) + number(value, 2)  # noqa: E731
    head = (b"II" if little else b"MM") + number(42, 2) + number(8, 4) + number(2, 2)
    pad = b"\0\0"
    return head + field(0x0100, 7) + pad + field(0x0112, orientation) + pad + number(0, 4)


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def jpeg(pixels: np.ndarray, orientation: int = 1, quality: int = 92) -> bytes:
    """A JPEG with Exif, XMP and a colour profile."""
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    extra = segment(0xE1, EXIF_HEADER + exif(orientation))
    extra += segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    extra += segment(0xE2, b"ICC_PROFILE\0\1\1" + ICC)
    extra += segment(0xE2, b"MPF\0 an index of pictures that do not come along")
    return encoded[:20] + extra + encoded[20:]


def png(pixels: np.ndarray, orientation: int = 1) -> bytes:
    encoded = cv2.imencode(".png", pixels)[1].tobytes()
    profile = png_chunk(b"iCCP", b"mine\0\0" + zlib.compress(ICC))
    after = png_chunk(b"eXIf", exif(orientation, ">"))
    after += png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    return encoded[:33] + profile + encoded[33:-12] + after + encoded[-12:]


def webp(pixels: np.ndarray, orientation: int = 1, quality: int = 101) -> bytes:
    encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    chunk = lambda n, p: n + len(p).to_bytes(4, "little") + p + b"\0" * (len(p) & 1)  # noqa: E731
    height, width = pixels.shape[:2]
    flags = 0x2C + 0x10 * (pixels.ndim == 3 and pixels.shape[2] == 4)
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    start = encoded.index(b"VP8X") if b"VP8X" in encoded[:16] else None
    picture = encoded[12:] if start is None else encoded[30:]
    body = b"WEBP" + chunk(b"VP8X", bytes([flags, 0, 0, 0]) + canvas) + chunk(b"ICCP", ICC)
    body += picture + chunk(b"EXIF", exif(orientation)) + chunk(b"XMP ", XMP)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def inverted_corner(frame: Frame) -> Frame:
    """`frame` with an inverted 8 x 8 corner, standing for an edit."""
    samples = frame.planes[0].samples.copy()
    samples[:8, :8] = np.iinfo(samples.dtype).max - samples[:8, :8]
    return replace(frame, planes=(Plane(samples, (1, 1)),))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_frame_turns_to_what_a_viewer_shows(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(jpeg(scene(), orientation))
    frame = read_picture(path).frame
    shown = np.rot90(frame.planes[0].samples, -frame.rotation)
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR)  # OpenCV obeys the orientation here
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize("orientation", [1, 2, 5, 6])
@pytest.mark.parametrize("make", [png, webp])
def test_lossless_pictures_keep_every_pixel_that_is_not_edited(
    tmp_path: Path, make: object, orientation: int
) -> None:
    assert callable(make)
    suffix = ".png" if make is png else ".webp"
    source, result = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    source.write_bytes(make(scene(), orientation))
    picture = read_picture(source)
    write_picture(result, picture, inverted_corner(picture.frame), overwrite=True)
    before = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    after = cv2.imread(str(result), cv2.IMREAD_UNCHANGED)
    assert before.shape == after.shape
    changed = np.any(before != after, axis=2)
    edited = np.zeros(changed.shape, bool)
    edited[:8, -8:] = True
    expected = edited if orientation in (2, 5) else edited[:, ::-1]
    assert not changed[~expected].any()
    assert changed[expected].mean() > 0.9


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_metadata_is_carried_over_byte_for_byte(tmp_path: Path, kind: str) -> None:
    make = {"jpg": jpeg, "png": png, "webp": webp}[kind]
    source, result = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    source.write_bytes(make(scene(), 6))
    picture = read_picture(source)
    write_picture(result, picture, inverted_corner(picture.frame), overwrite=True)
    again = read_picture(result)
    assert again.container.metadata == picture.container.metadata
    assert len(again.container.metadata) == (4 if kind == "jpg" else 3)
    assert again.container.orientation == 6
    assert b"MPF" not in result.read_bytes()
    size_wh = (again.frame.width, again.frame.height)
    assert size_wh == (picture.frame.width, picture.frame.height)


def test_a_jpeg_is_encoded_again_as_it_was(tmp_path: Path) -> None:
    source, result = tmp_path / "in.jpg", tmp_path / "out.jpg"
    source.write_bytes(jpeg(scene(96, 128), quality=83))
    picture = read_picture(source)
    assert picture.container.quality == 83
    assert picture.container.subsampling_xy == (2, 2)
    write_picture(result, picture, inverted_corner(picture.frame), overwrite=True)
    after = read_picture(result)
    assert after.container.quality == 83
    assert after.container.subsampling_xy == (2, 2)
    difference = cv2.absdiff(after.frame.planes[0].samples, picture.frame.planes[0].samples)
    assert difference[32:, 32:].max() <= 3
    write_picture(result, picture, picture.frame, 30, overwrite=True)
    assert read_picture(result).container.quality == 30


def test_alpha_depth_and_grey_are_kept(tmp_path: Path) -> None:
    colour = scene()
    alpha = (np.arange(64 * 48, dtype=np.uint32).reshape(48, 64) % 251).astype(np.uint8)
    cases = {
        "alpha": np.dstack([colour, alpha]),
        "deep": colour.astype(np.uint16) * 257 - 3,
        "grey": colour[..., 0],
        "deep grey": colour[..., 0].astype(np.uint16) * 200 + 7,
        "deep alpha": np.dstack([colour, alpha]).astype(np.uint16) * 201,
    }
    for name, pixels in cases.items():
        source, result = tmp_path / f"{name}.png", tmp_path / f"{name}-out.png"
        source.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        picture = read_picture(source)
        assert picture.frame.layout.depth == 8 * pixels.dtype.itemsize
        assert picture.frame.layout.kind == ("gray" if pixels.ndim == 2 else "rgb")
        write_picture(result, picture, inverted_corner(picture.frame), overwrite=True)
        after = cv2.imread(str(result), cv2.IMREAD_UNCHANGED)
        assert after.dtype == pixels.dtype
        assert after.shape == pixels.shape
        assert np.array_equal(after[8:], pixels[8:])
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            assert np.array_equal(after[..., 3], pixels[..., 3])


def test_grey_with_alpha_stays_that(tmp_path: Path) -> None:
    grey, alpha = scene()[..., 0], scene()[..., 1]
    for depth in (np.uint8, np.uint16):
        pixels = np.dstack([grey, alpha]).astype(np.dtype(depth).newbyteorder(">"))
        rows = pixels.view(np.uint8).reshape(48, -1)
        data = np.hstack([np.zeros((48, 1), np.uint8), rows]).tobytes()
        size = (64).to_bytes(4, "big") + (48).to_bytes(4, "big")
        header = size + bytes([8 * pixels.dtype.itemsize, 4, 0, 0, 0])
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
        source, result = tmp_path / "in.png", tmp_path / "out.png"
        source.write_bytes(PNG_SIGNATURE + b"".join(png_chunk(n, p) for n, p in chunks))
        picture = read_picture(source)
        assert picture.frame.layout.kind == "gray"
        write_picture(result, picture, picture.frame, overwrite=True)
        again = read_picture(result)
        assert again.container.channels == 2
        assert again.alpha is not None
        assert picture.alpha is not None
        assert np.array_equal(again.frame.planes[0].samples, picture.frame.planes[0].samples)
        assert np.array_equal(again.alpha, picture.alpha)


def test_webp_with_alpha_and_lossy_webp_go_through(tmp_path: Path) -> None:
    pixels = np.dstack([scene(), 255 - scene()[..., 1]])
    for quality in (101, 80):
        source, result = tmp_path / "in.webp", tmp_path / "out.webp"
        source.write_bytes(webp(pixels, 3, quality))
        picture = read_picture(source)
        assert picture.container.lossless == (quality == 101)
        write_picture(result, picture, inverted_corner(picture.frame), overwrite=True)
        after = read_picture(result)
        assert after.alpha is not None
        assert picture.alpha is not None
        assert np.array_equal(after.alpha, picture.alpha)
        assert after.container.metadata == picture.container.metadata


@pytest.mark.parametrize("orientation", range(1, 9))
def test_side_by_side_shows_the_original_on_the_left(tmp_path: Path, orientation: int) -> None:
    source, result = tmp_path / "in.png", tmp_path / "out.png"
    source.write_bytes(png(scene(), orientation))
    picture = read_picture(source)
    edited = inverted_corner(picture.frame)
    write_picture(result, picture, side_by_side(picture.frame, edited))
    both = read_picture(result).frame
    shown = np.rot90(both.planes[0].samples, -both.rotation)
    before = np.rot90(picture.frame.planes[0].samples, -picture.frame.rotation)
    after = np.rot90(edited.planes[0].samples, -picture.frame.rotation)
    assert np.array_equal(shown, np.concatenate([before, after], 1))


def bomb() -> bytes:
    header = (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(png_chunk(name, payload) for name, payload in chunks)


def animated_png() -> bytes:
    plain = cv2.imencode(".png", scene())[1].tobytes()
    return plain[:33] + png_chunk(b"acTL", (2).to_bytes(4, "big") + bytes(4)) + plain[33:]


def cmyk() -> bytes:
    header = bytes([8, 0, 48, 0, 64, 4]) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0])
    return b"\xff\xd8" + segment(0xC0, header) + segment(0xDA, bytes(10)) + b"\0\xff\xd9"


REFUSED = {
    "a text": (b"not a picture", "is not a JPEG, PNG or WebP"),
    "nothing": (b"", "is not a JPEG, PNG or WebP"),
    "a bomb": (bomb(), "60000x60000"),
    "an animated png": (animated_png(), "animated PNG"),
    "an animated webp": (b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(9), "animated WebP"),
    "cmyk": (cmyk(), "CMYK"),
    "a jpeg without an end to its header": (jpeg(scene())[:100], "cut short"),
    "a png cut short": (png(scene())[:40], "cut short"),
    "a webp cut short": (webp(scene())[:60], "cut short"),
    "a webp of a name": (b"RIFF\x04\0\0\0WEBP", "without a picture"),
    "a png of no width": (
        PNG_SIGNATURE + png_chunk(b"IHDR", bytes(8) + bytes([8, 2, 0, 0, 0])),
        "no pixels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_edited_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "in.png"
    path.write_bytes(data)
    with pytest.raises(VideoError) as raised:
        read_picture(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert said in message
    assert "\n" not in message


def test_a_jpeg_cut_short_is_read_with_what_is_lost(tmp_path: Path) -> None:
    whole = jpeg(scene(160, 160))
    path = tmp_path / "in.jpg"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    picture = read_picture(path)
    assert picture.lost is not None
    assert "of 160 rows are missing" in picture.lost
    path.write_bytes(whole)
    assert read_picture(path).lost is None


def test_every_cut_of_a_file_is_a_picture_or_an_error(tmp_path: Path) -> None:
    for make in (jpeg, png, webp):
        data = make(scene(16, 16))
        path = tmp_path / "in"
        for length in range(0, len(data), 7):
            path.write_bytes(data[:length])
            with contextlib.suppress(VideoError):
                read_picture(path)


def test_an_exif_block_that_points_outside_itself_is_upright() -> None:
    good = exif(6)
    assert exif_orientation(good) == 6
    assert exif_orientation(exif(8, ">")) == 8
    assert exif_orientation(exif(9)) == 1
    for length in range(len(good) - 8):
        assert exif_orientation(good[:length]) == 1
    assert exif_orientation(b"II*\0\xff\xff\xff\xff\x01") == 1


def test_a_file_is_told_by_its_bytes_and_then_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(jpeg(scene()))
    assert is_picture(path)
    path.write_bytes(b"text")
    assert not is_picture(path)
    path.rename(tmp_path / "text.jpg")
    assert is_picture(tmp_path / "text.jpg")
    path.write_bytes(b"GIF89a")
    with pytest.raises(VideoError, match="GIF"):
        is_picture(path)
    with pytest.raises(VideoError, match="cannot read"):
        is_picture(tmp_path / "none.mp4")


def test_a_picture_keeps_its_format(tmp_path: Path) -> None:
    source = tmp_path / "in.jpg"
    source.write_bytes(jpeg(scene()))
    picture = read_picture(source)
    with pytest.raises(VideoError, match=r"must end in \.jpg"):
        write_picture(tmp_path / "out.png", picture, picture.frame)


@pytest.mark.parametrize("make", [jpeg, png])
def test_only_mien_speaks_of_a_picture_that_is_cut_short(
    make: Callable[[np.ndarray], bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in"
    data = make(scene(200, 300))
    path.write_bytes(data[: len(data) * 2 // 3])
    with contextlib.suppress(VideoError):
        read_picture(path)
    assert capfd.readouterr().err == ""


def test_damage_amid_a_jpeg_is_told(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    data = bytearray(jpeg(scene(200, 300)))
    assert read_picture_of(path, data).lost is None
    start = data.rfind(b"\xff\xda") + 200
    data[start : start + 40] = b"\xff\xd9" + bytes(38)
    assert "is damaged" in (read_picture_of(path, data).lost or "")


def read_picture_of(path: Path, data: bytes) -> Picture:
    path.write_bytes(data)
    return read_picture(path)


def test_what_others_print_meanwhile_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with complaints() as said:
        os.write(2, b"libpng error: bad\nsomething else\n")
    assert said == ["libpng error: bad"]
    assert capfd.readouterr().err == "something else\n"
