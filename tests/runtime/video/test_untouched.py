"""What is not edited comes out as it went in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.runtime.frame import Frame
from mien.runtime.video import VideoOptions, edit_video, identity, read_frames
from tests.runtime.video.clips import ClipSpec, make_clip

LOSSLESS = VideoOptions(quality=100)
NTSC = Fraction(30000, 1001)
B_FRAMES = {"preset": "medium", "bf": "3", "crf": "20"}
UNEVEN = [3000 * i + 400 * (i % 3) for i in range(24)]
HDR = (9, 16, 9)
X265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
CLIPS: dict[str, tuple[str, ClipSpec]] = {
    "29.97 Hz with audio": ("in.mp4", ClipSpec(rate=NTSC, audio_tracks=1)),
    "variable frame rate": ("in.mp4", ClipSpec(time_base=Fraction(1, 90000), pts=UNEVEN)),
    "variable frame rate, B-frames": (
        "in.mp4",
        ClipSpec(time_base=Fraction(1, 90000), pts=UNEVEN, options=B_FRAMES),
    ),
    "rotated 90": ("in.mp4", ClipSpec(rotation=1)),
    "mirrored": ("in.mp4", ClipSpec(mirrored=True)),
    "turned and mirrored": ("in.mov", ClipSpec(rotation=1, mirrored=True)),
    "rotated 180": ("in.mov", ClipSpec(rotation=2)),
    "rotated 270 in Matroska": ("in.mkv", ClipSpec(rotation=3)),
    "two audio tracks, subtitle, chapters, cover": (
        "in.mp4",
        ClipSpec(audio_tracks=2, subtitle=True, chapters=True, cover=True),
    ),
    "the same in Matroska, with an attachment": (
        "in.mkv",
        ClipSpec(audio_tracks=2, subtitle=True, chapters=True, attachment=True),
    ),
    "no audio": ("in.mp4", ClipSpec()),
    "10 bits": ("in.mp4", ClipSpec(pixel_format="yuv420p10le", colours=HDR)),
    "10 bits HEVC": (
        "in.mkv",
        ClipSpec(codec="libx265", pixel_format="yuv420p10le", colours=HDR, options=X265),
    ),
    "full range": ("in.mp4", ClipSpec(pixel_format="yuvj420p", full_range=True)),
    "BT.709": ("in.mp4", ClipSpec(colours=(1, 1, 1))),
    "4:2:2": ("in.mp4", ClipSpec(pixel_format="yuv422p")),
    "4:4:4": ("in.mp4", ClipSpec(pixel_format="yuv444p")),
    "odd size, VP9": (
        "in.webm",
        ClipSpec(codec="libvpx-vp9", size_wh=(161, 121), options={"cpu-used": "8"}, frames=5),
    ),
    "odd size, FFV1, 10 bits": (
        "in.mkv",
        ClipSpec(codec="ffv1", size_wh=(161, 121), pixel_format="yuv420p10le", options={}),
    ),
    "RGB": ("in.mkv", ClipSpec(codec="ffv1", pixel_format="bgr0", options={})),
    "planar RGB": ("in.avi", ClipSpec(codec="utvideo", pixel_format="gbrp", options={})),
    "1x1": ("in.mkv", ClipSpec(codec="ffv1", size_wh=(1, 1), options={}, frames=3)),
    "starts before zero": ("in.mp4", ClipSpec(pts=range(-5, 19))),
    "starts late": ("in.mkv", ClipSpec(pts=range(7, 31), audio_tracks=1)),
    "B-frames": ("in.mp4", ClipSpec(options=B_FRAMES)),
    "one frame": ("in.mp4", ClipSpec(frames=1)),
    "one frame, HEVC": (
        "in.mkv",
        ClipSpec(codec="libx265", frames=1, options={**X265, "bframes": "0"}),
    ),
    "sample aspect 4:3": ("in.mp4", ClipSpec(sample_aspect_ratio=Fraction(4, 3))),
    "transport stream": ("in.ts", ClipSpec(audio_tracks=1)),
}


def stream_facts(path: Path) -> list[dict[str, object]]:
    """What a container says about its streams, without what a muxer writes of its own."""
    own = {"encoder", "DURATION", "handler_name", "vendor_id"}
    facts = []
    with av.open(str(path)) as container:
        for stream in container.streams:
            if stream.type == "data" and stream.discard == av.stream.Discard.all:
                continue  # the chapters of an MP4 file, written by each muxer in its own way
            fact: dict[str, object] = {
                "type": stream.type,
                "disposition": int(stream.disposition),
                "time_base": stream.time_base,
                "start_time": stream.start_time,
                "duration": stream.duration,
                "metadata": {k: v for k, v in stream.metadata.items() if k not in own},
            }
            if stream.type == "video":
                context = stream.codec_context
                fact["codec"] = context.name
                fact["aspect"] = stream.sample_aspect_ratio
                fact["colours"] = (context.color_primaries, context.color_trc, context.colorspace)
                fact["range"] = context.color_range
                fact["rate"] = stream.average_rate
            if stream.type == "attachment":
                fact["data"] = stream.data
            facts.append(fact)
    return facts


def copied_packets(path: Path) -> dict[int, list[tuple[int | None, int | None, bytes]]]:
    """The packets of all streams but the video: times and bytes."""
    packets: dict[int, list[tuple[int | None, int | None, bytes]]] = {}
    with av.open(str(path)) as container:
        main = container.streams.video[0].index
        for packet in container.demux():
            if packet.size and packet.stream_index != main:
                facts = (packet.pts, packet.duration, bytes(packet))
                packets.setdefault(packet.stream_index, []).append(facts)
    return packets


def assert_same_pictures(first: Path, second: Path) -> None:
    """Fail where the decoded planes, times or orientation of two files differ."""
    frames = list(zip(read_frames(first), read_frames(second), strict=True))
    assert frames
    for one, other in frames:
        assert one.pts == other.pts
        assert one.time_base == other.time_base
        assert one.layout == other.layout
        assert (one.rotation, one.mirrored) == (other.rotation, other.mirrored)
        for plane, matching in zip(one.planes, other.planes, strict=True):
            assert np.array_equal(plane.samples, matching.samples)


def container_facts(path: Path) -> tuple[object, ...]:
    """Chapters, start and duration of a file."""
    with av.open(str(path)) as container:
        chapters = [
            (
                float(chapter["start"] * chapter["time_base"]),
                float(chapter["end"] * chapter["time_base"]),
                chapter["metadata"],
            )
            for chapter in container.chapters()
        ]
        return chapters, container.start_time, container.duration


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_that_is_not_edited_keeps_everything(name: str, tmp_path: Path) -> None:
    file_name, spec = CLIPS[name]
    source = make_clip(tmp_path / file_name, spec)
    destination = tmp_path / f"out{source.suffix}"

    report = edit_video(source, destination, identity, LOSSLESS)

    assert_same_pictures(source, destination)
    assert stream_facts(destination) == stream_facts(source)
    assert copied_packets(destination) == copied_packets(source)
    assert container_facts(destination) == container_facts(source)
    assert report.lost is None
    assert report.notes == ()
    assert report.edited == 0
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_the_codec_family_of_the_source_is_kept(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip("in.mp4", codec="libx265", frames=3, options=X265)
    report = edit_video(source, tmp_path / "out.mp4", identity)
    assert report.encoder == "libx265"


def test_container_metadata_is_copied(clip: Callable[..., Path], tmp_path: Path) -> None:
    metadata = {"title": "A walk", "comment": "äöü", "creation_time": "2024-02-03T04:05:06.000000Z"}
    source = clip("in.mp4", frames=3, metadata=metadata)
    edit_video(source, tmp_path / "out.mp4", identity)
    with av.open(str(tmp_path / "out.mp4")) as output:
        assert {key: output.metadata.get(key) for key in metadata} == metadata


def brighten_corner(frame: Frame) -> Frame:
    """The frame with the first 8x8 luma samples at a value of their own."""
    from dataclasses import replace

    luma = frame.planes[0].samples.copy()
    luma[:8, :8] = 200
    planes = (replace(frame.planes[0], samples=luma), *frame.planes[1:])
    return replace(frame, planes=planes)


def test_the_place_of_chroma_samples_is_kept(clip: Callable[..., Path], tmp_path: Path) -> None:
    from mien.runtime.video.writing.side_data import chroma_location

    options = {"preset": "ultrafast", "chroma_sample_location": "topleft"}
    source = clip("in.mp4", frames=2, options=options)
    edit_video(source, tmp_path / "out.mp4", identity)
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            assert chroma_location(container, container.streams.video[0]) == "topleft"


def test_hdr_facts_are_kept(clip: Callable[..., Path], tmp_path: Path) -> None:
    from av.sidedata.sidedata import Type

    from mien.runtime.video.planes import side_data

    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    own = f"log-level=none:master-display={display}:max-cll=1000,400"
    source = clip(
        "in.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        colours=HDR,
        frames=5,
        options={"preset": "ultrafast", "x265-params": own},
    )
    edit_video(source, tmp_path / "out.mp4", identity)
    facts = []
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            first = next(container.decode(video=0))
            kinds = (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL)
            facts.append([side_data(first, kind) for kind in kinds])
    assert facts[0] == facts[1]
    assert None not in facts[0]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv420p10le", "yuv444p"])
def test_only_the_edited_samples_change(
    pixel_format: str, clip: Callable[..., Path], tmp_path: Path
) -> None:
    source = clip("in.mp4", pixel_format=pixel_format, frames=6)
    report = edit_video(source, tmp_path / "out.mp4", brighten_corner, LOSSLESS)

    assert report.edited == 6
    for before, after in zip(read_frames(source), read_frames(tmp_path / "out.mp4"), strict=True):
        expected = brighten_corner(before)
        for plane, matching in zip(expected.planes, after.planes, strict=True):
            assert np.array_equal(plane.samples, matching.samples)
        assert not np.array_equal(before.planes[0].samples, after.planes[0].samples)


def test_interlaced_frames_stay_interlaced_when_edited(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"preset": "ultrafast", "crf": "10", "flags": "+ildct+ilme", "x264-params": "tff=1"}
    source = clip("in.mkv", frames=6, options=options)
    edit_video(source, tmp_path / "out.mkv", brighten_corner, VideoOptions(codec="ffv1"))
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        kinds = [[f.interlaced_frame for f in c.decode(video=0)] for c in (before, after)]
    assert kinds[0] == kinds[1]
    assert all(kinds[1])
    frames = zip(read_frames(source), read_frames(tmp_path / "out.mkv"), strict=True)
    for one, other in frames:
        expected = brighten_corner(one)
        assert np.array_equal(expected.planes[0].samples, other.planes[0].samples)
        assert np.array_equal(expected.planes[1].samples, other.planes[1].samples)


def test_a_stream_without_times_is_counted_in_frames(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    source = clip("in.h264", options=B_FRAMES)
    seen_s: list[float | None] = []

    def look(frame: Frame) -> Frame:
        seen_s.append(frame.time_s)
        return frame

    edit_video(source, tmp_path / "out.mkv", look)
    assert len(seen_s) > 10
    assert seen_s == pytest.approx([0.04 * index for index in range(len(seen_s))])


def test_paths_may_be_texts(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = str(clip("in.mp4", frames=3))
    report = edit_video(source, str(tmp_path / "out.mp4"), identity)
    assert report.frames == len(list(read_frames(str(tmp_path / "out.mp4")))) == 3


def test_the_av1_encoder_prints_nothing(clip: Callable[..., Path], tmp_path: Path) -> None:
    # In a process of its own: the encoder looks once how much it is to print.
    program = (
        "import sys\n"
        "from mien import VideoOptions, edit_video\n"
        "edit_video(*sys.argv[1:], lambda frame: frame, VideoOptions(codec='libsvtav1'))\n"
    )
    files = [str(clip("in.mp4", frames=3)), str(tmp_path / "out.mp4")]
    done = subprocess.run(
        [sys.executable, "-c", program, *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out.mp4").exists()
