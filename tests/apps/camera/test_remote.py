from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mien.apps.camera.remote import (
    ADDRESS,
    AT_ONCE,
    MAX_LINE,
    ControlServer,
    Wanted,
    running_cameras,
    runtime_folder,
    send,
)
from mien.apps.main import run
from mien.engines.errors import MienError, UsageError
from mien.runtime.live.controls import Controls
from mien.runtime.target import parse_target, prompted_target
from tests.apps.fakes import write_clip
from tests.runtime.live.virtual import until

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime folder, an empty one of the test's own."""
    for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    return runtime_folder()


@pytest.fixture
def controls() -> Controls:
    return Controls(target=parse_target("happy", 0.8))


@pytest.fixture
def server(controls: Controls) -> Iterator[ControlServer]:
    with ControlServer(controls, "/dev/video0", names=("Webcam",), panel=8765) as opened:
        yield opened


def said_to(server: ControlServer, data: bytes) -> bytes:
    """What the server answers to bytes."""
    with socket.create_connection((ADDRESS, server.running.port), 10) as client:
        client.sendall(data)
        said = b""
        while b"\n" not in said and (more := client.recv(4096)):
            said += more
    return said


@pytest.mark.usefixtures("server")
def test_a_running_camera_is_steered(controls: Controls, capsys: Captured) -> None:
    for arguments, wanted in (
        (["sad"], parse_target("sad", 0.8)),
        (["--intensity", "0.5"], parse_target("sad", 0.5)),
        (["happy:0.6+sad:0.2"], parse_target("happy:0.6+sad:0.2", 0.5)),
        (["none"], None),
        (["--intensity", "1.2"], None),
        (["angry"], parse_target("angry", 1.2)),
        (["joy", "--intensity", "1"], parse_target("happy", 1.0)),
    ):
        assert run(["set", *arguments]) == 0
        assert controls.snapshot().target == wanted
    assert capsys.readouterr().out.splitlines()[-1] == (
        "/dev/video0: happy, intensity 1, face all, method warp"
    )


@pytest.mark.usefixtures("server")
def test_everything_else_is_set_and_all_of_it_told(controls: Controls, capsys: Captured) -> None:
    options = ["--face", "2", "--method", "face", "--gan", "cyclegan", "--pause", "--mark"]
    assert run(["set", *options, "--blend", "paste"]) == 0
    now = controls.snapshot()
    assert (now.face, now.method, now.paused, now.mark) == ("2", "face", True, True)
    assert now.options == (("blend", "paste"), ("gan", "cyclegan"))
    assert capsys.readouterr().out == (
        "/dev/video0: happy, intensity 0.8, face 2, "
        "method face (blend paste, gan cyclegan), paused\n"
    )
    assert run(["set", "--method", "warp", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "camera": "/dev/video0",
        "target": "happy",
        "intensity": 0.8,
        "face": "2",
        "method": "warp",
        "options": {},
        "paused": False,
        "mark": True,
        "own": 1.0,
        "prompt": "",
    }
    before = controls.snapshot()
    assert run(["set"]) == 0
    assert controls.snapshot() == before


@pytest.mark.usefixtures("server")
def test_an_option_of_the_method_leaves_its_others(controls: Controls, capsys: Captured) -> None:
    for arguments, told in (
        (["--method", "parts", "--gan", "cyclegan"], {"gan": "cyclegan"}),
        (["--blend", "paste"], {"gan": "cyclegan", "blend": "paste"}),
        (["--method", "parts", "--blend", "field"], {"gan": "cyclegan", "blend": "field"}),
        (["--face", "largest"], {"gan": "cyclegan", "blend": "field"}),
        (["--method", "image", "--blend", "paste"], {"blend": "paste"}),
        (["--method", "warp"], {}),
    ):
        assert run(["set", *arguments]) == 0
        assert dict(controls.snapshot().options) == told
    capsys.readouterr()
    before = controls.snapshot()
    assert run(["set", "--gan", "cyclegan"]) == 2
    told_now = "mien: the method warp has no option gan; leave gan out (it has none)\n"
    assert capsys.readouterr().err == told_now
    assert controls.snapshot() == before


@pytest.mark.usefixtures("server")
def test_the_own_expression_is_scaled(controls: Controls, capsys: Captured) -> None:
    for arguments, own in (
        (["--soften", "0.5"], 0.5),
        (["sad"], 0.5),
        (["none", "--amplify", "1.25"], 1.25),
    ):
        assert run(["set", *arguments]) == 0
        assert controls.snapshot().own == own
    assert controls.snapshot().target is None
    assert run(["set", "--soften", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "/dev/video0: none, intensity 0.8, own expression 1.25, face all, method warp",
        "/dev/video0: none, intensity 0.8, face all, method warp",
    ]


@pytest.mark.usefixtures("server")
def test_words_and_attributes_are_set(controls: Controls, capsys: Captured) -> None:
    assert run(["set", "--method", "emm", "--prompt", "a surprised face"]) == 0
    assert controls.snapshot().target == prompted_target("a surprised face", 0.8)
    assert run(["set", "--intensity", "0.5"]) == 0
    assert controls.snapshot().target == prompted_target("a surprised face", 0.5)
    assert run(["set", "none"]) == 0
    assert run(["set", "--method", "directions", "--attribute", "smiling:+1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "/dev/video0: prompt 'a surprised face', intensity 0.8, face all, method emm",
        "/dev/video0: prompt 'a surprised face', intensity 0.5, face all, method emm",
        "/dev/video0: none, intensity 0.5, face all, method emm",
        "/dev/video0: neutral, intensity 0.5, face all, method directions (attribute smiling:+1)",
    ]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hapy"], "did you mean 'happy'"),
        (["--intensity", "2"], "--intensity must lie in 0..1.5, not 2"),
        (["--intensity", "nan"], "--intensity must lie in 0..1.5"),
        (["--soften", "0.2"], "--soften must lie in 0.25..1.5, not 0.2"),
        (["--soften", "0.5", "--amplify", "1.5"], "give either --soften or --amplify, not both"),
        (["--method", "magic"], "unknown method 'magic'"),
        (["--prompt", "a sad face"], "the method warp takes no prompt"),
        (["--prompt", "!"], "the prompt '!' has no word"),
        (["sad", "--prompt", "a sad face"], "give either --prompt or an expression"),
        (["--face", "left"], "cannot choose the face 'left'"),
        (["--camera", "other"], "no camera 'other' runs (running: /dev/video0 (panel 8765, port"),
    ],
)
def test_nonsense_is_refused_and_nothing_changes(
    controls: Controls, arguments: list[str], said: str, capsys: Captured
) -> None:
    before = controls.snapshot()
    assert run(["set", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert controls.snapshot() == before


def test_what_the_method_cannot_make_is_refused(server: ControlServer, controls: Controls) -> None:
    controls.limit(("happy", "sad"), "warp", ())
    with pytest.raises(UsageError, match="the method warp cannot make a face angry"):
        send(server.running, Wanted("angry"))
    assert controls.snapshot().target == parse_target("happy", 0.8)
    controls.update(method="parts")
    with pytest.raises(UsageError, match="the method parts cannot soften or amplify"):
        send(server.running, Wanted("sad", own=0.5))
    assert controls.snapshot().target == parse_target("happy", 0.8)


def test_without_a_camera_one_line_says_what_to_start(capsys: Captured, folder: Path) -> None:
    assert run(["set", "happy"]) == 2
    assert capsys.readouterr().err == (
        "mien: no camera runs; start one with mien camera, then set its expression\n"
    )
    with ControlServer(Controls(), "0"):
        pass
    assert run(["set", "happy"]) == 2
    assert not folder.exists()


def test_of_several_cameras_one_is_chosen(capsys: Captured) -> None:
    first, second = Controls(), Controls()
    with ExitStack() as opened:
        a = opened.enter_context(ControlServer(first, "/dev/video0", panel=8765))
        b = opened.enter_context(ControlServer(second, "clips/talk.mp4", names=("mien cam",)))
        assert run(["set", "happy"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("mien: several cameras run: ")
        assert "/dev/video0 (panel 8765, port" in error
        assert "choose one with --camera NAME or PORT" in error
        for name in ("8765", "/dev/video0", "video0", str(a.running.port)):
            first.update(target=None)
            assert run(["set", "sad", "--camera", name]) == 0
            assert first.snapshot().target == parse_target("sad")
        for name in ("talk.mp4", "clips/talk.mp4", "Mien Cam", str(b.running.port)):
            second.update(target=None)
            assert run(["set", "angry", "--camera", name]) == 0
            assert second.snapshot().target == parse_target("angry")
        assert first.snapshot().target == parse_target("sad")


@pytest.mark.skipif(sys.platform == "win32", reason="folders of a user are private there")
def test_the_file_is_for_nobody_else(server: ControlServer, folder: Path) -> None:
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert server.running.token in file.read_text(encoding="utf-8")
    assert running_cameras() == [server.running]
    file.chmod(0o622)  # somebody else may have written it
    assert running_cameras() == []


def test_nobody_without_the_token_is_heard(server: ControlServer, controls: Controls) -> None:
    before = controls.snapshot()
    token = server.running.token
    for data in (
        b'{"token": "x", "set": {"goal": "sad"}}\n',
        b'{"set": {"goal": "sad"}}\n',
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\n",
        b"[" * MAX_LINE,
        b"\xff" * MAX_LINE,
        json.dumps({"token": token, "set": {"volume": 3}}).encode() + b"\n",
        json.dumps({"token": token, "set": [1]}).encode() + b"\n",
        json.dumps({"token": token, "set": {"goal": 3}}).encode() + b"\n",
        json.dumps({"token": token, "set": {"paused": "yes"}}).encode() + b"\n",
        json.dumps({"token": token, "set": {"intensity": float("nan")}}).encode() + b"\n",
        json.dumps({"token": token, "set": {"own": 2}}).encode() + b"\n",
        json.dumps({"token": token, "set": {"own": "soft"}}).encode() + b"\n",
        json.dumps({"token": token, "set": {"goal": "happy" * 2000}}).encode() + b"\n",
    ):
        answer = json.loads(said_to(server, data))
        assert set(answer) == {"error"}
        assert token not in str(answer)
    assert controls.snapshot() == before


def test_who_says_nothing_keeps_nobody_out(server: ControlServer) -> None:
    with ExitStack() as opened:
        for _ in range(2 * AT_ONCE):
            opened.enter_context(socket.create_connection((ADDRESS, server.running.port)))
        assert until(lambda: _is_steered(server), 30)


def _is_steered(server: ControlServer) -> bool:
    try:
        return send(server.running, Wanted("sad"))["target"] == "sad"
    except MienError:  # it is busy yet
        return False


def test_files_of_cameras_that_were_killed_are_removed(folder: Path) -> None:
    with ControlServer(Controls(), "0") as server:
        left = (folder / f"{server.running.port}.camera").read_bytes()
    folder.mkdir(mode=0o700)
    for name, data in (
        ("9.camera", left),
        ("damaged.camera", b"{"),
        ("elsewhere.camera", left.replace(socket.gethostname().encode(), b"another-host")),
    ):
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    assert running_cameras() == []
    assert sorted(path.name for path in folder.iterdir()) == ["damaged.camera", "elsewhere.camera"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")
def test_mien_set_steers_a_camera_of_another_process(tmp_path: Path, folder: Path) -> None:
    write_clip(tmp_path / "clip.mp4")
    environment = {**os.environ, "PYTHONPATH": "."}
    options = ["--no-virtual", "--no-panel", "--pipe", os.devnull, "--emotion", "none"]
    camera = subprocess.Popen(
        [sys.executable, "-m", "tests.apps.live_fakes", "camera", "--source",
         str(tmp_path / "clip.mp4"), *options],
        env=environment,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert until(lambda: folder.is_dir() and bool(running_cameras()), 60)
        done = subprocess.run(
            [sys.executable, "-m", "mien", "set", "sad", "--camera", "clip.mp4"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.endswith("clip.mp4: sad, intensity 1, face all, method warp\n")
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        camera.send_signal(signal.SIGINT)
        said = camera.communicate(timeout=60)[1].decode()
    assert camera.returncode == 0, said
    assert not folder.exists()
