"""Every kind of output holds the whole clip at its times, or is refused in plain words at once."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame
from mien.runtime.video import VideoOptions, VideoReport, edit_video, identity

Clip = Callable[..., Path]
Process = Callable[[Frame], Frame]
FRAMES, RATE = 24, 25
# What FFmpeg says to programmers.
JARGON = ("Invalid argument", "Invalid data", "patches welcome", "Errno", "returned", "Unknown")
HELD = (
    *(".mp4", ".mkv", ".mov", ".webm", ".ts", ".avi", ".mpg", ".vob", ".ogv", ".y4m", ".flv"),
    *(".3gp", ".m4v", ".mts", ".m2ts", ".wmv"),
)
REFUSED = (".gif", ".h264x", ".wav", ".mp3", ".srt", ".png")


def times(path: Path) -> list[float]:
    """When the frames of a file are shown, from the first one on."""
    with av.open(str(path)) as container:
        shown = [float(frame.time) for frame in container.decode(video=0)]
    return [time_s - shown[0] for time_s in shown]


def edited(source: Path, destination: Path, process: Process = identity) -> VideoReport | str:
    """What was done, or the one line that says why nothing was."""
    try:
        return edit_video(source, destination, process, VideoOptions(quality=60))
    except VideoError as error:
        line = str(error)
    assert not destination.exists()
    assert "\n" not in line
    assert not [word for word in JARGON if word in line]
    return line


@pytest.mark.parametrize("suffix", HELD)
@pytest.mark.parametrize("sound", [0, 1], ids=["silent", "sound"])
def test_a_clip_keeps_its_times_in_every_kind_of_file(
    suffix: str, sound: int, clip: Clip, tmp_path: Path
) -> None:
    path = clip("in.mp4", frames=FRAMES, audio_tracks=sound)
    out = tmp_path / f"out{suffix}"
    report = edited(path, out)
    assert isinstance(report, VideoReport), report
    assert (report.frames, report.lost) == (FRAMES, None)
    if suffix != ".wmv":  # FFmpeg's reader guesses the times of two of its frames
        assert np.allclose(times(out), np.arange(FRAMES) / RATE, atol=0.002)


@pytest.mark.parametrize("suffix", REFUSED)
def test_what_is_no_kind_of_file_for_a_video_is_refused_at_once(
    suffix: str, clip: Clip, tmp_path: Path
) -> None:
    seen: list[Frame] = []

    def process(frame: Frame) -> Frame:
        seen.append(frame)
        return frame

    path = clip("in.mp4", frames=FRAMES)
    assert isinstance(edited(path, tmp_path / f"out{suffix}", process), str)
    assert not seen


def test_raw_frames_are_those_of_the_clip(clip: Clip, tmp_path: Path) -> None:
    path = clip("in.mkv", codec="ffv1", pixel_format="yuv422p10le", options={}, audio_tracks=1)
    report = edit_video(path, tmp_path / "out.y4m", identity)
    assert (report.encoder, report.pixel_format) == ("rawvideo", "yuv422p10le")
    assert any("left out" in note for note in report.notes)
    with av.open(str(path)) as one, av.open(str(tmp_path / "out.y4m")) as other:
        for first, second in zip(one.decode(video=0), other.decode(video=0), strict=True):
            assert np.array_equal(first.to_ndarray(), second.to_ndarray())


def test_a_varying_rate_in_a_file_that_numbers_frames_is_told(clip: Clip, tmp_path: Path) -> None:
    pts = [0, 20, 90, 130, 240, 250, 300, 420, 440, 500]
    path = clip("in.mkv", pts=pts, frames=10, time_base=Fraction(1, 1000))
    for name in ("out.y4m", "out.ogv"):
        report = edit_video(path, tmp_path / name, identity)
        assert any("steady" in note for note in report.notes)


RATES = [Fraction(1, 100_000), Fraction(1, 5), Fraction(33, 7), Fraction(1000), Fraction(1_000_000)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".ts", ".avi", ".ogv"])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_a_rate_beyond_belief_works_or_is_refused_in_one_line(
    suffix: str, rate: Fraction, clip: Clip, tmp_path: Path
) -> None:
    path = clip("in.mkv", rate=rate, frames=6, size_wh=(64, 48))
    report = edited(path, tmp_path / f"out{suffix}")
    if isinstance(report, VideoReport):
        assert report.frames == 6
    else:
        assert ".mkv" in report


BASES = [Fraction(1, 1_000_000), Fraction(1, (1 << 31) - 1), Fraction(1001, 30_000)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts", ".avi", ".mpg"])
@pytest.mark.parametrize("base", BASES, ids=str)
def test_an_odd_clock_changes_no_time(
    suffix: str, base: Fraction, clip: Clip, tmp_path: Path
) -> None:
    pts = [round(number / 25 / base) for number in range(10)]
    path = clip("in.nut", frames=10, time_base=base, pts=pts, size_wh=(64, 48))
    report = edited(path, tmp_path / f"out{suffix}")
    assert isinstance(report, VideoReport), report
    rounding = 0.041 if suffix == ".avi" else max(0.002, float(base))
    assert np.allclose(times(tmp_path / f"out{suffix}"), times(path), atol=rounding)
