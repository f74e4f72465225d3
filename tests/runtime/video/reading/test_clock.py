"""Clocks that jump or begin again give videos that are as long as they are, in step."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.runtime.video import VideoOptions, edit_video, identity
from mien.runtime.video.reading.clock import SteadyClock
from mien.runtime.video.reading.source import VideoSource
from tests.runtime.video.clips import ClipSpec, video_frames

Clip = Callable[..., Path]
ROUND = 1 << 33
BASE = Fraction(1, 90_000)
FAST = VideoOptions(quality=50, speed="ultrafast")
FORMATS = {".ts": "mpegts", ".mpg": "mpeg", ".vob": "vob"}
FRAMES = 30
LENGTH_S = FRAMES / 25


def recording(path: Path, start: int, *, sound: bool = True, frames: int = FRAMES) -> Path:
    """A recording at 25 Hz whose clock shows `start` at its first picture, in units of BASE."""
    codec = "libx264" if path.suffix == ".ts" else "mpeg2video"
    options = {"preset": "veryfast", "g": "12", "bf": "2"} if codec == "libx264" else {"g": "12"}
    copy = {"mpegts_copyts": "1"} if path.suffix == ".ts" else {}
    kind = FORMATS[path.suffix]
    with av.open(str(path), "w", format=kind, container_options=copy) as output:
        video = output.add_stream(codec, rate=25, width=96, height=64, options=options)
        video.pix_fmt = "yuv420p"
        audio = output.add_stream("mp2", rate=48000, layout="stereo") if sound else None
        packets = []
        spec = ClipSpec(frames=frames, size_wh=(96, 64))
        for number, frame in enumerate(video_frames(spec, Fraction(1, 25))):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        if audio is not None:
            packets += encoded_sound(audio, frames * 1920)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            ticks = round(start * BASE / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            output.mux(packet)
    return path


def encoded_sound(audio: av.AudioStream, samples: int) -> list[av.Packet]:
    """Packets of silence."""
    packets = []
    for start in range(0, samples, 1152):
        silence = np.zeros((1, 2 * min(1152, samples - start)), np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += audio.encode(frame)
    return packets + audio.encode(None)


def with_text(path: Path, start: int) -> Path:
    """A recording with DVB subtitles 0.2 s and 0.8 s after its beginning."""
    plain = recording(path.with_name(f"plain{path.suffix}"), start)
    copy = {"mpegts_copyts": "1"}
    with (
        av.open(str(plain)) as old,
        av.open(str(path), "w", format="mpegts", container_options=copy) as new,
    ):
        copies = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        text = new.add_mux_stream("dvb_subtitle")
        text.time_base = BASE
        new.start_encoding()
        for after_s in (0.2, 0.8):
            packet = av.Packet(b"\x20\x00\x0f\x10\x00\x01\x00\x02\x05\x40\xff")
            packet.stream, packet.time_base = text, BASE
            packet.pts = packet.dts = start + round(after_s / BASE)
            new.mux(packet)
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    return path


def joined(path: Path, starts: Sequence[int], *, sound: bool = True) -> Path:
    """Recordings whose clocks begin at `starts`, one after the other in one file."""
    parts = [
        recording(path.with_name(f"part{number}{path.suffix}"), start, sound=sound).read_bytes()
        for number, start in enumerate(starts)
    ]
    path.write_bytes(b"".join(parts))
    return path


@dataclass(frozen=True)
class Times:
    """When the packets of a file are shown, in seconds, by the type of their stream."""

    video: list[float]
    audio: list[float]

    @property
    def steps(self) -> list[float]:
        """Between a picture and the next."""
        return np.diff(self.video).tolist()


def times(path: Path) -> Times:
    """Those of a file."""
    found: dict[str, list[float]] = {"video": [], "audio": []}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.stream.type in found:
                found[packet.stream.type].append(float(packet.pts * packet.time_base))
    return Times(*(sorted(found[kind]) for kind in ("video", "audio")))


STARTS = {
    "the same times again": [18_000, 18_000],
    "three times": [18_000, 18_000, 18_000],
    "ten hours ahead": [18_000, 36_000 * 90_000],
    "ten hours back": [36_000 * 90_000, 18_000],
    "a little back": [200_000, 180_000],
    "eleven seconds ahead": [18_000, 18_000 + 108_000 + 11 * 90_000],
    "the clock begins again": [ROUND - 50_000],
    "joined as it begins again": [ROUND - 108_000, 18_000 + 90_000 * 3600],
}


@pytest.mark.parametrize("starts", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("name", ["in.ts", "in.mpg"])
def test_a_jump_of_the_clock_changes_no_length(
    name: str, starts: Sequence[int], tmp_path: Path
) -> None:
    path = joined(tmp_path / name, starts)
    report = edit_video(path, tmp_path / "out.mkv", identity, FAST)
    assert (report.frames, report.lost) == (FRAMES * len(starts), None)
    found = times(tmp_path / "out.mkv")
    assert np.allclose(found.steps, 0.04, atol=0.002)
    assert found.video[0] < 0.2
    first, last = found.video[0] - found.audio[0], found.video[-1] - found.audio[-1]
    assert abs(first - last) < 0.1  # in step at the end as at the start
    for sound_s in np.diff(found.audio):
        assert sound_s < 0.1


@pytest.mark.parametrize("gap_s", [0, 0.2, 1, 1.52])
@pytest.mark.parametrize("length", [188, 192])
def test_recordings_joined_without_a_jump_lose_nothing(
    gap_s: float, length: int, tmp_path: Path
) -> None:
    path = joined(tmp_path / "in.ts", [18_000, 126_000 + round(gap_s * 90_000)])
    data = path.read_bytes()
    if length == 192:  # each packet with a time before it, as on discs and in cameras
        packets = [data[at : at + 188] for at in range(0, len(data), 188)]
        path.write_bytes(b"".join(bytes(4) + packet for packet in packets))
    report = edit_video(path, tmp_path / "out.mkv", identity, FAST)
    assert (report.frames, report.lost) == (2 * FRAMES, None)
    assert max(times(tmp_path / "out.mkv").steps) == pytest.approx(0.04 + gap_s, abs=0.002)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".ts", ".mkv"])
@pytest.mark.parametrize("sound", [True, False], ids=["sound", "silent"])
@pytest.mark.parametrize("starts", [[18_000, 18_000], [ROUND - 50_000]], ids=["back", "round"])
def test_every_container_takes_a_clock_that_jumps(
    suffix: str, sound: bool, starts: Sequence[int], tmp_path: Path
) -> None:
    path = joined(tmp_path / "in.ts", starts, sound=sound)
    out = tmp_path / f"out{suffix}"
    report = edit_video(path, out, identity, FAST)
    assert report.lost is None
    with av.open(str(out)) as container:
        assert abs(container.duration / av.time_base - LENGTH_S * len(starts)) < 0.12
    assert np.allclose(times(out).steps, 0.04, atol=0.002)


@pytest.mark.parametrize("again", [18_000, 36_000 * 90_000], ids=["back", "ahead"])
@pytest.mark.parametrize("name", ["out.ts", "out.mkv"])
def test_subtitles_stay_with_their_pictures(again: int, name: str, tmp_path: Path) -> None:
    first = with_text(tmp_path / "one.ts", 18_000).read_bytes()
    path = tmp_path / "in.ts"
    path.write_bytes(first + with_text(tmp_path / "two.ts", again).read_bytes())
    report = edit_video(path, tmp_path / name, identity, FAST)
    assert report.lost is None
    with av.open(str(tmp_path / name)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        shown = [p.pts * p.time_base for p in packets if p.stream.type == "subtitle"]
        video = min(p.pts * p.time_base for p in packets if p.stream.type == "video")
    assert np.allclose([float(time - video) for time in shown], [0.2, 0.8, 1.4, 2.0], atol=0.005)


def test_streams_that_begin_later_under_other_numbers_are_named(tmp_path: Path) -> None:
    first, second = recording(tmp_path / "one.ts", 18_000), tmp_path / "two.ts"
    numbers = {"mpegts_start_pid": "700"}
    with (
        av.open(str(first)) as old,
        av.open(str(second), "w", format="mpegts", container_options=numbers) as new,
    ):
        copies = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    path = tmp_path / "in.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    for name in ("out.mkv", "out.mp4"):
        report = edit_video(path, tmp_path / name, identity, FAST)
        assert (report.frames, report.lost) == (FRAMES, None)
        assert any(note.startswith("video and audio that begin") for note in report.notes)


def test_a_jump_ahead_makes_no_count_of_frames(tmp_path: Path) -> None:
    with VideoSource(joined(tmp_path / "in.ts", [18_000, 36_000 * 90_000])) as source:
        assert source.frame_count is None
    with VideoSource(recording(tmp_path / "one.ts", 18_000)) as source:
        assert source.frame_count == FRAMES


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4", ".mov"])
def test_sound_of_broadcasts_is_copied(suffix: str, tmp_path: Path) -> None:
    path, out = recording(tmp_path / "in.ts", 18_000), tmp_path / f"out{suffix}"
    assert not [n for n in edit_video(path, out, identity, FAST).notes if "re-encoded" in n]
    sound = []
    for file in (path, out):
        with av.open(str(file)) as container:
            sound.append(b"".join(bytes(p) for p in container.demux(audio=0)))
    assert sound[0] == sound[1]


def test_a_long_clock_begins_at_nothing_in_files_that_count_from_there(tmp_path: Path) -> None:
    path = recording(tmp_path / "in.ts", 36_000 * 90_000)
    for name, starts_late in (("out.mkv", False), ("out.mp4", False), ("out.ts", True)):
        edit_video(path, tmp_path / name, identity, FAST)
        assert (times(tmp_path / name).video[0] > 1000) == starts_late


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4"])
def test_a_gap_that_a_file_states_is_kept(name: str, clip: Clip, tmp_path: Path) -> None:
    pts = [*range(0, 400, 40), *range(20_000, 20_400, 40)]
    path = clip(name, frames=20, pts=pts, time_base=Fraction(1, 1000), audio_tracks=1)
    out = tmp_path / f"out{path.suffix}"
    report = edit_video(path, out, identity, FAST)
    assert report.lost is None
    assert np.allclose(times(out).video, times(path).video, atol=0.002)


class Tracks:
    """Packets of pictures, sound and subtitles, each with a time in seconds."""

    def __init__(self) -> None:
        self._container = av.open(io.BytesIO(), "w", format="mpegts")
        self._streams = {
            "video": self._container.add_stream("mpeg2video", rate=25),
            "audio": self._container.add_stream("mp2", rate=48000),
            "text": self._container.add_mux_stream("dvb_subtitle"),
        }

    def packets(self, items: Sequence[tuple[str, float]]) -> Iterator[av.Packet]:
        """One for each item, 40 ms long."""
        for kind, time_s in items:
            packet = av.Packet(b"1")
            packet.stream = self._streams[kind]
            packet.time_base = BASE
            packet.pts = packet.dts = round(time_s / BASE)
            packet.duration = 3600
            yield packet

    def steady(self, *items: tuple[str, float]) -> list[tuple[str, float]]:
        """The items as the clock gives them."""
        clock = SteadyClock(can_jump=True)
        return [
            (("video", "audio", "text")[packet.stream_index], round(float(packet.dts * BASE), 3))
            for packet, _ in clock.steady(self.packets(items))
        ]


def run(kind: str, start_s: float, end_s: float) -> list[tuple[str, float]]:
    """Items each 40 ms from one time to another."""
    return [(kind, round(time_s, 3)) for time_s in np.arange(start_s, end_s - 0.001, 0.04)]


def test_sound_that_comes_late_in_the_file_stays_with_its_pictures() -> None:
    items = [
        *run("video", 100, 101),
        *run("audio", 100, 100.6),
        *run("video", 5, 5.4),  # the clock has jumped, and the sound of before is still to come
        *run("audio", 100.6, 101),
        ("text", 100.9),
        ("text", 5.2),
        *run("audio", 5, 5.4),
    ]
    found = Tracks().steady(*items)
    assert [time_s for kind, time_s in found if kind == "video"] == pytest.approx(
        np.arange(100, 101.399, 0.04), abs=0.001
    )
    assert [time_s for kind, time_s in found if kind == "audio"] == pytest.approx(
        np.arange(100, 101.399, 0.04), abs=0.001
    )
    assert [time_s for kind, time_s in found if kind == "text"] == [100.9, 101.2]


def test_what_is_joined_begins_after_the_longer_stream_has_ended() -> None:
    items = [*run("video", 0, 1), *run("audio", 0, 1.4), *run("video", 0, 1), *run("audio", 0, 1)]
    found = Tracks().steady(*items)
    second = [time_s for kind, time_s in found if kind == "audio"][35:]
    assert second[0] == pytest.approx(1.4)
    assert [time_s for kind, time_s in found if kind == "video"][25] == pytest.approx(1.4)


def test_a_stream_that_waits_while_another_goes_on_has_not_jumped() -> None:
    items = [*run("video", 0, 1), *run("audio", 0, 20), *run("video", 20, 21)]
    items += run("audio", 20, 23)
    assert Tracks().steady(*items) == [(kind, round(time_s, 3)) for kind, time_s in items]
    ordered = sorted(items, key=lambda item: item[1])
    assert Tracks().steady(*ordered) == ordered


def test_a_stream_that_begins_where_another_has_jumped_begins_there() -> None:
    items = [*run("video", 100, 101), *run("video", 5, 6), *run("audio", 5.5, 6)]
    found = Tracks().steady(*items)
    assert next(time_s for kind, time_s in found if kind == "audio") == pytest.approx(101.5)


def test_streams_that_end_without_a_jump_hold_nothing_back() -> None:
    items = [*run("audio", 100, 100.2), *run("video", 100, 101), *run("video", 5, 10)]
    items += [*run("video", 5, 6), *run("video", 400, 401)]
    found = Tracks().steady(*items)
    assert [time_s for kind, time_s in found if kind == "video"] == pytest.approx(
        np.arange(100, 107.999 + 0.0, 0.04), abs=0.001
    )
