"""One long clip edited in pieces side by side: as if it had been edited by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from mien.apps.edit.crew import Told
from mien.apps.edit.display import PlainDisplay
from mien.apps.edit.job import run_job
from mien.apps.edit.plan import EditJob
from mien.apps.main import run
from mien.runtime.pieces import Piece, PieceTask, plan_pieces
from mien.runtime.session import RunCounts
from mien.runtime.spec import FilterSpec
from mien.runtime.target import parse_goal
from tests.apps.fakes import ROOT, FakeFilter, Makers, edited_brightness, scene

Captured = pytest.CaptureFixture[str]
Clips = Callable[..., Path]
SECONDS, RATE = 40, 5


def _picture(index: int, width: int, height: int) -> np.ndarray:
    return scene(index, size_wh=(width, height))[..., ::-1]


@pytest.fixture
def long_clip(clip: Clips) -> Clips:
    """Makes a clip of 40 s with a face, and a keyframe every 3 s: long enough for pieces."""

    def make(name: str = "in.mp4", **settings: object) -> Path:
        options = {"crf": "12", "preset": "ultrafast", "g": str(3 * RATE), "bf": "2"}
        usual = {"frames": SECONDS * RATE, "rate": Fraction(RATE), "size_wh": (64, 48)}
        return clip(name, **(usual | {"options": options, "picture": _picture} | settings))

    return make


def _uneven(base: int) -> list[int]:
    """Times of frames that are shown for 100 to 300 ms."""
    steps = np.random.default_rng(5).integers(base // 10, 3 * base // 10, SECONDS * RATE)
    return np.cumsum(steps).tolist()


def _edited(source: Path, name: str, *options: str) -> int:
    asked = ["edit", str(source), "--emotion", "happy", "-o", str(source.with_name(name))]
    return run([*asked, *options], FakeFilter)


def _assert_alike(found: Path, expected: Path) -> None:
    """Check that files have the same times, sound and metadata, and pictures as the encoder can.

    x264 with one thread gave the same pictures other bits once in each of four runs of 40 or 60.
    """
    packets, pictures = zip(*(_content(path) for path in (found, expected)), strict=True)
    assert packets[0] == packets[1]
    assert len(pictures[0]) == len(pictures[1])
    for one, other in zip(*pictures, strict=True):
        np.testing.assert_allclose(one, other, atol=20)
        assert np.abs(one - other).mean() < 1.5


def _content(path: Path) -> tuple[list[object], list[np.ndarray]]:
    """The facts of a file's packets, those of pictures without their bits, and its pictures."""
    with av.open(path) as file:
        facts: list[object] = [dict(file.metadata), len(file.streams)]
        for packet in file.demux():
            is_picture = packet.stream.type == "video"
            times = (packet.stream.index, packet.pts)
            facts.append(times if is_picture else (*times, bytes(packet)))
    with av.open(path) as file:
        frames = [frame.to_ndarray(format="gray", threads=1) for frame in file.decode(video=0)]
    # the order of packets of several streams is the muxer's; each stream has its own
    return sorted(facts, key=repr), [frame.astype(np.float32) for frame in frames]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("in.mp4", {"audio_tracks": 2, "subtitle": True, "metadata": {"title": "A talk"}}),
        ("in.mkv", {"audio_tracks": 1, "chapters": True, "attachment": True}),
        ("in.mov", {"rotation": 1, "time_base": Fraction(1, 600), "pts": _uneven(600)}),
        ("in.mkv", {"codec": "ffv1", "options": {}, "pixel_format": "yuv420p10le"}),
    ],
    ids=["h264 with sound and subtitles", "matroska", "uneven times, turned", "10 bits"],
)
def test_pieces_give_the_file_that_one_process_gives(
    long_clip: Clips, name: str, settings: dict[str, object]
) -> None:
    source = long_clip(name, **settings)
    assert len(plan_pieces(source, 2)) > 1
    suffix = source.suffix
    assert _edited(source, f"one{suffix}") == 0
    assert _edited(source, f"two{suffix}", "--jobs", "2") == 0
    whole, joined = (source.with_name(f"{number}{suffix}") for number in ("one", "two"))
    if settings.get("codec") == "ffv1":
        assert joined.read_bytes() == whole.read_bytes()
    _assert_alike(joined, whole)
    assert len(list(source.parent.iterdir())) == 3


def test_section_and_what_is_told_are_those_of_the_whole_clip(
    long_clip: Clips, capsys: Captured
) -> None:
    source, told = long_clip(), []
    for name, jobs in (("one.mp4", "1"), ("two.mp4", "2")):
        assert _edited(source, name, "--from", "6", "--to", "26", "--jobs", jobs, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        told.append({key: said[key] for key in ("frames", "faces", "notes", "watermark")})
        assert set(said["ms"]) == {"decode", "track", "edit", "encode"}
    assert told[0] == told[1]
    one, two = (edited_brightness(source.with_name(name)) for name in ("one.mp4", "two.mp4"))
    np.testing.assert_allclose(one, two, atol=1.0)  # of the encoder
    assert one[28 * RATE] < 100 < one[16 * RATE]


def test_process_that_dies_is_replaced_and_nothing_is_lost(
    long_clip: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = long_clip(audio_tracks=1)
    assert _edited(source, "one.mp4") == 0
    monkeypatch.setenv("FAKE_DIES_ONCE", str(tmp_path / "died"))
    assert _edited(source, "two.mp4", "--jobs", "2") == 0
    assert (tmp_path / "died").exists()
    _assert_alike(tmp_path / "two.mp4", tmp_path / "one.mp4")


def test_piece_whose_processes_die_twice_fails_the_clip_in_one_line(
    long_clip: Clips, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = long_clip()
    monkeypatch.setenv("FAKE_DIES_AT_WIDTH", "64")
    assert _edited(source, "two.mp4", "--jobs", "2") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "the process that edited" in said
    assert "was ended by signal 9, and so did that which tried again" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_error_in_a_piece_is_the_error_of_the_clip(long_clip: Clips, capsys: Captured) -> None:
    source = long_clip()
    asked = ["edit", str(source), "--soften", "0.5", "--method", "face", "--jobs", "2"]
    assert run(asked, FakeFilter) == 2
    assert capsys.readouterr().err == "mien: this method cannot scale it\n"


def test_breaking_off_leaves_neither_files_nor_processes(long_clip: Clips, tmp_path: Path) -> None:
    source = long_clip()
    command = [sys.executable, "-m", "tests.apps.fakes", "edit", str(source), "--jobs", "2"]
    environment = os.environ | {"FAKE_DELAY_S": "0.5"}
    process = subprocess.Popen(
        [*command, "--emotion", "happy"], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )
    parent = psutil.Process(process.pid)
    while not _working(parent):
        assert process.poll() is None
        time.sleep(0.05)
    children = parent.children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert b"Traceback" not in said
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def _working(parent: psutil.Process) -> bool:
    """Whether two processes are there that have read the clip."""
    children = [each for each in parent.children() if "resource_tracker" not in str(each.cmdline())]
    return sum(each.num_threads() > 1 for each in children) >= 2


class _Recorded:
    """A crew that edits nothing, and says of each piece what the test wants."""

    size = 2

    def __init__(self, answer: Callable[[Piece], Told]) -> None:
        self.handed: list[Piece] = []
        self._answer, self._waiting = answer, list[Piece]()

    @property
    def busy(self) -> int:
        return len(self._waiting)

    def hand_out(self, _task: PieceTask, piece: Piece) -> None:
        self.handed.append(piece)
        self._waiting.append(piece)

    def told(self, _wait_s: float) -> Sequence[Told]:
        answers, self._waiting = [self._answer(piece) for piece in self._waiting], []
        return answers

    def drop(self) -> None:
        self._waiting = []

    @contextmanager
    def opened(self) -> Iterator[_Recorded]:
        yield self


def _run_with(crew: _Recorded, source: Path, **settings: object) -> int:
    job = EditJob((source,), parse_goal("happy", 1.0), source.with_name("two.mp4"), **settings)
    return run_job(job, partial(Makers(), FilterSpec()), PlainDisplay(), crew.opened)


def test_clip_whose_pieces_do_not_fit_is_edited_in_one_process(
    long_clip: Clips, capsys: Captured
) -> None:
    source = long_clip()
    assert _edited(source, "one.mp4") == 0
    capsys.readouterr()
    crew = _Recorded(lambda piece: Told(piece.number, counts=RunCounts()))  # no frames at all
    assert _run_with(crew, source) == 0
    assert crew.handed
    assert "edited in one process, for its pieces do not fit" in capsys.readouterr().out
    one, two = (source.with_name(name) for name in ("one.mp4", "two.mp4"))
    _assert_alike(two, one)


@pytest.mark.parametrize(
    ("settings", "job", "note"),
    [
        ({"frames": 20 * RATE}, {}, ""),
        ({"options": {"g": "1000", "keyint_min": "1000", "sc_threshold": "0"}}, {}, ""),
        ({}, {"is_for_all": False}, "which face is which"),
    ],
    ids=["too short", "one keyframe", "one face of several"],
)
def test_clip_that_is_not_cut_is_edited_in_one_process(
    long_clip: Clips,
    capsys: Captured,
    settings: dict[str, object],
    job: dict[str, object],
    note: str,
) -> None:
    source = long_clip(**settings)
    crew = _Recorded(lambda piece: Told(piece.number))
    assert _run_with(crew, source, **job) == 0
    assert not crew.handed
    said = capsys.readouterr().out
    assert ("note" in said) == bool(note)
    assert note in said
