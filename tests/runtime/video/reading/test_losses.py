"""What is lost of a damaged video is told; what only looks odd is not taken for damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error
import pytest
from av.video.codeccontext import VideoCodecContext

from mien.runtime.video import VideoOptions, edit_video, identity, probe
from mien.runtime.video.reading.source import Picture, VideoSource
from mien.runtime.video.reading.structure import Blocks, is_cut_off, matroska_blocks
from tests.runtime.video.clips import ClipSpec, truncate, video_frames

Clip = Callable[..., Path]
MS = Fraction(1, 1000)
VP9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "10"}}
VP8 = {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8", "g": "10"}}
X264 = {"options": {"preset": "veryfast", "crf": "12", "g": "10", "bf": "2"}}
X265 = {
    "codec": "libx265",
    "options": {"preset": "ultrafast", "g": "10", "x265-params": "log-level=none:keyint=10"},
}
MJPEG = {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {}}


def read(path: Path) -> tuple[int, str | None]:
    """How many pictures can be read, and what is said to be lost."""
    with VideoSource(path) as source:
        count = sum(isinstance(item, Picture) for item in source.items())
        return count, source.lost()


def video_packets(path: Path) -> list[tuple[int, int]]:
    """Place in the file and size of each packet of video, in the file's order."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        return [(p.pos, p.size) for p in packets]


def remuxed(path: Path, name: str, keep: Callable[[int], bool], **settings: object) -> Path:
    """The packets of video whose number is kept, in a file of another name."""
    target = path.with_name(name)
    with av.open(str(path)) as old, av.open(str(target), "w", **settings) as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        packets = [p for p in old.demux(video=0) if p.size]
        for number, packet in enumerate(packets):
            if keep(number):
                packet.stream = stream
                new.mux(packet)
    return target


def overwrite(path: Path, start: int, data: bytes) -> Path:
    """The file with `data` from `start` on."""
    content = bytearray(path.read_bytes())
    content[start : start + len(data)] = data
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("spec", [VP8, VP9], ids=["vp8", "vp9"])
@pytest.mark.parametrize("first", [0, 20, 50])
def test_frames_of_a_destroyed_cluster_are_counted(
    spec: dict[str, object], first: int, clip: Clip, tmp_path: Path
) -> None:
    path = clip("in.webm", frames=60, rate=Fraction(30), time_base=MS, pts=steps(60, 33.34), **spec)
    position, _ = video_packets(path)[first]
    overwrite(path, position - 20, bytes(40))  # the head of a cluster: FFmpeg goes to the next one
    report = edit_video(path, tmp_path / "out.webm", identity)
    assert report.frames < 60
    assert report.lost is not None
    if first == 20:
        assert f"{60 - report.frames} frames missing" in report.lost


def steps(count: int, step: float) -> list[int]:
    """Times at a rate that the time base cannot hold exactly."""
    return [round(number * step) for number in range(count)]


@pytest.mark.parametrize("codec", [X264, X265], ids=["h264", "hevc"])
@pytest.mark.parametrize("name", ["in.ts", "in.mkv", "in.mp4"])
def test_frames_that_need_a_destroyed_key_frame_are_counted(
    codec: dict[str, object], name: str, clip: Clip
) -> None:
    path = clip(name, frames=60, size_wh=(96, 64), **codec)
    whole, lost = read(path)
    assert (whole, lost) == (60, None)
    for number in (10, 11, 12):
        position, size = video_packets(path)[number]
        noise = random.Random(number).randbytes(size)
        overwrite(path, position + 4 * (name != "in.ts"), noise[:20])
    count, lost = read(path)
    assert lost is not None
    assert count == 60 or "could not be decoded" in lost or "missing" in lost


@pytest.mark.parametrize("spec", [X264, X265], ids=["h264", "hevc"])
def test_lost_transport_packets_are_told(spec: dict[str, object], clip: Clip) -> None:
    path = clip("in.ts", frames=60, **spec)
    data = path.read_bytes()
    start = len(data) // 188 // 2 * 188
    path.write_bytes(data[:start] + data[start + 5 * 188 :])
    assert read(path)[1] is not None


@pytest.mark.parametrize("name", ["in.mkv", "in.webm", "in.ts", "in.mp4", "in.avi", "in.wmv"])
def test_a_file_that_is_cut_off_a_little_is_told(name: str, clip: Clip) -> None:
    spec = {".webm": VP9, ".avi": MJPEG, ".wmv": {"codec": "mpeg4", "options": {}}}.get(
        Path(name).suffix, X264
    )
    path = clip(name, frames=40, **spec)
    if name == "in.mp4":
        path = remuxed(
            path, "front.mp4", lambda _: True, container_options={"movflags": "faststart"}
        )
    format_name = av.open(str(path)).format.name
    assert not is_cut_off(path, format_name)
    truncate(path, 0.55 if name == "in.wmv" else 0.93)  # beyond it lies padding
    assert is_cut_off(path, format_name)
    count, lost = read(path)
    assert count < 40
    assert lost is not None


def test_an_avi_without_its_index_tells_how_many_frames_are_missing(clip: Clip) -> None:
    path = clip("in.avi", frames=40, **MJPEG)
    position, _ = video_packets(path)[20]
    data = path.read_bytes()
    path.write_bytes(data[: position - 8])
    count, lost = read(path)
    assert count == 20
    assert lost is not None
    assert "20 frames missing" in lost


def test_blocks_that_name_a_track_that_is_not_there_are_counted(clip: Clip) -> None:
    path = clip("in.mkv", frames=40, audio_tracks=1, **MJPEG)
    places = video_packets(path)
    for start, _ in places[37:]:  # the last ones: no gap shows them
        assert path.read_bytes()[start] == 0x81
        overwrite(path, start, b"\x87")
    count, lost = read(path)
    assert count < 40
    assert lost is not None
    assert "the file ends 0.1 s early" in lost


def test_packets_that_are_gone_from_a_steady_stream_are_counted(clip: Clip) -> None:
    path = clip("whole.mkv", frames=60, time_base=MS, rate=Fraction(25), **MJPEG)
    gone = remuxed(path, "in.mkv", lambda number: not 30 <= number < 34)
    count, lost = read(gone)
    assert count == 56
    assert lost is not None
    assert "4 frames missing" in lost


def test_a_hidden_picture_is_no_lost_one(clip: Clip) -> None:
    for name, codec in (("vp8.webm", "libvpx"), ("vp9.webm", "libvpx-vp9")):
        options = {"deadline": "good", "cpu-used": "8", "lag-in-frames": "16", "b": "80k"}
        options["auto-alt-ref"] = "1"
        assert read(clip(name, codec=codec, frames=60, options=options)) == (60, None)


def uneven(*kinds: int, count: int = 60) -> list[int]:
    """Times whose steps come from `kinds` by chance, the same each run."""
    chance, times = random.Random(1), [0]
    for _ in range(count - 1):
        times.append(times[-1] + chance.choice(kinds))
    return times


ODD: dict[str, tuple[str, dict[str, object]]] = {
    "a varying rate": ("in.webm", {"pts": uneven(16, 33, 50, 66, 100), "time_base": MS, **VP9}),
    "a trembling camera": ("in.webm", {"pts": uneven(29, 31, 33, 35, 38), "time_base": MS, **VP8}),
    "a recorded screen": ("in.mkv", {"pts": uneven(1, 1, 1, 2, 10), "time_base": Fraction(1, 25)}),
    "a recorded screen, mp4": (
        "in.mp4",
        {"pts": uneven(1, 1, 2, 10), "time_base": Fraction(1, 25)},
    ),
    "telecine": ("in.mkv", {"pts": uneven(2, 3), "time_base": Fraction(1, 60)}),
    "a late start": ("in.mkv", {"pts": range(600, 1800, 40), "frames": 30, "time_base": MS}),
    "time lapse": ("in.mkv", {"rate": Fraction(1, 5), "frames": 20}),
    "a last still": ("in.mkv", {"pts": [*range(59), 200], "time_base": Fraction(1, 25)}),
    "interlaced": ("in.ts", {"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}}),
    "open groups": (
        "in.ts",
        {"options": {"preset": "veryfast", "x264-params": "open-gop=1:keyint=10:bframes=3"}},
    ),
    "raw": ("in.h264", X264),
    "mpeg-2 with B frames": ("in.mpg", {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}),
    "mpeg-4 in avi": ("in.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_whole_file_is_not_taken_for_damaged(name: str, clip: Clip) -> None:
    file_name, settings = ODD[name]
    settings = {"frames": 60, "size_wh": (96, 64)} | settings
    if isinstance(pts := settings.get("pts"), Sequence):
        settings["frames"] = len(pts)
    path = clip(file_name, **settings)
    assert read(path) == (settings["frames"], None)
    if path.suffix in (".mkv", ".webm"):
        assert matroska_blocks(path, 0) == Blocks(is_whole=True, count=settings["frames"])


def test_recordings_that_were_joined_are_whole(clip: Clip, tmp_path: Path) -> None:
    for name in ("in.ts", "in.mpg"):
        spec = X264 if name == "in.ts" else {"codec": "mpeg2video", "options": {"bf": "2"}}
        path = clip(name, frames=30, **spec)
        joined = tmp_path / f"joined{path.suffix}"
        joined.write_bytes(path.read_bytes() * 2)
        assert read(joined) == (60, None)


def test_an_open_group_that_a_cut_begins_with_is_whole(clip: Clip) -> None:
    parameters = "log-level=none:open-gop=1:keyint=20:min-keyint=20:scenecut=0"
    options = {"preset": "fast", "x265-params": parameters}
    path = clip("whole.mkv", codec="libx265", frames=60, size_wh=(96, 64), options=options)
    with av.open(str(path)) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    second = keys.index(True, 1)
    for name in ("cut.mkv", "cut.mp4"):
        cut = remuxed(path, name, lambda number: number >= second)
        count, lost = read(cut)
        assert count == 40  # what leads the first key frame needs the one before
        assert lost is None


def test_a_decoder_that_keeps_failing_while_it_is_drained_is_given_up(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained = 0

    class Broken:
        """The decoder of a stream, with which nothing that it holds comes out."""

        def __init__(self, real: VideoCodecContext) -> None:
            self._real = real

        def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
            nonlocal drained
            if packet is not None:
                return list(self._real.decode(packet))
            drained += 1
            assert drained < 10_000, "it is asked for ever"
            raise av.error.InvalidDataError(1, "broken")

    monkeypatch.setattr(
        "mien.runtime.video.reading.source.alpha_decoder",
        lambda stream: Broken(stream.codec_context),
    )
    count, lost = read(clip("whole.mkv", frames=20, **X264))
    assert drained > 0
    assert count < 20
    assert lost is not None


def test_live_fragments_and_dropped_frames_of_a_capture_are_whole(clip: Clip) -> None:
    path = clip("whole.mp4", frames=30, **X264)
    flags = {"movflags": "frag_keyframe+empty_moov"}
    assert read(remuxed(path, "live.mp4", lambda _: True, container_options=flags)) == (30, None)
    capture = clip("whole.avi", frames=30, **MJPEG)
    dropped = remuxed(capture, "in.avi", lambda number: number not in (10, 11, 20))
    assert read(dropped) == (27, None)


def test_packed_b_frames_are_whole(tmp_path: Path) -> None:
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 96, 64, "yuv420p"
    encoder.time_base, encoder.max_b_frames = Fraction(1, 25), 1
    encoder.gop_size, encoder.options = 60, {"b_strategy": "0"}
    pictures = video_frames(ClipSpec(size_wh=(96, 64), frames=41), Fraction(1, 25))
    packets = [bytes(p) for picture in [*pictures, None] for p in encoder.encode(picture)]
    start = b"\0\0\1\xb6"
    packets[0] = packets[0].replace(start, b"\0\0\1\xb2DivX503b1393p" + start, 1)
    path = tmp_path / "in.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25, width=96, height=64)
        chunks = packets[:1]
        for reference, between in zip(packets[1::2], packets[2::2], strict=True):
            chunks += [reference + between, start + b"\x50\x4f"]  # two in one, and none at all
        for number, chunk in enumerate(chunks):
            packet = av.Packet(chunk)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 25), stream
            output.mux(packet)
    assert read(path) == (41, None)


def test_live_files_that_are_broken_or_cut_off_are_told(clip: Clip) -> None:
    path = clip("whole.mp4", frames=40, **X264)
    flags = {"movflags": "frag_every_frame+empty_moov"}
    live = remuxed(path, "live.mp4", lambda _: True, container_options=flags)
    assert read(live) == (40, None)
    content = live.read_bytes()
    live.write_bytes(content[: len(content) // 2] + content[len(content) // 2 + 50 :])
    count, lost = read(live)
    assert count < 40
    assert lost is not None
    path = clip("whole.webm", frames=40, **VP9)
    live = remuxed(path, "live.webm", lambda _: True, container_options={"live": "1"})
    assert read(live) == (40, None)
    count, lost = read(truncate(live, 0.6))
    assert count < 40
    assert lost is not None


def test_a_matroska_file_of_endless_elements_is_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    head = bytes.fromhex("1A45DFA380 1853806701FFFFFFFFFFFFFF")
    path.write_bytes(head + bytes.fromhex("EC80") * 1_100_000)
    assert matroska_blocks(path, 0) is None


def test_damage_ends_in_the_report_and_not_in_the_probe(clip: Clip, tmp_path: Path) -> None:
    path = clip("in.mkv", frames=40, audio_tracks=1, **X264)
    truncate(path, 0.7)
    assert probe(path).has_video
    report = edit_video(path, tmp_path / "out.mkv", identity, VideoOptions(quality=50))
    assert report.lost is not None
    assert "the file ends" in report.lost
