"""MPEG-2 stays MPEG-2: at its rate, its shape and its fields, whatever its container's clock."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mien.runtime.video import VideoOptions, edit_video, identity
from mien.runtime.video.reading.mpeg import shape_note, stream_rate
from tests.runtime.video.clips import rgb_picture

Clip = Callable[..., Path]
MPEG2: dict[str, Any] = {"codec": "mpeg2video", "options": {"g": "12"}, "size_wh": (96, 64)}
NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)


def facts(path: Path) -> tuple[str, Fraction, Fraction | None, bool]:
    """Codec, the rate that the stream states, shape of pixels, and whether frames are fields."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        context = stream.codec_context
        shape = stream.sample_aspect_ratio or context.sample_aspect_ratio
        return context.name, Fraction(context.framerate), shape, frame.interlaced_frame


def times(path: Path) -> list[float]:
    """When each frame is shown, from the first one on."""
    with av.open(str(path)) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    return [time - shown[0] for time in shown]


@pytest.mark.parametrize("name", ["in.vob", "in.mpg", "in.ts", "in.mkv"])
@pytest.mark.parametrize("rate", [Fraction(25), NTSC, FILM, Fraction(60)], ids=str)
def test_mpeg2_stays_mpeg2_at_its_own_rate(
    name: str, rate: Fraction, clip: Clip, tmp_path: Path
) -> None:
    path = clip(name, rate=rate, sample_aspect_ratio=Fraction(1), **MPEG2)
    out = tmp_path / f"out{path.suffix}"
    report = edit_video(path, out, identity)
    assert (report.encoder, report.frames, report.lost) == ("mpeg2video", 24, None)
    assert not [note for note in report.notes if "rounded" not in note]
    assert facts(out) == facts(path) == ("mpeg2video", rate, 1, False)
    assert np.allclose(times(out), times(path), atol=0.0015)


@pytest.mark.parametrize("name", ["in.vob", "in.ts", "in.mkv"])
def test_fields_and_a_wide_shape_are_kept(name: str, clip: Clip, tmp_path: Path) -> None:
    wide = Fraction(16 * 64, 9 * 96)
    spec = MPEG2 | {"options": {"g": "12", "flags": "+ildct+ilme", "top": "1"}}
    path = clip(name, sample_aspect_ratio=wide, **spec)
    kept = facts(path)
    assert kept[2:] == (wide, True)
    for suffix in (".vob", ".ts", ".mkv"):
        out = tmp_path / f"out{suffix}"
        edit_video(path, out, identity)
        assert facts(out) == kept


@pytest.mark.parametrize("name", ["in.mkv", "in.ts"])
def test_a_varying_rate_keeps_its_times(name: str, clip: Clip, tmp_path: Path) -> None:
    pts = np.cumsum([0, *[33, 50, 33, 67, 40] * 5])[:24].tolist()
    path = clip(name, pts=pts, time_base=Fraction(1, 1000), codec="libx264", size_wh=(96, 64))
    options = VideoOptions(codec="mpeg2video", quality=90)
    report = edit_video(path, tmp_path / f"out{path.suffix}", identity, options)
    assert report.encoder == "mpeg2video"
    assert np.allclose(times(tmp_path / f"out{path.suffix}"), times(path), atol=0.0015)


def test_the_pictures_of_mpeg2_are_those_of_the_source(clip: Clip, tmp_path: Path) -> None:
    path = clip("in.vob", **MPEG2)
    edit_video(path, tmp_path / "out.vob", identity, VideoOptions(quality=95))
    with av.open(str(tmp_path / "out.vob")) as container:
        for number, frame in enumerate(container.decode(video=0)):
            shown = frame.to_ndarray(format="rgb24", threads=1).astype(float)
            assert np.abs(shown - rgb_picture(number, 96, 64)).mean() < 10


def test_mpeg1_is_written_at_a_rate_that_it_has(clip: Clip, tmp_path: Path) -> None:
    path = clip("in.mp4", rate=Fraction(15), size_wh=(96, 64))
    options = VideoOptions(codec="mpeg1video")
    report = edit_video(path, tmp_path / "out.ts", identity, options)
    assert report.encoder == "mpeg1video"
    assert any("15 frames a second" in note for note in report.notes)
    assert np.allclose(times(tmp_path / "out.ts"), times(path), atol=0.0015)


def test_a_rate_is_taken_from_the_stream_first_and_is_one_that_can_be_written() -> None:
    assert stream_rate("mpeg2video", [Fraction(25), Fraction(90_000)]) == 25
    assert stream_rate("mpeg2video", [None, None]) == 25
    assert stream_rate("mpeg2video", [Fraction(25, 2)]) == Fraction(25, 2)
    assert stream_rate("mpeg1video", [Fraction(25, 2)]) == FILM
    assert stream_rate("mpeg2video", [Fraction(90_000)]) == 60
    assert stream_rate("mpeg2video", [Fraction(2997, 100)]) == NTSC


def test_a_shape_that_mpeg2_does_not_have_is_told(clip: Clip, tmp_path: Path) -> None:
    assert shape_note("mpeg2video", (720, 576), Fraction(16, 15)) is None
    assert shape_note("mpeg2video", (720, 576), Fraction(1)) is None
    path = clip("in.mkv", sample_aspect_ratio=Fraction(1, 2), size_wh=(96, 64))
    options = VideoOptions(codec="mpeg2video")
    for name, is_told in (("out.ts", True), ("out.mkv", False)):
        notes = edit_video(path, tmp_path / name, identity, options).notes
        assert any("1:2" in note for note in notes) == is_told
