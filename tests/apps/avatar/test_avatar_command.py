from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.camera.remote import Wanted, chosen_camera, send
from mien.apps.main import run
from mien.engines.errors import UsageError
from mien.runtime.pictures.picture import MAX_SIDE_PX

PORTRAIT = Path(__file__).parents[3] / "apps" / "sample" / "portrait.jpg"
Captured = pytest.CaptureFixture[str]


@pytest.mark.skipif(sys.platform == "win32", reason="no local sockets")
def test_an_avatar_runs_is_steered_and_ends(tmp_path: Path) -> None:
    path, raw = tmp_path / "s", tmp_path / "a.rgb"
    arguments = ["avatar", "run", str(PORTRAIT), "--size", "96x96", "--socket", str(path)]
    arguments += ["--pipe", str(raw), "--pipe-format", "rgb24", "--no-virtual", "--rate", "10"]
    with subprocess.Popen(
        [sys.executable, "-m", "mien", *arguments],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        try:
            assert running.stdin is not None
            assert running.stdout is not None
            running.stdin.write(b'{"emotion": "sad"}\nnonsense\n')
            running.stdin.flush()
            first, second = (json.loads(running.stdout.readline()) for _ in range(2))
            assert first["state"]["emotion"] == "sad"
            assert "error" in second
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b'{"mix": "happy:0.5", "intensity": 1.2, "ease": 0}\n')
                with client.makefile("rb") as lines:
                    state = json.loads(lines.readline())["state"]
            assert (state["emotion"], state["intensity"]) == ("happy:0.5", 1.2)
            by_name = chosen_camera(PORTRAIT.name, tmp_path / "mien")
            assert send(by_name, Wanted(goal="angry"))["target"] == "angry"
            for refused in (Wanted(method="parts"), Wanted(own=0.5)):
                with pytest.raises(UsageError, match="avatar"):
                    send(by_name, refused)
            frame_bytes = 82 * 96 * 3
            until_s = time.monotonic() + 60
            while time.monotonic() < until_s and (
                not raw.exists() or raw.stat().st_size < 10 * frame_bytes
            ):
                time.sleep(0.1)
            running.terminate()
            said = running.stderr.read().decode() if running.stderr else ""
        finally:
            running.kill()
    assert "started in" in said
    assert "of a core" in said
    frames = np.frombuffer(raw.read_bytes(), np.uint8)
    assert len(frames) >= 10 * frame_bytes
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere.png"], "nowhere.png"),
        ([str(PORTRAIT), "--emotion", "hapy"], "happy"),
        ([str(PORTRAIT), "--ease", "-1"], "--ease"),
        ([str(PORTRAIT), "--sway", "9"], "sway"),
        ([str(PORTRAIT), "--rate", "500"], "--rate"),
        ([str(PORTRAIT), "--link", "osc://127.0.0.1"], "kinds"),
        (
            [str(PORTRAIT), "--speech", "nowhere.wav", "--no-virtual", "--size", "96x96"],
            "nowhere.wav",
        ),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], word: str, capsys: Captured) -> None:
    assert run(["avatar", "run", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert word in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("faces", "word"), [(0, "no face"), (2, "2 faces")])
def test_a_picture_without_a_face_or_with_two_is_one_line(
    faces: int, word: str, tmp_path: Path, capsys: Captured
) -> None:
    portrait = cv2.imread(str(PORTRAIT))
    assert portrait is not None
    shown = np.full_like(portrait, 128) if faces == 0 else np.hstack([portrait] * faces)
    path = tmp_path / "ada.png"
    cv2.imwrite(str(path), shown)
    assert run(["avatar", "run", str(path), "--no-virtual"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
    assert str(path) in line


def test_pulse_without_its_program_is_one_line(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = ["--speech", "pulse", "--size", "96x96", "--no-virtual"]
    assert run(["avatar", "run", str(PORTRAIT), *asked]) == 2
    assert "parec" in capsys.readouterr().err


def test_a_picture_of_20000_pixels_a_side_is_refused_by_its_header(
    tmp_path: Path, capsys: Captured
) -> None:
    import struct
    import zlib

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    parts = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")):
        parts += struct.pack(">I", len(body)) + name + body
        parts += struct.pack(">I", zlib.crc32(name + body))
    path = tmp_path / "large.png"
    path.write_bytes(parts)
    assert MAX_SIDE_PX > 20_000  # it is refused for its memory, not for its side
    assert run(["avatar", "run", str(path)]) == 2
    assert "20000x20000" in capsys.readouterr().err
