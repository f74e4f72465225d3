"""Transparency stays where it is, or is refused; never dropped."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame
from mien.runtime.video import VideoOptions, edit_video
from mien.runtime.video.animation import PaletteMaker, animation_kind, check_animation, plays
from mien.runtime.video.reading.source import Picture, VideoSource

SIZE_WH = (64, 48)
FRAMES = 4
VPX = {"auto-alt-ref": "0", "crf": "4", "b": "2M"}


def rgba_picture(index: int) -> np.ndarray:
    """A gradient, opaque above, half transparent below, with an opaque square that moves."""
    width, height = SIZE_WH
    picture = np.zeros((height, width, 4), np.uint8)
    picture[..., 0] = np.linspace(0, 250, width)[None, :]
    picture[..., 1] = np.linspace(30, 200, height)[:, None]
    picture[: height // 2, :, 3] = 255
    picture[height // 2 :, :, 3] = 0 if index < 0 else 96
    picture[30:38, 8 * index : 8 * index + 8, 3] = 255
    return picture


def make_transparent(
    path: Path, codec: str, pixel_format: str, *, container: str | None = None, **muxer: str
) -> Path:
    """A clip of `rgba_picture`s, ten a second."""
    with av.open(str(path), "w", format=container, container_options=muxer) as output:
        options = VPX if codec.startswith("libvpx") else {}
        width, height = SIZE_WH
        stream = output.add_stream(codec, rate=10, options=options, width=width, height=height)
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 100)
        makers: list[PaletteMaker] = []
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(rgba_picture(index), format="rgba")
            wanted = "bgra" if pixel_format == "pal8" else pixel_format
            frame = frame.reformat(format=wanted, threads=1)
            frame.pts, frame.time_base, frame.duration = 10 * index, Fraction(1, 100), 10
            if pixel_format == "pal8":
                makers = makers or [PaletteMaker(frame)]
                frame = makers[0].paletted(frame)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def rgba(path: Path) -> list[np.ndarray]:
    """The frames as they are read for an edit: uint8 (H, W, 4)."""
    with VideoSource(path) as source:
        pictures = [item.picture for item in source.items() if isinstance(item, Picture)]
    return [picture.reformat(format="rgba", threads=1).to_ndarray() for picture in pictures]


def darker_corner(frame: Frame) -> Frame:
    """The frame with its first samples halved."""
    first = frame.planes[0]
    samples = first.samples.copy()
    colour = samples[:8, :8] if samples.ndim == 2 else samples[:8, :8, list(frame.layout.rgb_order)]
    if samples.ndim == 2:
        samples[:8, :8] = colour // 2
    else:
        samples[:8, :8, list(frame.layout.rgb_order)] = colour // 2
    return replace(frame, planes=(replace(first, samples=samples), *frame.planes[1:]))


KEPT = [
    pytest.param("libvpx-vp9", "yuva420p", ".webm", ".webm", id="VP9"),
    pytest.param("libvpx-vp9", "yuva420p", ".webm", ".mkv", id="VP9 in Matroska"),
    pytest.param("libvpx-vp9", "yuva420p", ".webm", ".mov", id="VP9 to QuickTime"),
    pytest.param("libvpx-vp9", "yuva420p", ".webm", ".avi", id="VP9 to AVI"),
    pytest.param("libvpx", "yuva420p", ".webm", ".webm", id="VP8"),
    pytest.param("prores_ks", "yuva444p10le", ".mov", ".mov", id="ProRes 4444"),
    pytest.param("prores_ks", "yuva444p10le", ".mov", ".mkv", id="ProRes 4444 in Matroska"),
    pytest.param("qtrle", "argb", ".mov", ".mov", id="QuickTime Animation"),
    pytest.param("qtrle", "argb", ".mov", ".mkv", id="QuickTime Animation to Matroska"),
    pytest.param("png", "rgba", ".mov", ".mov", id="PNG"),
    pytest.param("png", "rgba64be", ".mov", ".mov", id="PNG of 16 bits"),
    pytest.param("ffv1", "yuva420p", ".mkv", ".mkv", id="FFV1"),
    pytest.param("ffv1", "bgra", ".mkv", ".mov", id="FFV1 in RGB to QuickTime"),
    pytest.param("ffv1", "gbrap10le", ".mkv", ".mkv", id="FFV1 of 10 bits"),
    pytest.param("utvideo", "gbrap", ".avi", ".avi", id="Ut Video"),
]


@pytest.mark.parametrize(("codec", "pixel_format", "suffix", "result"), KEPT)
def test_transparency_stays(
    tmp_path: Path, codec: str, pixel_format: str, suffix: str, result: str
) -> None:
    source = make_transparent(tmp_path / f"in{suffix}", codec, pixel_format)
    output = tmp_path / f"out{result}"
    report = edit_video(source, output, darker_corner)
    assert report.edited == FRAMES
    before, after = rgba(source), rgba(output)
    assert len(after) == FRAMES
    for was, now, index in zip(before, after, range(FRAMES), strict=True):
        meant = rgba_picture(index)[..., 3].astype(int)
        assert np.abs(was[..., 3].astype(int) - meant).mean() < 2
        assert np.abs(now[..., 3].astype(int) - was[..., 3]).mean() < 1
        # not the whole picture turned transparent: its colours are there as well
        assert np.abs(now[10:20, 20:, :3].astype(int) - was[10:20, 20:, :3]).mean() < 4


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix", "result"),
    [
        ("libvpx-vp9", "yuva420p", ".webm", ".mp4"),
        ("libvpx", "yuva420p", ".webm", ".mp4"),
        ("prores_ks", "yuva444p10le", ".mov", ".mp4"),
        ("qtrle", "argb", ".mov", ".webm"),
    ],
)
def test_what_would_drop_transparency_is_refused(
    tmp_path: Path, codec: str, pixel_format: str, suffix: str, result: str
) -> None:
    source = make_transparent(tmp_path / f"in{suffix}", codec, pixel_format)
    output = tmp_path / f"out{result}"
    with pytest.raises(VideoError, match=r"transparency .*\.mov or \.mkv"):
        edit_video(source, output, darker_corner)
    assert not output.exists()


def test_a_codec_without_transparency_is_refused(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "in.webm", "libvpx-vp9", "yuva420p")
    with pytest.raises(VideoError, match="cannot keep the yuva420p frames"):
        edit_video(source, tmp_path / "out.mkv", darker_corner, VideoOptions(codec="h264"))


def test_the_tag_does_not_outlive_the_transparency(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "in.webm", "libvpx-vp9", "yuva420p")
    edit_video(source, tmp_path / "out.mkv", darker_corner, VideoOptions(codec="ffv1"))
    with av.open(str(tmp_path / "out.mkv")) as again:
        assert again.streams.video[0].codec_context.pix_fmt == "yuva420p"


@pytest.mark.parametrize("pixel_format", ["yuv444p10le", "yuva444p10le"])
@pytest.mark.parametrize("codec", [None, "prores"])
def test_prores_4444_stays_it_at_ten_bits(
    tmp_path: Path, pixel_format: str, codec: str | None
) -> None:
    source = make_transparent(tmp_path / "in.mov", "prores_ks", pixel_format)
    output = tmp_path / "out.mov"
    report = edit_video(source, output, darker_corner, VideoOptions(codec=codec))
    assert report.pixel_format == pixel_format
    assert any("10 bits" in note and "12" in note for note in report.notes)
    with av.open(str(output)) as again:
        assert again.streams.video[0].codec_context.codec_tag == "ap4h"


def test_a_twelve_bit_video_can_become_prores(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "in.mkv", "ffv1", "yuv444p12le")
    output = tmp_path / "out.mov"
    report = edit_video(source, output, darker_corner, VideoOptions(codec="prores"))
    assert report.pixel_format == "yuv444p10le"
    assert any("10 bits" in note for note in report.notes)


def test_prores_xq_stays_it(tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("prores_ks", rate=10, options={"profile": "4444xq"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p10le"
        frame = av.VideoFrame.from_ndarray(rgba_picture(0), format="rgba")
        output.mux(stream.encode(frame.reformat(format="yuv444p10le", threads=1)))
        output.mux(stream.encode(None))
    edit_video(source, tmp_path / "out.mov", darker_corner)
    with av.open(str(tmp_path / "out.mov")) as again:
        assert again.streams.video[0].codec_context.codec_tag == "ap4x"


@pytest.mark.parametrize(("said", "shown"), [("-1", 1), ("0", 0), ("2", 3)])
def test_an_animated_gif_stays_one(tmp_path: Path, said: str, shown: int) -> None:
    source = make_transparent(tmp_path / "in.gif", "gif", "pal8", loop=said)
    assert animation_kind(source) == "gif"
    assert plays(source) == shown
    output = tmp_path / "out.gif"
    report = edit_video(source, output, darker_corner)
    assert report.edited == FRAMES
    assert any("256 colours" in note for note in report.notes)
    assert plays(output) == shown
    before, after = rgba(source), rgba(output)
    for was, now in zip(before, after, strict=True):
        assert (was[..., 3] == now[..., 3]).mean() > 0.99
        assert np.abs(now[10:20, 20:, :3].astype(int) - was[10:20, 20:, :3]).mean() < 8
    with av.open(str(output)) as again:
        assert [frame.pts for frame in again.decode(video=0)] == [0, 10, 20, 30]


def test_an_animated_png_stays_one(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "in.png", "apng", "rgba", container="apng", plays="3")
    assert animation_kind(source) == "apng"
    output = tmp_path / "out.png"
    edit_video(source, output, darker_corner)
    assert plays(output) == 3
    for was, now in zip(rgba(source), rgba(output), strict=True):
        assert np.array_equal(was[9:], now[9:])


def test_stills_are_no_animations(tmp_path: Path) -> None:
    gif, png = tmp_path / "one.gif", tmp_path / "one.png"
    whole = make_transparent(tmp_path / "all.gif", "gif", "pal8").read_bytes()
    first = whole.index(b"\x2c")
    gif.write_bytes(whole[: whole.index(b"\x00\x21\xf9", first)] + b"\x00;")
    make_transparent(png, "png", "rgba", container="image2pipe")
    assert animation_kind(gif) is None
    assert animation_kind(png) is None


def test_an_animated_webp_is_refused_by_its_name(tmp_path: Path) -> None:
    path = make_transparent(tmp_path / "in.webp", "libwebp_anim", "bgra")
    kind = animation_kind(path)
    assert kind == "webp"
    with pytest.raises(VideoError, match="animated WebP"):
        check_animation(path, kind)


@pytest.mark.parametrize("damage", [13, 20, 60, 200])
def test_a_cut_off_gif_is_looked_at_without_harm(tmp_path: Path, damage: int) -> None:
    path = make_transparent(tmp_path / "in.gif", "gif", "pal8")
    path.write_bytes(path.read_bytes()[:damage])
    assert animation_kind(path) is None
