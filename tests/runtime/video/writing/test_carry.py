"""Every stream gets into every container: as it is, converted, or named with its reason."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.runtime.video import edit_video, identity
from tests.runtime.video.clips import ClipSpec, make_clip

RATE_HZ = 48000
CLICK_S = 0.5
FRAMES = 25


def make_sound(
    path: Path, codec: str, layout: str = "stereo", *, gap_s: float = 0.0, late_s: float = 0.0
) -> Path:
    """A second of video, and silence with a short tone half a second after its beginning.

    gap_s: what is missing of the silence before it. late_s: by how much all of the sound is late.
    """
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, width=64, height=48)
        video.codec_context.pix_fmt = "yuv420p"
        audio = output.add_stream(codec, rate=RATE_HZ, layout=layout)
        output.start_encoding()
        for index in range(FRAMES):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([90]) * plane.buffer_size)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
        for part in sound_frames(layout, gap_s=gap_s, late_s=late_s):
            output.mux(audio.encode(part))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path


def sound_frames(layout: str, *, gap_s: float, late_s: float) -> list[av.AudioFrame]:
    """The frames of that sound, 1920 samples each, less those that lie in the gap."""
    samples = np.zeros(RATE_HZ, np.float32)
    start = int(CLICK_S * RATE_HZ)
    samples[start : start + 960] = 0.8 * np.sin(np.arange(960) * 0.3)
    frames = []
    for begin in range(0, RATE_HZ, 1920):
        if 0.2 <= begin / RATE_HZ < 0.2 + gap_s:
            continue
        channels = av.AudioLayout(layout).nb_channels
        part = np.repeat(samples[begin : begin + 1920], channels)[None]
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        frame.pts = begin + int(late_s * RATE_HZ)
        frames.append(frame)
    return frames


def tone(path: Path) -> tuple[str, float, int]:
    """The codec of the first sound, when after the first picture its tone begins, its channels."""
    with av.open(str(path)) as opened:
        stream = opened.streams.audio[0]
        name = stream.codec_context.codec.canonical_name
        channels = stream.codec_context.channels
        at = next(begin for frame in opened.decode(stream) if (begin := tone_in(frame)) is not None)
    with av.open(str(path)) as opened:
        first = next(opened.decode(video=0))
    return name, at - float(first.pts * first.time_base), channels


def tone_in(frame: av.AudioFrame) -> float | None:
    """When the tone begins in a frame, None where it does not."""
    sound = av.AudioResampler(format="fltp", layout="mono").resample(frame)[0].to_ndarray()[0]
    loud = np.nonzero(np.abs(sound) > 0.3)[0]
    return None if not loud.size else float(frame.pts * frame.time_base) + loud[0] / RATE_HZ


CONVERTED = [
    pytest.param("pcm_s16le", ".mkv", ".mp4", "aac", id="PCM to MP4"),
    pytest.param("pcm_s24le", ".mov", ".mp4", "aac", id="PCM from a camera to MP4"),
    pytest.param("pcm_s16le", ".avi", ".webm", "opus", id="PCM to WebM"),
    pytest.param("pcm_f32le", ".mkv", ".ts", "aac", id="PCM to a transport stream"),
    pytest.param("flac", ".mkv", ".mov", "pcm_s16le", id="FLAC to QuickTime"),
    pytest.param("libopus", ".mkv", ".mov", "aac", id="Opus to QuickTime"),
    pytest.param("libopus", ".mkv", ".avi", "mp3", id="Opus to AVI"),
    pytest.param("aac", ".mp4", ".webm", "opus", id="AAC to WebM"),
    pytest.param("aac", ".mp4", ".avi", "mp3", id="AAC to AVI"),
    pytest.param("aac", ".mp4", ".mpg", "ac3", id="AAC to MPEG"),
    pytest.param("ac3", ".mkv", ".webm", "opus", id="AC-3 to WebM"),
    pytest.param("libmp3lame", ".mp4", ".webm", "opus", id="MP3 to WebM"),
    pytest.param("alac", ".mov", ".wmv", "wmav2", id="ALAC to Windows Media"),
]


@pytest.mark.parametrize(("codec", "suffix", "result", "becomes"), CONVERTED)
def test_sound_becomes_what_the_container_takes(
    tmp_path: Path, codec: str, suffix: str, result: str, becomes: str
) -> None:
    source, output = make_sound(tmp_path / f"in{suffix}", codec), tmp_path / f"out{result}"
    report = edit_video(source, output, identity)
    name, at_s, channels = tone(output)
    assert name == becomes
    assert channels == 2
    # AVI and ASF give no times of pictures: FFmpeg guesses them a frame late; MP3 begins early
    slack_s = 0.06 if {suffix, result} & {".avi", ".wmv"} else 0.01
    assert abs(at_s - CLICK_S) < slack_s
    notes = [note for note in report.notes if "audio stream 1" in note]
    assert len(notes) == 1
    assert f"re-encoded as {becomes}" in notes[0]
    assert result in notes[0]


@pytest.mark.parametrize(
    ("codec", "suffix", "result"),
    [
        ("aac", ".mp4", ".mkv"),
        ("aac", ".mp4", ".ts"),
        ("libopus", ".mkv", ".webm"),
        ("libopus", ".mkv", ".mp4"),
        ("pcm_s16le", ".mkv", ".mov"),
        ("ac3", ".mkv", ".mp4"),
        ("flac", ".mkv", ".mkv"),
    ],
)
def test_sound_that_fits_is_copied(tmp_path: Path, codec: str, suffix: str, result: str) -> None:
    source, output = make_sound(tmp_path / f"in{suffix}", codec), tmp_path / f"out{result}"
    report = edit_video(source, output, identity)
    assert tone(output)[0] == tone(source)[0]
    assert not any("audio" in note for note in report.notes)


@pytest.mark.parametrize("layout", ["mono", "5.1", "7.1"])
@pytest.mark.parametrize("result", [".mp4", ".webm"])
def test_channels_stay(tmp_path: Path, layout: str, result: str) -> None:
    source = make_sound(tmp_path / "in.mkv", "pcm_s16le", layout)
    output = tmp_path / f"out{result}"
    edit_video(source, output, identity)
    _, at_s, channels = tone(output)
    assert channels == av.AudioLayout(layout).nb_channels
    assert abs(at_s - CLICK_S) < 0.01


@pytest.mark.parametrize("result", [".mp4", ".webm", ".mov"])
@pytest.mark.parametrize(("gap_s", "late_s"), [(0.2, 0.0), (0.0, 0.3), (0.16, 0.1)])
def test_sound_with_gaps_and_sound_that_begins_late_stay_in_step(
    tmp_path: Path, result: str, gap_s: float, late_s: float
) -> None:
    source = make_sound(tmp_path / "in.mkv", "flac", gap_s=gap_s, late_s=late_s)
    output = tmp_path / f"out{result}"
    edit_video(source, output, identity)
    # in the end the sound lies where it lay: what comes after the gap is at most a packet late
    assert abs(tone(output)[1] - tone(source)[1]) < 0.025


def test_damaged_sound_is_counted(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "in.mkv", "ac3")
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as opened:
        packet = [p for p in opened.demux(audio=0) if p.size][8]
        start = data.index(bytes(packet))
    data[start + 8 : start + packet.size] = bytes(packet.size - 8)
    source.write_bytes(bytes(data))
    report = edit_video(source, tmp_path / "out.webm", identity)
    assert report.frames == FRAMES
    assert abs(tone(tmp_path / "out.webm")[1] - CLICK_S) < 0.01


def texts(path: Path) -> tuple[str, list[tuple[float, float, bytes]]]:
    """The codec of the subtitles, and when, how long and what each of them is."""
    with av.open(str(path)) as opened:
        stream = opened.streams.subtitles[0]
        found = [
            (
                round(float(packet.pts * packet.time_base), 2),
                round(float(packet.duration * packet.time_base), 2),
                each.dialogue,
            )
            for packet in opened.demux(stream)
            if packet.size
            for each in stream.codec_context.decode(packet)
        ]
        return stream.codec_context.codec.canonical_name, found


@pytest.mark.parametrize(
    ("suffix", "result", "becomes"),
    [
        (".mp4", ".mkv", "subrip"),
        (".mp4", ".webm", "webvtt"),
        (".mkv", ".mp4", "mov_text"),
        (".mkv", ".mov", "mov_text"),
        (".mkv", ".webm", "webvtt"),
        (".mp4", ".mp4", "mov_text"),
    ],
)
def test_subtitles_become_what_the_container_takes(
    tmp_path: Path, suffix: str, result: str, becomes: str
) -> None:
    source = make_clip(tmp_path / f"in{suffix}", ClipSpec(size_wh=(64, 48), subtitle=True))
    output = tmp_path / f"out{result}"
    report = edit_video(source, output, identity)
    assert texts(output) == (becomes, [(0.0, 0.3, b"one"), (0.4, 0.3, b"two")])
    told = any(f"written as {becomes}" in note for note in report.notes)
    assert told == (texts(source)[0] != becomes)


def test_styled_subtitles_without_a_header_are_converted(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        video = output.add_stream("libx264", rate=25, width=64, height=48)
        stream = output.add_mux_stream("ass")
        stream.time_base = Fraction(1, 1000)
        output.start_encoding()
        packet = av.Packet(rb"0,0,Default,,0,0,0,,{\b1}bold{\b0}")
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 40
        packet.duration = 500
        output.mux(packet)
        for index in range(FRAMES):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    edit_video(source, tmp_path / "out.mp4", identity)
    name, found = texts(tmp_path / "out.mp4")
    assert name == "mov_text"
    assert [(at, length) for at, length, _ in found] == [(0.04, 0.5)]
    assert b"bold" in found[0][2]


@pytest.mark.parametrize("result", [".avi", ".ts"])
def test_subtitles_are_named_where_nothing_holds_them(tmp_path: Path, result: str) -> None:
    source = make_clip(tmp_path / "in.mp4", ClipSpec(size_wh=(64, 48), subtitle=True))
    report = edit_video(source, tmp_path / f"out{result}", identity)
    assert any(
        f"subtitle stream 1 (mov_text) left out: {result} files hold no" in note
        for note in report.notes
    )


def kinds(path: Path) -> list[tuple[str, str | None, bool]]:
    """The type and name of every stream, and whether it is the cover."""
    with av.open(str(path)) as opened:
        return [(s.type, s.name, bool(int(s.disposition) & 0x400)) for s in opened.streams]


@pytest.mark.parametrize("result", [".mp4", ".m4v", ".mkv"])
def test_the_cover_stays(tmp_path: Path, result: str) -> None:
    source = make_clip(tmp_path / "in.mp4", ClipSpec(size_wh=(64, 48), cover=True))
    output, back = tmp_path / f"out{result}", tmp_path / "back.mp4"
    report = edit_video(source, output, identity)
    assert kinds(output)[1:] == [("video", "mjpeg", True)]
    assert not any("left out" in note for note in report.notes)
    edit_video(output, back, identity)
    assert kinds(back)[1:] == [("video", "mjpeg", True)]


@pytest.mark.parametrize("result", [".mov", ".webm", ".avi", ".ts"])
def test_a_cover_without_a_place_is_named(tmp_path: Path, result: str) -> None:
    source = make_clip(tmp_path / "in.mp4", ClipSpec(size_wh=(64, 48), cover=True))
    output = tmp_path / f"out{result}"
    report = edit_video(source, output, identity)
    assert len(kinds(output)) == 1
    assert any("left out" in note and "cover" in note for note in report.notes)


@pytest.mark.parametrize("result", [".mp4", ".webm"])
def test_an_attachment_is_named_where_nothing_holds_it(tmp_path: Path, result: str) -> None:
    source = make_clip(tmp_path / "in.mkv", ClipSpec(size_wh=(64, 48), attachment=True))
    report = edit_video(source, tmp_path / f"out{result}", identity)
    assert any("attachment stream 1 (font.ttf) left out" in note for note in report.notes)


def make_camera_clip(path: Path, order: str) -> Path:
    """A clip as action cameras make them, its data streams in an order of letters.

    t: the timecode that the muxer makes. g: measurements, `gpmd`. u: a kind that is not known.
    """
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, width=64, height=48)
        if "t" in order:
            video.metadata["timecode"] = "10:11:12:13"
        streams = []
        for _ in [letter for letter in order if letter in "gu"]:
            stream = output.add_mux_stream("mov_text")
            stream.time_base = Fraction(1, 1000)
            streams.append(stream)
        output.start_encoding()
        for stream in streams:
            for at_ms in (0, 400):
                packet = av.Packet(b"\0\x08DATA" + bytes(4))
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = at_ms
                packet.duration = 400
                output.mux(packet)
        for index in range(FRAMES):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    data = path.read_bytes()
    for letter in [letter for letter in order if letter in "gu"]:
        kind = {"g": b"gpmd", "u": b"camm"}[letter]
        data = data.replace(b"sbtl", b"meta", 1).replace(b"tx3g", kind, 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("order", ["g", "tg", "gu", "ug", "tgu", "tug", "uug"])
def test_data_streams_stay_in_any_order(tmp_path: Path, order: str) -> None:
    source, output = make_camera_clip(tmp_path / "in.mp4", order), tmp_path / "out.mp4"
    report = edit_video(source, output, identity)
    names = [name for kind, name, _ in kinds(output) if kind == "data"]
    assert names.count("bin_data") == order.count("g")
    assert len(names) == order.count("g") + order.count("t")
    left = [note for note in report.notes if "left out" in note]
    assert len(left) == order.count("u")
    assert all("FFmpeg cannot write it into .mp4 files" in note for note in left)
    with av.open(str(output)) as opened:
        has_timecode = opened.streams.video[0].metadata.get("timecode") == "10:11:12:13"
    assert has_timecode == ("t" in order)
    assert not any("out of order" in note for note in report.notes)


def test_data_streams_are_named_where_nothing_holds_them(tmp_path: Path) -> None:
    source = make_camera_clip(tmp_path / "in.mp4", "tg")
    report = edit_video(source, tmp_path / "out.mkv", identity)
    assert sum("Matroska has no place for it" in note for note in report.notes) == 2
