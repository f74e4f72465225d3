"""What a container says of a whole video stays, or is named as lost."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from mien.runtime.video import VideoOptions, edit_video, identity
from mien.runtime.video.writing.side_data import stream_side_data
from tests.runtime.video import boxes
from tests.runtime.video.clips import ClipSpec, make_clip

CROPPING = "Frame Cropping"
STEREO = "Stereo 3D"
SPHERE = "Spherical Mapping"
MASTERING = "Mastering display metadata"
LIGHT = "Content light level metadata"
ALL = {
    CROPPING: boxes.clean_aperture(120, 96),
    STEREO: boxes.top_and_bottom(),
    SPHERE: boxes.sphere(),
    MASTERING: boxes.mastering_display(),
    LIGHT: boxes.light_level(),
}


def said_of(path: Path) -> dict[str, str]:
    """What the container says of the file's video."""
    with av.open(str(path)) as opened:
        return stream_side_data(opened, opened.streams.video[0])


def make(path: Path, *facts: bytes, **settings: object) -> Path:
    """A short clip with boxes in its sample entry."""
    return boxes.with_boxes(make_clip(path, ClipSpec(frames=4, **settings)), *facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_each_stays(tmp_path: Path, name: str, suffix: str) -> None:
    source = make(tmp_path / "in.mp4", ALL[name])
    before = said_of(source)
    assert name in before
    output = tmp_path / f"out{suffix}"
    report = edit_video(source, output, identity)
    after = said_of(output)
    assert name in after
    if name in (CROPPING, SPHERE):
        assert after[name] == before[name]
    assert not any("left out" in note for note in report.notes)
    assert report.frames == 4


def test_they_stay_together_with_all_else(tmp_path: Path) -> None:
    source = make(
        tmp_path / "in.mp4", *ALL.values(), audio_tracks=1, rotation=1, chapters=True, cover=True
    )
    output = tmp_path / "out.mp4"
    edit_video(source, output, identity)
    assert set(ALL) <= set(said_of(output))
    with av.open(str(output)) as again:
        assert [stream.name for stream in again.streams if stream.type != "data"] == [
            "h264",
            "aac",
            "mjpeg",
        ]
        assert next(again.decode(video=0)).rotation == -90
        assert len(again.chapters()) == 2
        assert again.streams.video[0].codec_context.extradata


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9"])
def test_they_stay_with_other_codecs(tmp_path: Path, codec: str) -> None:
    options = {"x265-params": "log-level=none", "preset": "ultrafast"} if codec == "libx265" else {}
    source = make(tmp_path / "in.mp4", ALL[CROPPING], ALL[LIGHT], codec=codec, options=options)
    report = edit_video(source, tmp_path / "out.mp4", identity)
    assert {CROPPING, LIGHT} <= set(said_of(tmp_path / "out.mp4"))
    assert not any("left out" in note for note in report.notes)


def test_what_does_not_go_along_is_named(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", ALL[CROPPING], ALL[SPHERE])
    report = edit_video(source, tmp_path / "out.mkv", identity, VideoOptions(codec="ffv1"))
    lost = [note for note in report.notes if "left out" in note]
    assert len(lost) == 1
    assert "the cropping" in lost[0]
    assert "the mapping of the sphere" in lost[0]


def test_what_the_container_has_no_place_for_is_named(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", ALL[CROPPING])
    report = edit_video(source, tmp_path / "out.ts", identity)
    assert any("the cropping left out" in note for note in report.notes)


def test_two_pictures_side_by_side_are_no_sphere(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", ALL[SPHERE])
    output = tmp_path / "out.mp4"
    report = edit_video(source, output, identity, VideoOptions(side_by_side=True))
    assert SPHERE not in said_of(output)
    assert any("sphere" in note and "side by side" in note for note in report.notes)


def test_dolby_vision_is_named_as_lost_and_its_record_goes(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", boxes.dolby_vision(), ALL[LIGHT])
    assert "DOVI configuration record" in said_of(source)
    output = tmp_path / "out.mp4"
    report = edit_video(source, output, identity)
    assert "DOVI configuration record" not in said_of(output)
    assert any("Dolby Vision left out" in note for note in report.notes)


def test_a_view_without_stereo_is_nothing_to_lose(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", boxes.box(b"st3d", bytes(5)))
    report = edit_video(source, tmp_path / "out.mov", identity)
    assert not any("left out" in note for note in report.notes)
