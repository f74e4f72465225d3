"""Pictures through the command: their formats, names and notes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.apps.main import run
from mien.runtime.pictures.picture import read_picture
from tests.apps.fakes import EDITED, FACE, Makers, scene, write_clip

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, suffix: str | None = None) -> Path:
    """A picture with a face in the format of `suffix`, by default that of its name."""
    if (suffix or path.suffix) == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.encode("BGR", (64, 48), scene().tobytes(), path, quality=95)
        return path
    if (suffix or path.suffix) == ".gif":
        Image.fromarray(scene()[..., 1]).save(path, "GIF")
        return path
    path.write_bytes(cv2.imencode(suffix or path.suffix, scene())[1].tobytes())
    return path


def is_edited(path: Path) -> bool:
    square = read_picture(path).frame.planes[0].samples[FACE, EDITED]
    return bool(square.mean() > 140)


def results(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.rglob("*_happy*"))


@pytest.mark.parametrize(
    ("name", "written", "result"),
    [
        ("from_the_web.jpg", ".webp", "from_the_web_happy.webp"),
        ("screenshot.png", ".jpg", "screenshot_happy.jpg"),
        ("no_suffix", ".png", "no_suffix_happy.png"),
        ("photo.JPG", ".jpg", "photo_happy.JPG"),
        ("phone.jpg", ".heic", "phone_happy.heic"),
        ("photo.heic", ".jpg", "photo_happy.jpg"),
        ("photo.avif", ".avif", "photo_happy.avif"),
        ("scan.tiff", ".tif", "scan_happy.tiff"),
        ("old.mp4", ".bmp", "old_happy.bmp"),
        ("map.jp2", ".jp2", "map_happy.jp2"),
        ("still.gif", ".gif", "still_happy.gif"),
    ],
)
def test_a_picture_is_read_and_named_by_its_content(
    here: Path, capsys: Captured, name: str, written: str, result: str
) -> None:
    write(here / name, written)
    assert run(["edit", name, "--emotion", "happy", "--dry-run"], Makers()) == 0
    assert capsys.readouterr().out == f"{name} -> {result}\n"
    assert run(["edit", name, "--emotion", "happy"], Makers()) == 0
    assert results(here) == [result]
    assert is_edited(here / result)


def test_a_folder_of_pictures_is_edited_once_and_what_is_left_is_listed(
    here: Path, capsys: Captured
) -> None:
    folder = here / "trip"
    folder.mkdir()
    for suffix in (".jpg", ".png", ".webp", ".avif", ".heic", ".tif", ".bmp", ".gif", ".jp2"):
        write(folder / f"a{suffix}")
    write(folder / "b.jpg", ".webp")
    write(folder / "c", ".png")
    for name in ("song.mp3", "raw.cr2", "layers.psd", "words"):
        (folder / name).write_bytes(b"8BPS")
    assert run(["edit", "trip", "--emotion", "happy"], Makers()) == 0
    said = capsys.readouterr()
    assert "passed over, no video or picture that mien reads: layers.psd, raw.cr2" in said.err
    first = results(folder)
    assert first == sorted(
        [
            *("a_happy.jpg", "a_happy.png", "a_happy.webp", "a_happy.avif", "a_happy.heic"),
            *("a_happy.tif", "a_happy.bmp", "a_happy.gif", "a_happy.jp2"),
            *("b_happy.webp", "c_happy.png"),
        ]
    )
    assert all(is_edited(folder / name) for name in first)
    assert run(["edit", "trip", "--emotion", "happy", "--overwrite"], Makers()) == 0
    assert results(folder) == first


def test_what_does_not_come_along_is_said_where_the_picture_is_edited(
    here: Path, capsys: Captured
) -> None:
    small = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(scene()[..., ::-1]))
    picture.resize((32, 24)).save(small, "JPEG")
    encoded = cv2.imencode(".jpg", scene())[1].tobytes()
    (here / "a.jpg").write_bytes(encoded + b"\0\0\0\x18ftypmp42" + bytes(99))
    jfxx = b"JFXX\0\x10" + small.getvalue()
    segment = b"\xff\xe0" + (len(jfxx) + 2).to_bytes(2, "big") + jfxx
    (here / "b.jpg").write_bytes(encoded[:2] + segment + encoded[2:])
    assert run(["edit", "a.jpg", "b.jpg", "--emotion", "happy", "--json"], Makers()) == 0
    told = [json.loads(line)["notes"] for line in capsys.readouterr().out.splitlines()]
    start = "left out of the result: "
    assert told == [[start + "video of the motion photo"], [start + "thumbnail"]]
    for name in ("a_happy.jpg", "b_happy.jpg"):
        assert (here / name).read_bytes().count(b"\xff\xd8\xff") == 1
        assert b"ftyp" not in (here / name).read_bytes()


def test_an_unchanged_picture_is_copied_with_all_it_has(here: Path, capsys: Captured) -> None:
    encoded = cv2.imencode(".jpg", scene(face=False))[1].tobytes()
    whole = encoded + b"\0\0\0\x18ftypmp42" + bytes(99)
    (here / "a.jpg").write_bytes(whole)
    assert run(["edit", "a.jpg", "--emotion", "happy", "--json"], Makers()) == 0
    assert (here / "a_happy.jpg").read_bytes() == whole
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert not any("left out" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jxl", b"\xff\x0a" + bytes(20), "is a JPEG XL"),
        ("a.psd", b"8BPS\0\1" + bytes(20), "is a Photoshop file"),
        ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "is a camera's raw picture"),
        ("a.avif", b"\0\0\0\x1cftypavis\0\0\0\0avifavismsf1", "is an animated AVIF"),
        ("a.heics", b"\0\0\0\x18ftypmsf1\0\0\0\0hevcmsf1", "is an image sequence"),
        ("a.exr", b"v/1\x01" + bytes(20), "is an OpenEXR picture"),
    ],
)
def test_pictures_of_other_kinds_are_refused_by_their_names(
    here: Path, capsys: Captured, name: str, data: bytes, said: str
) -> None:
    (here / name).write_bytes(data)
    assert run(["edit", name, "--emotion", "happy"], Makers()) == 2
    told = capsys.readouterr().err
    assert f"{name} {said}" in told
    assert told.count("\n") == 1
    assert results(here) == []


def test_an_output_of_another_format_is_refused_before_the_edit(
    here: Path, capsys: Captured
) -> None:
    write(here / "a.jpg", ".webp")
    assert run(["edit", "a.jpg", "-o", "b.jpg", "--emotion", "happy"], Makers()) == 2
    assert "must end in .webp: a picture keeps its format" in capsys.readouterr().err
    write_clip(here / "clip.mp4")
    assert run(["edit", "a.jpg", "clip.mp4", "-o", "out", "--emotion", "happy"], Makers()) == 0
    assert results(here) == ["a_happy.webp", "clip_happy.mp4"]


@pytest.mark.slow
def test_only_mien_speaks_of_a_damaged_picture(here: Path) -> None:
    for suffix, at in ((".jp2", 0.6), (".avif", 0.8), (".tif", 0.3)):
        whole = write(here / f"a{suffix}").read_bytes()
        place = round(len(whole) * at)
        (here / f"a{suffix}").write_bytes(whole[:place] + b"\xff" * 40 + whole[place + 40 :])
        command = [sys.executable, "-m", "mien", "edit", f"a{suffix}", "--emotion", "happy"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.stderr.count("\n") <= 1, done.stderr
        assert "global" not in done.stderr
        assert done.returncode in (0, 2, 3)
