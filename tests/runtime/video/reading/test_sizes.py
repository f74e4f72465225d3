"""Clips whose size changes in the middle become clips of their largest size, all of them edited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.runtime.frame import Frame
from mien.runtime.live.sources.file import FileDevice
from mien.runtime.video import VideoOptions, edit_video, read_frames
from mien.runtime.video.planes import fitted
from mien.runtime.video.reading.sizes import frame_sizes, vp9_size
from mien.runtime.video.reading.source import Picture, VideoSource, main_video, open_input
from mien.runtime.video.writing.encoders import frame_bytes
from tests.runtime.video.clips import MATRICES

Clip = Callable[..., Path]
SMALL, LARGE, TURNED = (96, 64), (160, 128), (64, 96)
FRAMES = 4  # of each size
QUICK = {"deadline": "realtime", "cpu-used": "8"}
H264 = ("libx264", {"preset": "ultrafast", "bf": "0"})
H265 = ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:bframes=0"})
CLIPS = {
    "in.ts": H264,
    "in.mkv": H264,
    "in.mp4": H264,
    "in.flv": H264,
    "hevc.ts": H265,
    "hevc.mp4": H265,
    "vp8.webm": ("libvpx", QUICK),
    "vp9.webm": ("libvpx-vp9", QUICK),
    "in.mpg": ("mpeg2video", {}),
    "mpeg2.ts": ("mpeg2video", {}),
    "mpeg4.avi": ("mpeg4", {}),
    "mjpeg.avi": ("mjpeg", {}),
    "av1.mkv": ("libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1"}),
}


def changing(
    path: Path,
    sizes: Sequence[tuple[int, int]],
    *,
    rotation: int = 0,
    heads_apart: bool = False,
) -> Path:
    """Bright frames of these sizes, one after the other in one stream.

    heads_apart: the head of the first is in the container alone.
    """
    codec, options = CLIPS[path.name]
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, width=sizes[0][0], height=sizes[0][1])
        stream.pix_fmt = pixel_format
        if rotation:
            stream.set_display_matrix(MATRICES[rotation])
        number = 0
        for part, size_wh in enumerate(sizes):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height = size_wh
            encoder.pix_fmt, encoder.options = pixel_format, options
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            if heads_apart and part == 0:
                encoder = stream.codec_context
                encoder.options = options
            packets = []
            for index in range(FRAMES):
                frame = av.VideoFrame(*size_wh, pixel_format)
                for plane, value in zip(frame.planes, (200, 128, 128), strict=True):
                    plane.update(bytes([value]) * plane.buffer_size)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                packet.pts = packet.dts = number
                packet.time_base, packet.stream = Fraction(1, 25), stream
                output.mux(packet)
                number += 1
    return path


def darkened(frame: Frame) -> Frame:
    """The frame with its luma halved, which shows that it was edited."""
    luma = frame.planes[0]
    return replace(frame, planes=(replace(luma, samples=luma.samples // 2), *frame.planes[1:]))


@pytest.mark.parametrize("name", CLIPS)
def test_the_largest_size_is_kept_and_all_parts_are_edited(name: str, tmp_path: Path) -> None:
    path = changing(tmp_path / name, [SMALL, LARGE, TURNED])
    seen: list[tuple[int, int]] = []

    def process(frame: Frame) -> Frame:
        seen.append((frame.width, frame.height))
        return darkened(frame)

    report = edit_video(path, tmp_path / f"out{path.suffix}", process)
    assert (report.frames, report.edited, report.lost) == (3 * FRAMES, 3 * FRAMES, None)
    assert set(seen) == {LARGE}
    assert any(f"{2 * FRAMES} frames fitted into 160x128" in note for note in report.notes)
    frames = list(read_frames(tmp_path / f"out{path.suffix}"))
    assert [(frame.width, frame.height) for frame in frames] == [LARGE] * 3 * FRAMES
    wide, whole, tall = (frames[part * FRAMES].planes[0].samples for part in range(3))
    assert abs(int(whole.mean()) - 100) < 8
    for luma, bar in ((wide, np.s_[:8]), (tall, np.s_[:, :36])):
        assert luma[bar].mean() < 30  # beside the picture, which is in the middle
        assert abs(int(luma[60:68, 60:100].mean()) - 100) < 8


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "hevc.mp4", "mpeg4.avi"])
def test_the_first_size_may_be_told_by_the_container_alone(name: str, tmp_path: Path) -> None:
    path = changing(tmp_path / name, [SMALL, LARGE], heads_apart=True)
    edit_video(path, tmp_path / f"out{path.suffix}", darkened)
    frames = read_frames(tmp_path / f"out{path.suffix}")
    assert [(frame.width, frame.height) for frame in frames] == [LARGE] * 2 * FRAMES


def test_a_clip_of_one_size_is_left_as_it_is(clip: Clip) -> None:
    path = clip("in.mkv", frames=12, options={"g": "4"})
    with VideoSource(path) as source:
        first = next(item.picture for item in source.items() if isinstance(item, Picture))
        assert source.canvas_wh(first) == (160, 120)


def test_of_two_sizes_alike_the_first_is_kept(tmp_path: Path) -> None:
    path = changing(tmp_path / "vp8.webm", [TURNED, SMALL])
    edit_video(path, tmp_path / "out.webm", darkened)
    assert {(f.width, f.height) for f in read_frames(tmp_path / "out.webm")} == {TURNED}


def test_a_phone_that_is_held_upright_stays_so_for_the_edit(tmp_path: Path) -> None:
    path = changing(tmp_path / "in.mp4", [SMALL, LARGE], rotation=1)
    turned: list[int] = []

    def process(frame: Frame) -> Frame:
        turned.append(frame.rotation)
        return frame

    edit_video(path, tmp_path / "out.mp4", process)
    assert set(turned) == {1}


def test_sizes_that_take_too_much_memory_do_not_become_that_of_the_clip(tmp_path: Path) -> None:
    path = changing(tmp_path / "vp9.webm", [SMALL, (1280, 720)])
    limit = 40 * frame_bytes("yuv420p", SMALL)
    report = edit_video(path, tmp_path / "o.mkv", darkened, VideoOptions("ffv1", max_memory=limit))
    assert report.frames == 2 * FRAMES
    assert {(f.width, f.height) for f in read_frames(tmp_path / "o.mkv")} == {SMALL}


def test_original_and_edit_beside_each_other_have_the_largest_size(tmp_path: Path) -> None:
    path = changing(tmp_path / "vp8.webm", [SMALL, LARGE])
    options = VideoOptions(side_by_side=True)
    edit_video(path, tmp_path / "out.webm", darkened, options)
    assert {(f.width, f.height) for f in read_frames(tmp_path / "out.webm")} == {(320, 128)}


def test_a_camera_of_a_clip_gives_frames_of_its_largest_size(tmp_path: Path) -> None:
    device = FileDevice(changing(tmp_path / "vp8.webm", [SMALL, LARGE]))
    frames = [device.read().frame for _ in range(2 * FRAMES)]
    device.close()
    assert device.facts.size_wh == LARGE
    assert {(frame.width, frame.height) for frame in frames} == {LARGE}


def test_looking_ahead_ends_in_time_and_where_it_is_told_to(clip: Clip) -> None:
    with open_input(clip("in.mkv", frames=30, options={"g": "2"})) as container:
        assert frame_sizes(main_video(container), options={}, limit_s=0.0) == set()

    def stop() -> None:
        raise KeyboardInterrupt

    with open_input(clip("in.mkv", frames=30)) as container, pytest.raises(KeyboardInterrupt):
        frame_sizes(main_video(container), options={}, check=stop)


def test_a_vp9_frame_states_a_new_size_without_being_a_key_frame() -> None:
    size = f"{639:016b}{479:016b}"
    inter = "10000" + "110" + "00" + "0" * 20  # profile 0, shown and not resilient, its references
    assert vp9_size(bits("10000111" + "0" * 20 + "000" + size)) == (640, 480)
    assert vp9_size(bits(inter + "000" + size)) == (640, 480)
    assert vp9_size(bits(inter + "01" + size)) is None  # as that of its second reference


def bits(text: str) -> bytes:
    """The bytes of a text of zeros and ones."""
    return int(text.ljust(256, "0"), 2).to_bytes(32, "big")


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p10le", "nv12", "rgb24", "gray", "p010le"]
)
def test_bars_are_black_in_every_format(pixel_format: str) -> None:
    frame = av.VideoFrame(40, 80, "rgb24")
    frame.planes[0].update(b"\xff" * frame.planes[0].buffer_size)
    frame.pts = 7
    result = fitted(frame, (160, 80), pixel_format)
    assert (result.width, result.height, result.pts) == (160, 80, 7)
    rgb = result.to_ndarray(format="rgb24", threads=1).astype(int)
    assert rgb[:, :58].max() < 6
    assert rgb[:, 102:].max() < 6
    assert rgb[:, 64:96].min() > 248
