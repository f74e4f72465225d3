"""`mien edit -` and `-o -`: standard input and output, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.apps.fakes import ROOT, write_clip, write_picture_file

HANG_S = 120.0


def mien(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """`mien edit` with a filter without networks, run in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.apps.fakes", "edit", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=HANG_S,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")},
        check=False,
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty folder with one for temporary files in it."""
    (tmp_path / "tmp").mkdir()
    return tmp_path


def left_behind(folder: Path) -> list[Path]:
    return list((folder / "tmp").iterdir())


def frames(path: Path) -> int:
    with av.open(str(path)) as opened:
        return sum(1 for _ in opened.decode(video=0))


def test_what_is_piped_in_is_piped_out_as_matroska(here: Path) -> None:
    given = write_clip(here / "in.mp4").read_bytes()
    done = mien(here, "-", "--emotion", "happy", given=given)
    assert done.returncode == 0
    (here / "got").write_bytes(done.stdout)
    with av.open(str(here / "got")) as opened:
        assert "matroska" in opened.format.name
    assert frames(here / "got") == 12
    assert done.stderr.startswith(b"standard output: 12 frames")
    assert done.stderr.count(b"\n") == 1
    assert left_behind(here) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("container", "begins"),
    [
        ("mkv", b"\x1a\x45\xdf\xa3"),
        ("matroska", b"\x1a\x45\xdf\xa3"),
        ("avi", b"RIFF"),
        ("mpegts", b"G"),
        ("mov", b"\0\0\0"),
    ],
)
def test_the_container_of_standard_output_is_chosen(
    here: Path, container: str, begins: bytes
) -> None:
    write_clip(here / "in.mp4")
    done = mien(here, "in.mp4", "-o", "-", "--container", container, "--emotion", "happy")
    assert done.returncode == 0
    assert done.stdout.startswith(begins)
    (here / "got").write_bytes(done.stdout)
    assert frames(here / "got") == 12


def test_mp4_on_standard_output_is_read_from_its_beginning(here: Path) -> None:
    write_clip(here / "in.mp4")
    done = mien(here, "in.mp4", "-o", "-", "--container", "mp4", "--emotion", "happy")
    assert done.stdout.index(b"moov") < done.stdout.index(b"mdat")
    assert b"moof" in done.stdout


def test_what_is_piped_in_becomes_a_file(here: Path) -> None:
    given = write_clip(here / "in.mkv").read_bytes()
    done = mien(here, "-", "-o", "out.mp4", "--emotion", "happy", given=given)
    assert done.returncode == 0
    assert frames(here / "out.mp4") == 12
    assert done.stdout.startswith(b"out.mp4: 12 frames")


def test_a_picture_goes_through_as_what_it_is(here: Path) -> None:
    given = write_picture_file(here / "in.png").read_bytes()
    done = mien(here, "-", "--emotion", "happy", given=given)
    assert done.returncode == 0
    assert done.stdout.startswith(b"\x89PNG")
    assert done.stdout != given


def test_json_goes_to_standard_error_beside_a_video(here: Path) -> None:
    given = write_clip(here / "in.mp4").read_bytes()
    done = mien(here, "-", "--emotion", "happy", "--json", given=given)
    told = json.loads(done.stderr)
    assert (told["source"], told["output"]) == ("standard input", "standard output")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", b"standard input is empty"),
        (b"no video at all\n" * 20, b"standard input cannot be read as a video"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(here: Path, given: bytes, words: bytes) -> None:
    done = mien(here, "-", "--emotion", "happy", given=given)
    assert done.returncode == 2
    assert done.stdout == b""
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"stdin" not in done.stderr
    assert left_behind(here) == []


def test_a_dash_stands_for_one_file(here: Path) -> None:
    write_clip(here / "in.mp4")
    done = mien(here, "in.mp4", "in.mp4", "-o", "-", "--emotion", "happy")
    assert done.returncode == 2
    assert b"give one input alone" in done.stderr


def test_a_dry_run_reads_nothing(here: Path) -> None:
    done = mien(here, "-", "--dry-run", "--emotion", "happy")
    assert done.returncode == 0
    assert done.stdout == b"- -> -\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way there")
def test_a_broken_pipe_ends_quietly(here: Path) -> None:
    source = write_clip(here / "in.mp4", frames=60, size_wh=(640, 480))
    command = f"{sys.executable} -m tests.apps.fakes edit {source} --emotion happy -o -"
    line = f"{command} --container y4m | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, timeout=HANG_S, check=False
    )
    assert done.stdout.strip() == b"141"
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("clip", "clip_happy.mp4"),
        ("clip.avi", "clip_happy.mp4"),
        ("clip.jpg", "clip_happy.mp4"),
        ("clip.mov", "clip_happy.mov"),
    ],
)
def test_a_video_is_read_by_what_it_holds(here: Path, name: str, result: str) -> None:
    write_clip(here / "made.mp4").rename(here / name)
    done = mien(here, name, "--emotion", "happy")
    assert done.returncode == 0, done.stderr
    assert frames(here / result) == 12


def test_an_unedited_copy_is_named_as_what_it_is(here: Path) -> None:
    write_clip(here / "made.mp4", face=False).rename(here / "clip.avi")
    done = mien(here, "clip.avi", "--emotion", "happy", "-o", "out.avi")
    assert done.returncode == 0
    assert (here / "out.avi").read_bytes()[:4] == b"RIFF"


def test_a_folder_holds_videos_without_a_suffix(here: Path) -> None:
    folder = here / "folder"
    folder.mkdir()
    write_clip(here / "made.mp4").rename(folder / "clip")
    (folder / "notes").write_text("no video")
    done = mien(here, "folder", "--emotion", "happy")
    assert done.returncode == 0
    assert (folder / "clip_happy.mp4").exists()
    assert b"notes" in done.stderr


@pytest.mark.slow
def test_the_container_names_the_result(here: Path) -> None:
    write_clip(here / "in.mp4")
    assert mien(here, "in.mp4", "--emotion", "happy", "--container", "mkv").returncode == 0
    assert frames(here / "in_happy.mkv") == 12
    refused = mien(here, "in.mp4", "--emotion", "happy", "--container", "docx")
    assert refused.returncode == 2
    assert b"--container must be one of" in refused.stderr
    refused = mien(here, "in.mp4", "--emotion", "happy", "--container", "mkv", "-o", "a.mp4")
    assert refused.returncode == 2
