from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE, time_tag
from mien.apps.main import run
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.session import FilterRun
from mien.runtime.target import parse_target
from mien.runtime.video import read_frames
from mien.runtime.video.planes import frame_from_av
from mien.runtime.video.reading.moment import read_moment
from tests.apps.fakes import EDITED, FACE, Makers, scene, write_clip, write_picture_file

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write_steps(path: Path, frames: int, *, rate: int = 10, **stream_options: str) -> Path:
    """An H.264 clip whose brightness tells the frame: 2 a frame, from 20 on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"qp": "4", **stream_options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = Fraction(1, rate)
        for index in range(frames):
            grey = np.full((48, 64), 20 + 2 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="gray").reformat(
                format="yuv420p", threads=1
            )
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_moment_of_a_video_becomes_a_picture(here: Path, capsys: Captured) -> None:
    write_clip(here / "talk.mp4")
    makers = Makers()
    assert run(["edit", "talk.mp4", "--emotion", "happy", "--at", "0:00.6"], makers) == 0
    assert names(here) == ["talk.mp4", "talk_happy_0-00.6.png"]
    picture = cv2.imread("talk_happy_0-00.6.png")
    assert picture.shape == (48, 64, 3)
    assert picture[FACE, EDITED].mean() > 140
    assert makers.made[0].closed
    said = capsys.readouterr()
    assert (said.out.count("\n"), said.err) == (1, "")
    assert "talk_happy_0-00.6.png: 1 face" in said.out


def test_a_preview_may_be_compared_and_be_a_jpeg_or_webp(here: Path, capsys: Captured) -> None:
    write_clip(here / "talk.mp4")
    for suffix, start in ((".jpg", b"\xff\xd8"), (".WEBP", b"RIFF"), (".png", b"\x89PNG")):
        arguments = ["edit", "talk.mp4", "--emotion", "sad", "--at", "0.5", "-o", f"out{suffix}"]
        assert run([*arguments, "--compare", "--json"], Makers()) == 0
        assert Path(f"out{suffix}").read_bytes().startswith(start)
        both = cv2.imread(f"out{suffix}")
        assert both.shape == (48, 128, 3)
        assert both[FACE, EDITED].mean() < 120
        assert both[FACE, 80:96].mean() > 130
        assert json.loads(capsys.readouterr().out)["output"] == f"out{suffix}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["talk.mp4", "--at", "50"], "talk.mp4 ends at 1.2 s, before --at 50 s"),
        (["talk.mp4", "--at", "soon"], "--at: 'soon' is not a time"),
        (["talk.mp4", "--at", "0", "-o", "out.mp4"], ".png, .jpg or .webp, which out.mp4 is not"),
        (["talk.mp4", "--at", "0", "--from", "0"], "leave out --from, --to and --codec"),
        (["a.png", "--at", "0"], "a.png is a picture; --at needs a video"),
        (["text.mp4", "--at", "0"], "cannot be read as a video"),
    ],
)
def test_what_has_no_such_moment_is_said_in_one_line(
    here: Path, capsys: Captured, arguments: list[str], said: str
) -> None:
    write_clip(here / "talk.mp4")
    write_picture_file(here / "a.png")
    Path("text.mp4").write_text("no video", encoding="utf-8")
    assert run(["edit", *arguments, "--emotion", "happy"], Makers()) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert names(here) == ["a.png", "talk.mp4", "text.mp4"]


def test_previews_are_known_as_results_of_their_videos(here: Path) -> None:
    write_clip(here / "talk.mp4")
    for at in ("0.6", "0:01"):
        assert run(["edit", ".", "--emotion", "happy", "--at", at], Makers()) == 0
    write_picture_file(here / "other_happy_0-01.png")  # no result of mien: there is no such video
    assert run(["edit", ".", "--emotion", "sad"], Makers()) == 0
    assert names(here) == [
        "other_happy_0-01.png",
        "other_happy_0-01_sad.png",
        "talk.mp4",
        "talk_happy_0-00.6.png",
        "talk_happy_0-01.png",
        "talk_sad.mp4",
    ]


def test_an_existing_preview_is_kept_unless_it_may_be_replaced(here: Path) -> None:
    write_clip(here / "talk.mp4")
    command = ["edit", "talk.mp4", "--emotion", "none", "--at", "1"]
    assert run(command, Makers()) == 0
    assert run(command, Makers()) == 2
    assert run([*command, "--overwrite"], Makers()) == 0
    assert names(here) == ["talk.mp4", "talk_none_0-01.png"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", {}),
        ("clip.mkv", {"g": "10"}),
        ("clip.ts", {"g": "7", "bf": "2"}),
        ("clip.h264", {"bf": "0"}),  # has no times, and cannot be searched
    ],
)
@pytest.mark.parametrize("at_s", [0.0, 1.95, 5.0, 5.3])
def test_the_frame_is_the_one_that_a_player_shows_then(
    tmp_path: Path, name: str, options: dict[str, str], at_s: float
) -> None:
    path = write_steps(tmp_path / name, 60, **options)
    moment = read_moment(path, at_s)
    wanted = int(at_s * 10 + 1e-6)
    given = frame_from_av(moment.pictures[-1])
    assert abs(float(given.planes[0].samples.mean()) - _luma(wanted)) < 1
    assert len(moment.pictures) == min(wanted + 1, 8) or "g" in options
    assert list(moment.times_s) == sorted(moment.times_s)


def _luma(index: int) -> float:
    """Of frame `index` of `write_steps`, 16..235."""
    return 16 + (20 + 2 * index) * 219 / 255


def test_a_turned_and_mirrored_video_is_shown_as_players_do(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 3)
    turned = tmp_path / "turned.mov"
    with av.open(str(path)) as source, av.open(str(turned), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    data = turned.read_bytes()
    upright = b"".join(n.to_bytes(4, "big") for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    quarter = b"".join(
        n.to_bytes(4, "big", signed=True) for n in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    )
    head, _, tail = data.rpartition(upright)  # the track's; the movie's comes before
    turned.write_bytes(head + quarter + tail)
    moment = read_moment(turned, 0.1)
    given = frame_from_av(moment.pictures[-1])
    shown = moment.picture(given, given)
    assert shown.shape == (64, 48, 3)
    expected = np.rot90(scene(1), -1).astype(float)
    assert np.abs(shown - expected).mean() < 12


def test_a_preview_looks_as_the_edited_video_does() -> None:
    at_s, goal = 1.0, parse_target("happy")
    with Filter(None) as opened:
        whole = FilterRun(opened, goal)
        wanted: Frame | None = None
        for frame in read_frames(SAMPLE):
            edited = whole(frame)
            if (frame.time_s or 0.0) > at_s:
                break
            wanted, original = edited, frame
        moment = read_moment(SAMPLE, at_s)
        given = [frame_from_av(picture) for picture in moment.pictures]
        seen = FilterRun(opened, goal).moment(given, moment.times_s)
    assert wanted is not None
    assert np.array_equal(given[-1].planes[0].samples, original.planes[0].samples)
    luma, expected = (f.planes[0].samples.astype(float) for f in (seen, wanted))
    change = np.abs(expected - original.planes[0].samples).max()
    off = np.abs(luma - expected)
    assert change > 40
    assert off.mean() < 0.3


@pytest.mark.parametrize(
    ("seconds", "tag"),
    [(5, "0-05"), (62.5, "1-02.5"), (3602, "1-00-02"), (0.0404, "0-00.04"), (59.9999, "1-00")],
)
def test_times_stand_in_names_of_files(seconds: float, tag: str) -> None:
    assert time_tag(seconds) == tag
