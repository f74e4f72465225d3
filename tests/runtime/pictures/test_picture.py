from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame, Plane
from mien.runtime.pictures.container import EXIF_HEADER, exif_orientation
from mien.runtime.pictures.picture import (
    Picture,
    decode_picture,
    is_picture,
    read_picture,
    side_by_side,
    write_picture,
)
from mien.runtime.pictures.png import PNG_SIGNATURE, png_chunk

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


def displayed(frame: Frame) -> np.ndarray:
    """The picture as a player shows it."""
    turned = np.rot90(frame.planes[0].samples, -frame.rotation)
    return turned[:, ::-1] if frame.mirrored else turned


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_frame_turns_to_what_a_viewer_shows(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "in.jpg"
    path.write_bytes(jpeg(scene(), orientation))
    shown = displayed(read_picture(path).frame)
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
    expected = np.zeros(changed.shape, bool)
    expected[:8, :8] = True
    assert not changed[~expected].any()
    assert changed[expected].mean() > 0.9


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_metadata_is_kept_byte_for_byte(tmp_path: Path, kind: str) -> None:
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
    before, after = displayed(picture.frame), displayed(edited)
    assert np.array_equal(displayed(both), np.concatenate([before, after], 1))


def png_of(width: int, height: int, data: bytes, kind: int = 2) -> bytes:
    """A PNG of 8 bits with the data as given."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, kind, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(png_chunk(name, payload) for name, payload in chunks)


def bomb() -> bytes:
    return png_of(60000, 60000, zlib.compress(bytes(999)))


def sized_jpeg(width: int, height: int, flags: list[int] | None = None) -> bytes:
    """A JPEG that says it is of another size than its data."""
    data = cv2.imencode(".jpg", scene(), flags or [])[1].tobytes()
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


def scan_bomb() -> bytes:
    data = cv2.imencode(".jpg", scene(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * 500 + data[-2:]


def canvas_webp() -> bytes:
    data = webp(scene())
    return data[:24] + b"\xff\x3f\0" * 2 + data[30:]


def animated_png() -> bytes:
    plain = cv2.imencode(".png", scene())[1].tobytes()
    return plain[:33] + png_chunk(b"acTL", (2).to_bytes(4, "big") + bytes(4)) + plain[33:]


def cmyk() -> bytes:
    header = bytes([8, 0, 48, 0, 64, 4]) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0])
    return b"\xff\xd8" + segment(0xC0, header) + segment(0xDA, bytes(10)) + b"\0\xff\xd9"


REFUSED = {
    "a text": (b"not a picture", "is not a picture of a known kind"),
    "nothing": (b"", "is not a picture of a known kind"),
    "a bomb": (bomb(), "60000x60000"),
    "a wide bomb": (png_of(1_000_001, 1, zlib.compress(bytes(999))), "a side"),
    "a jpeg bomb": (sized_jpeg(65500, 65500), "65500x65500"),
    "a progressive bomb": (
        sized_jpeg(20000, 9000, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "20000x9000",
    ),
    "a jpeg of scans": (scan_bomb(), "510 scans"),
    "a jpeg of comments": (jpeg(scene())[:2] + segment(0xFE, b"") * 70_000, "65,536 segments"),
    "a jpeg that begins twice": (jpeg(scene())[:-2] + sized_jpeg(9000, 9000)[2:], "second time"),
    "a png of chunks": (
        png(scene())[:33] + png_chunk(b"tEXt", b"a\0b") * 70_000 + png(scene())[33:],
        "65,536 chunks of metadata",
    ),
    "a png with a damaged header": (png(scene())[:29] + b"\0\0\0\0" + png(scene())[33:], "header"),
    "a png of an unknown kind": (png_of(9, 9, zlib.compress(bytes(99)), kind=5), "unknown kind"),
    "a png of nothing": (png_of(9, 9, b"nothing"), "is damaged"),
    "a webp on another canvas": (canvas_webp(), "16384x16384, and 64x48"),
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
def test_what_cannot_be_edited_is_refused_in_one_line(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "in.png"
    path.write_bytes(data)
    with pytest.raises(VideoError) as raised:
        read_picture(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert said in message
    assert "\n" not in message
    assert capfd.readouterr().err == ""


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
    path.write_bytes(b"\xff\x0a")
    with pytest.raises(VideoError, match="is a JPEG XL, which mien does not edit; convert it"):
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


def test_how_much_memory_a_picture_may_take_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(png(scene(300, 400)))
    with pytest.raises(VideoError, match=r"in.png has 400x300 pixels and takes .*--max-memory"):
        read_picture(path, max_memory=1 << 20)
    assert read_picture(path, max_memory=3 << 20).frame.width == 400


def test_what_is_no_file_or_too_large_a_one_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jpg"
    with path.open("wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(20 << 30)  # takes no room on the disk
    with pytest.raises(VideoError, match=r"has 21,474,836,480 bytes and takes about 40.0 GB"):
        read_picture(path)
    for read in (read_picture, is_picture):
        with pytest.raises(VideoError, match="it is a folder"):
            read(tmp_path)
        if hasattr(os, "mkfifo"):
            (tmp_path / "pipe").unlink(missing_ok=True)
            os.mkfifo(tmp_path / "pipe")
            with pytest.raises(VideoError, match="a device or a pipe"):
                read(tmp_path / "pipe")
    for nothing in (None, "text", 5, []):
        with pytest.raises(VideoError, match="expected bytes"):
            decode_picture(nothing)  # type: ignore[arg-type]


# Each takes gigabytes, or minutes, from what believes its lengths.
PEAK = """
import resource, sys
from pathlib import Path
from mien.engines.errors import VideoError
from mien.runtime.pictures.picture import read_picture
import mien.runtime.video.planes  # what the first JPEG loads

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_picture(path)
    except VideoError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read in kilobytes of Linux")
def test_no_length_in_a_picture_is_believed(tmp_path: Path) -> None:
    gigabyte = zlib.compress(bytes(1 << 28), 9)
    whole = png(scene())
    lengths = {
        "idat.png": whole[:33] + (0xFFFFFFFF).to_bytes(4, "big") + b"IDAT" + whole[41:],
        "text.png": whole[:33] + (0x7FFFFFFF).to_bytes(4, "big") + b"tEXt" + whole[41:],
        "profile.png": whole[:33] + png_chunk(b"iCCP", b"a\0\0" + gigabyte) + whole[33:],
        "words.png": whole[:33] + png_chunk(b"zTXt", b"a\0\0" + gigabyte) + whole[33:],
        "more.png": png_of(64, 48, gigabyte),
        "frame.png": whole[:-12] + (0x7FFFFFFF).to_bytes(4, "big") + b"fdAT" + bytes(99),
        "wide.jpg": sized_jpeg(65500, 65500),
        "ll.webp": webp(scene())[:24] + b"\xff\x3f\0" * 2 + webp(scene())[30:],
        "scans.jpg": scan_bomb(),
        "fill.jpg": jpeg(scene())[:2] + b"\xff" * 1_000_000 + jpeg(scene())[2:],
    }
    for name, data in lengths.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", PEAK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert int(done.stdout) < 60_000  # kilobytes; 4 GB before


SAMPLINGS = (0x111111, 0x211111, 0x221111, 0x121111, 0x411111)


def kinds_of_jpeg(height: int, width: int) -> dict[str, bytes]:
    """Every kind of JPEG that OpenCV writes."""
    kinds = {}
    for sampling, progressive, restart, grey in itertools.product(
        SAMPLINGS, (0, 1), (0, 3), (False, True)
    ):
        flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        pixels = scene(height, width)
        data = cv2.imencode(".jpg", pixels[..., 0].copy() if grey else pixels, flags)[1].tobytes()
        kinds[f"{sampling:x} {progressive=} {restart=} {grey=}"] = data
    return kinds


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (37, 53)])
def test_no_sound_jpeg_is_taken_for_a_damaged_one(height: int, width: int) -> None:
    for name, data in kinds_of_jpeg(height, width).items():
        picture = decode_picture(data)
        assert picture.lost is None, name
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(picture.frame.planes[0].samples, expected), name
    flat = cv2.imencode(".jpg", np.zeros((3000, 4000), np.uint8), [cv2.IMWRITE_JPEG_OPTIMIZE, 1])[1]
    assert decode_picture(flat.tobytes()).lost is None


def test_a_jpeg_that_ends_early_is_told_and_grey_from_there(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, data in kinds_of_jpeg(96, 128).items():
        start = data.find(b"\xff\xda") + 20
        for end in (b"", b"\xff\xd9"):
            picture = decode_picture(data[: (start + len(data)) // 2] + end)
            assert picture.lost is not None, name
            if "progressive=0" in name:
                assert "96 rows are missing" in picture.lost, name
                assert (np.abs(picture.frame.planes[0].samples[-1].astype(int) - 128) < 3).all()
    assert capfd.readouterr().err == ""


def test_restart_markers_out_of_order_are_told() -> None:
    flags = [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]
    data = cv2.imencode(".jpg", scene(160, 160), flags)[1].tobytes()
    assert decode_picture(data).lost is None
    first, second, third = (data.index(bytes([0xFF, 0xD0 + number])) for number in range(3))
    assert "is damaged" in (decode_picture(data[:first] + data[second:]).lost or "")
    swapped = data[:first] + data[second:third] + data[first:second] + data[third:]
    assert "is damaged" in (decode_picture(swapped).lost or "")


def test_bytes_before_the_end_of_a_jpeg_are_no_damage(capfd: pytest.CaptureFixture[str]) -> None:
    data = jpeg(scene(200, 300))
    for stray in (b"\0", b"\xff\xff", bytes(40)):
        assert decode_picture(data[:-2] + stray + data[-2:]).lost is None
    assert decode_picture(data + data).lost is None
    assert capfd.readouterr().err == ""


def test_what_is_left_of_a_png_is_read_and_the_rest_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pixels = scene(200, 300)
    data = png(pixels)
    start = data.index(b"IDAT")
    for cut in range(start + 2000, len(data), 4000):
        picture = decode_picture(data[:cut])
        assert picture.lost is not None
        if "rows are missing" in picture.lost:
            missing = int(picture.lost.split("about ")[1].split(" of 200")[0])
            assert np.array_equal(
                picture.frame.planes[0].samples[: 200 - missing], pixels[: 200 - missing]
            )
    raw = np.hstack([np.zeros((200, 1), np.uint8), pixels[..., ::-1].reshape(200, -1)]).tobytes()
    packed = zlib.compress(raw)
    told = {
        "about 100 of 200 rows": zlib.compress(raw[: len(raw) // 2]),
        "not as it was": packed[:-4] + b"abcd",
        "rows are missing": packed[:3000] + b"\xff" * 50 + packed[3050:],
        "about 60 of 200 rows": zlib.compress(raw[: 140 * 901] + b"\x09" + raw[140 * 901 + 1 :]),
    }
    for lost, damaged in told.items():
        assert lost in (decode_picture(png_of(300, 200, damaged)).lost or ""), lost
    for sound in (packed, zlib.compress(raw + bytes(5000)), packed + b"abc"):
        picture = decode_picture(png_of(300, 200, sound))
        assert picture.lost is None
        assert np.array_equal(picture.frame.planes[0].samples, pixels)
    assert "picture is whole" in (decode_picture(png_of(300, 200, packed)[:-12]).lost or "")
    profile = data.index(b"mine") + 9
    spoilt = decode_picture(data[:profile] + b"?" + data[profile + 1 :])
    assert "metadata is left out" in (spoilt.lost or "")
    assert len(spoilt.container.metadata) == 2
    assert capfd.readouterr().err == ""


def test_threads_decode_at_once_and_leave_the_process_as_it_is() -> None:
    pixels = scene(300, 400)
    whole = [jpeg(pixels), png(pixels), webp(pixels)]
    cut = [data[: len(data) // 2] for data in whole[:2]]
    wrong: list[object] = []

    def decode_all() -> None:
        try:
            for data in (*whole, *cut) * 6:
                picture = decode_picture(data)
                if (picture.lost is None) != (data in whole):
                    wrong.append(picture.lost)
        except VideoError as error:
            wrong.append(error)

    before = os.fstat(2)
    threads = [threading.Thread(target=decode_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
