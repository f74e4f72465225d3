"""What a video states about its own size is not believed beyond the memory there may be."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from mien.engines.errors import VideoError
from mien.engines.system.limits import MAX_MEMORY
from mien.runtime.frame import Frame
from mien.runtime.live.sources.source import open_source
from mien.runtime.video import VideoOptions, edit_video, identity, probe, read_frames
from mien.runtime.video.memory import IN_FLIGHT, Budget, decoder_frames
from mien.runtime.video.writing.encoders import frame_bytes
from tests.runtime.video.reading.test_losses import read

Clip = Callable[..., Path]
MIB = 1 << 20
SPEC = {
    "h264": ("in.mp4", {"codec": "libx264", "options": {"preset": "ultrafast"}}),
    "hevc": (
        "in.mp4",
        {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}},
    ),
    "vp9": ("in.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
    "mjpeg": ("in.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {}}),
}
EIGHT_K, FOUR_K = (7680, 4320), (3840, 2160)


@pytest.mark.parametrize("kind", SPEC)
def test_frames_that_take_too_much_are_refused_before_they_are_decoded(
    kind: str, clip: Clip, tmp_path: Path
) -> None:
    name, settings = SPEC[kind]
    source = clip(name, frames=5, size_wh=(1280, 720), **settings)
    options = VideoOptions(max_memory=8 * MIB)
    target = tmp_path / f"out{source.suffix}"
    with pytest.raises(VideoError, match="frames of 1280x720, and reading and editing") as caught:
        edit_video(source, target, identity, options)
    assert "more than the limit of 8 MB" in str(caught.value)
    assert "--max-memory" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for reading in (
        lambda: probe(source, max_memory=2 * MIB),
        lambda: next(read_frames(source, max_memory=2 * MIB)),
        lambda: open_source(str(source), max_memory=2 * MIB),
    ):
        with pytest.raises(VideoError, match="--max-memory"):
            reading()
    assert edit_video(source, target, identity, VideoOptions(max_memory=900 * MIB)).frames == 5


def test_a_header_that_lies_does_not_help(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=2, size_wh=(1280, 720))
    content = source.read_bytes()
    for honest, small in (
        (struct.pack(">HH", 1280, 720), struct.pack(">HH", 64, 48)),
        (struct.pack(">II", 1280 << 16, 720 << 16), struct.pack(">II", 64 << 16, 48 << 16)),
    ):
        assert honest in content
        content = content.replace(honest, small)
    source.write_bytes(content)
    with pytest.raises(VideoError, match="1280x720"):
        edit_video(source, tmp_path / "out.mp4", identity, VideoOptions(max_memory=8 * MIB))


def grown(path: Path, small_wh: tuple[int, int], large_wh: tuple[int, int]) -> Path:
    """A clip of VP9 whose frames become larger in the middle: 8 of either size."""
    with av.open(str(path), "w") as output:
        stream, number = None, 0
        for size_wh in (small_wh, large_wh):
            encoder = av.CodecContext.create("libvpx-vp9", "w")
            encoder.width, encoder.height = size_wh
            encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
            encoder.options = {"deadline": "realtime", "cpu-used": "8"}
            if stream is None:
                stream = output.add_stream("libvpx-vp9", rate=25, width=small_wh[0])
                stream.height, stream.pix_fmt = small_wh[1], "yuv420p"
            frames = [av.VideoFrame(*size_wh, "yuv420p") for _ in range(8)]
            for index, frame in enumerate(frames):
                frame.pts, frame.time_base = index, Fraction(1, 25)
            packets = [p for frame in frames for p in encoder.encode(frame)]
            for packet in packets + encoder.encode(None):
                packet.pts = packet.dts = number
                packet.time_base, packet.stream = Fraction(1, 25), stream
                output.mux(packet)
                number += 1
    return path


def test_frames_that_grow_beyond_the_limit_are_lost_and_counted(tmp_path: Path) -> None:
    within = grown(tmp_path / "within.webm", (96, 64), (640, 480))
    assert read(within) == (16, None)
    beyond = grown(tmp_path / "in.webm", (96, 64), (4352, 2304))
    report = edit_video(beyond, tmp_path / "out.webm", identity, VideoOptions(max_memory=16 * MIB))
    assert report.frames == 8
    assert report.lost is not None
    assert "8 of 16 frames could not be decoded" in report.lost


def test_an_edit_of_a_large_clip_within_the_limit_is_whole(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=9, size_wh=(640, 480), audio_tracks=1)
    frame = frame_bytes("yuv420p", (640, 480))
    seen: list[Frame] = []

    def note(frame: Frame) -> Frame:
        seen.append(frame)
        return frame

    options = VideoOptions(max_memory=20 * frame)  # one picture at a time, the thriftiest x264
    report = edit_video(source, tmp_path / "out.mp4", note, options)
    assert (report.frames, len(seen), report.encoder) == (9, 9, "libx264")
    assert report.notes == ()
    assert read(tmp_path / "out.mp4") == (9, None)


def test_an_encoder_that_takes_too_much_is_replaced_and_that_is_told(
    clip: Clip, tmp_path: Path
) -> None:
    name, settings = SPEC["hevc"]
    source = clip(name, frames=3, size_wh=(640, 480), **settings)
    limit = 24 * frame_bytes("yuv420p", (640, 480))
    report = edit_video(source, tmp_path / "out.mp4", identity, VideoOptions(max_memory=limit))
    assert report.encoder == "libx264"
    assert any("libx265 takes about" in note and "--max-memory" in note for note in report.notes)
    asked = VideoOptions(max_memory=limit, codec="hevc", overwrite=True)
    with pytest.raises(VideoError, match="editing them takes about"):
        edit_video(source, tmp_path / "out.mp4", identity, asked)


def test_the_usual_limit_suffices_for_8k_and_leaves_4k_as_it_is() -> None:
    for codec in ("h264", "hevc", "vp9", "libdav1d", "mjpeg"):
        size = frame_bytes("yuv420p", EIGHT_K)
        budget = Budget(MAX_MEMORY, size, decoder_frames(codec, 1), 1, is_strict=True)
        plan = budget.plan("libx264", size)
        assert plan is not None, codec
        assert budget.needed(plan, size) <= MAX_MEMORY
    assert budget.plan("libx265", size) is None
    size = frame_bytes("yuv420p10le", FOUR_K)
    budget = Budget(MAX_MEMORY, size, decoder_frames("hevc", 2), 2, is_strict=False)
    plan = budget.plan("libx265", size)
    assert plan is not None
    assert (plan.thrift.options, plan.thrift.parameters, plan.in_flight) == ((), (), IN_FLIGHT)


# Indices of MP4


def movie(clip: Clip) -> bytearray:
    return bytearray(
        clip("in.mov", codec="mjpeg", pixel_format="yuvj420p", frames=5, options={}).read_bytes()
    )


def boasting(content: bytearray, count: int) -> bytearray:
    """A movie whose index states `count` samples of a byte each, in one chunk."""
    for box, offset, numbers in (
        (b"stsz", 8, (1, count)),
        (b"stsc", 12, (1, count, 1)),
        (b"stts", 12, (count, 512)),
    ):
        start = content.index(box) + offset
        content[start : start + 4 * len(numbers)] = struct.pack(f">{len(numbers)}I", *numbers)
    return content


def packed(content: bytearray, *, size: int | None = None) -> bytearray:
    """A movie whose header is compressed, as old QuickTime did."""
    start = content.index(b"moov") - 4
    length = struct.unpack(">I", content[start : start + 4])[0]
    moov = bytes(content[start : start + length])
    data = struct.pack(">I", len(moov) if size is None else size) + zlib.compress(moov)
    boxes = struct.pack(">I4s4s", 12, b"dcom", b"zlib")
    boxes += struct.pack(">I4s", 8 + len(data), b"cmvd") + data
    boxes = struct.pack(">I4s", 8 + len(boxes), b"cmov") + boxes
    boxes = struct.pack(">I4s", 8 + len(boxes), b"moov") + boxes
    return content[:start] + boxes + content[start + length :]


@pytest.mark.parametrize("is_packed", [False, True])
def test_an_index_of_more_samples_than_bytes_is_refused(
    is_packed: bool, clip: Clip, tmp_path: Path
) -> None:
    content = boasting(movie(clip), 30_000_000)
    (tmp_path / "in.mov").write_bytes(packed(content) if is_packed else content)
    with pytest.raises(VideoError, match="states 30,000,000 samples"):
        edit_video(tmp_path / "in.mov", tmp_path / "out.mov", identity)


def test_a_packed_header_is_read_unless_it_is_huge(clip: Clip, tmp_path: Path) -> None:
    content = movie(clip)
    source = tmp_path / "in.mov"
    source.write_bytes(packed(content))
    assert read(source)[0] == 5
    source.write_bytes(packed(content, size=1 << 30))
    with pytest.raises(VideoError, match=r"index that takes about 4\.0 GB"):
        read(source)


def test_a_fragment_of_more_samples_than_bytes_is_refused(clip: Clip, tmp_path: Path) -> None:
    whole = clip("whole.mp4", frames=5)
    source = tmp_path / "in.mp4"
    flags = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(whole)) as old, av.open(str(source), "w", container_options=flags) as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    assert read(source) == (5, None)
    content = bytearray(source.read_bytes())
    start = content.index(b"trun") + 4
    content[start : start + 8] = struct.pack(">II", 1, 50_000_000)  # no field for each sample
    source.write_bytes(content)
    with pytest.raises(VideoError, match="states 50,000,000 samples"):
        read(source)


def test_sound_of_more_samples_than_the_index_holds_is_none_of_it(
    clip: Clip, tmp_path: Path
) -> None:
    source = tmp_path / "in.mov"  # PCM lists chunks, and states each of its moments
    whole = clip("whole.mov", frames=50)
    with av.open(str(whole)) as old, av.open(str(source), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        sound = new.add_stream("pcm_s16le", rate=48000, layout="mono")
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
        for start in range(0, 96000, 4800):
            frame = av.AudioFrame(format="s16", layout="mono", samples=4800)
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            new.mux(sound.encode(frame))
    options = VideoOptions(max_memory=3 * MIB)  # 96,000 entries would take more
    assert edit_video(source, tmp_path / "out.mov", identity, options).frames == 50
