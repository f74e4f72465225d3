"""Many files edited in several processes, and runs that go on where another one ended."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mien.apps.main import run
from tests.apps.fakes import (
    FakeFilter,
    Makers,
    edited_brightness,
    write_clip,
    write_picture_file,
)

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two clips, a picture and what is none, in the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_clip(folder / name, 8)
    write_picture_file(folder / "c.png")
    (folder / "d.mp4").write_text("not a video")
    return folder


def _results(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "_" in path.name)


def test_files_are_edited_side_by_side_and_one_that_fails_stops_no_other(
    album: Path, capsys: Captured
) -> None:
    arguments = ["edit", "album", "--emotion", "happy", "--jobs", "2", "--json"]
    assert run(arguments, FakeFilter) == 3
    said = capsys.readouterr()
    told = {Path(one["source"]).name: one for one in map(json.loads, said.out.splitlines())}
    assert sorted(told) == ["a.mp4", "b.mp4", "c.png"]
    assert told["a.mp4"]["frames"] == 8
    broken, summed_up = said.err.splitlines()
    assert "d.mp4" in broken
    assert summed_up == "mien: 1 of 4 files failed: d.mp4"
    assert _results(album) == ["a_happy.mp4", "b_happy.mp4", "c_happy.png"]
    assert min(edited_brightness(album / "b_happy.mp4")) > 140
    assert not [path for path in album.iterdir() if path.name.startswith(".")]


def test_process_that_dies_fails_its_file_alone(
    album: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(album / "b.mp4", 8, size_wh=(80, 48))
    (album / "d.mp4").unlink()
    monkeypatch.setenv("FAKE_DIES_AT_WIDTH", "80")
    assert run(["edit", "album", "--emotion", "happy", "--jobs", "2"], FakeFilter) == 3
    died, summed_up = capsys.readouterr().err.splitlines()
    assert "b.mp4 failed: the process that edited it was ended by signal 9" in died
    assert summed_up == "mien: 1 of 3 files failed: b.mp4"
    assert _results(album) == ["a_happy.mp4", "c_happy.png"]
    assert not [path for path in album.iterdir() if path.name.startswith(".")]


def test_resuming_makes_what_is_missing_or_older_than_its_source(
    album: Path, capsys: Captured
) -> None:
    (album / "d.mp4").unlink()
    arguments = ["edit", "album", "--emotion", "happy", "--resume"]
    assert run(arguments, Makers()) == 0
    kept = (album / "a_happy.mp4").stat().st_mtime_ns
    (album / "c_happy.png").unlink()
    capsys.readouterr()
    assert run([*arguments, "--json"], Makers()) == 0
    said = capsys.readouterr()
    assert said.err == "mien: 2 results are there already, and not made again\n"
    assert json.loads(said.out)["output"].endswith("c_happy.png")
    assert (album / "a_happy.mp4").stat().st_mtime_ns == kept
    makers = Makers()
    assert run(arguments, makers) == 0
    assert makers.made == []
    later_s = (album / "a_happy.mp4").stat().st_mtime + 60
    os.utime(album / "a.mp4", (later_s, later_s))
    assert run(arguments, Makers()) == 2  # what there is was not asked to be replaced
    assert "a_happy.mp4 exists" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"], Makers()) == 2
    assert "--resume keeps" in capsys.readouterr().err
