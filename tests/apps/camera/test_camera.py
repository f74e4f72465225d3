from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.apps.camera.plan import NO_VIRTUAL, CameraPlan
from mien.apps.camera.run import Teller, status_line
from mien.apps.main import run
from mien.engines.errors import DeviceError
from mien.runtime.live.outputs.recording import NOTICE
from mien.runtime.live.sources import cameras
from mien.runtime.live.sources.source import CaptureOptions, Device
from mien.runtime.live.values import DelayStats, LiveStats, OutputStatus, SourceFacts
from mien.runtime.spec import FilterSpec
from tests.apps.fakes import EDITED, FACE, write_clip
from tests.apps.live_fakes import LiveFake
from tests.runtime.live.outputs.session import private_session
from tests.runtime.live.virtual import Recorder, until
from tests.runtime.methods.gan.networks import write_style_models

Captured = pytest.CaptureFixture[str]
FACTS = SourceFacts("clip.mp4", (64, 48), None, "yuv420p", "any size, auto")


def camera(source: Path | str, *options: str) -> int:
    return run(["camera", "--source", str(source), *options], LiveFake)


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4")


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The only virtual camera there is, as pyvirtualcam sees it."""
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    recorder = Recorder("made up")
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    recorder.register("recorder")
    return recorder


def brightness(rgb: np.ndarray) -> float:
    return float(rgb[FACE, EDITED].mean())


def test_a_clip_is_edited_live_into_virtual_camera_and_recording(
    clip_file: Path, tmp_path: Path, virtual: Recorder, capsys: Captured
) -> None:
    record = tmp_path / "talk.mp4"
    options = ["--emotion", "happy", "--virtual", "--no-panel", "--record", str(record)]
    assert camera(clip_file, *options, "--seconds", "1.5") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "virtual camera: made up" in said.err
    assert "64x48 at 10" in said.err
    assert re.search(r"\d+ frames in .* dropped .* on cpu", said.err)
    assert len(virtual.sent) >= 3
    assert virtual.closed == 1
    luma = virtual.sent[-1][: 64 * 48].reshape(48, 64)
    assert luma[FACE, EDITED].mean() > 140
    with av.open(str(record)) as container:
        assert NOTICE in container.metadata.values()
        frames = list(container.decode(video=0))
        gaps = np.diff([float(frame.pts * frame.time_base) for frame in frames])
        assert all(
            brightness(frame.to_ndarray(format="rgb24", threads=1)) > 140 for frame in frames
        )
    assert len(frames) >= 3
    assert (gaps > 0).all()


def test_the_own_expression_is_scaled_live_without_another_one(
    clip_file: Path, tmp_path: Path, capsys: Captured
) -> None:
    record = tmp_path / "talk.mp4"
    options = ["--no-virtual", "--no-panel", "--record", str(record), "--seconds", "1"]
    assert camera(clip_file, "--soften", "0.5", *options) == 0
    with av.open(str(record)) as container:
        frames = list(container.decode(video=0))
    assert frames
    assert all(brightness(frame.to_ndarray(format="rgb24", threads=1)) > 140 for frame in frames)
    capsys.readouterr()
    for wrong, said in (
        (["--amplify", "2"], "--amplify must lie in 0.25..1.5, not 2"),
        (["--amplify", "1.2", "--soften", "1"], "not both"),
        (["--soften", "0.5", "--method", "face"], "this method cannot scale it"),
    ):
        assert camera(clip_file, *wrong, *options, "--overwrite") == 2
        assert said in one_line(capsys)


def test_what_the_camera_saw_and_what_was_applied_is_kept_beside_what_was_shown(
    clip_file: Path, tmp_path: Path, capsys: Captured
) -> None:
    wet, dry, log = (tmp_path / name for name in ("talk.mkv", "dry.mkv", "talk.jsonl"))
    options = ["--emotion", "happy:0.6", "--intensity", "0.5", "--no-virtual", "--no-panel"]
    files = ["--record", str(wet), "--record-dry", str(dry), "--log", str(log)]
    assert camera(clip_file, *options, *files, "--seconds", "1") == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    times: list[float] = []
    for path, is_edited in ((wet, True), (dry, False)):
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        assert (brightness(frames[-1].to_ndarray(format="rgb24", threads=1)) > 140) == is_edited
        times += [float(frame.pts * frame.time_base) for frame in frames]
    logged = np.array([line["time_s"] for line in lines])
    assert all(np.abs(logged - time_s).min() < 2e-3 for time_s in times)  # Matroska has 1 ms
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert {line["intensity"] for line in lines} == {0.5}
    assert lines[-1]["target"] == {"happy": 0.6}
    capsys.readouterr()
    assert camera(clip_file, *options, *files, "--seconds", "1") == 2
    assert "exists; add --overwrite" in one_line(capsys)
    twice = ["--record", str(wet), "--record-dry", str(wet), "--overwrite"]
    assert camera(clip_file, *options, *twice) == 2
    assert "two outputs would be written to" in one_line(capsys)


def test_a_video_on_standard_input_is_edited_until_it_ends(tmp_path: Path) -> None:
    clip_file = write_clip(tmp_path / "clip.mkv")
    record = tmp_path / "talk.mkv"
    options = ["--emotion", "happy", "--no-virtual", "--no-panel", "--record", str(record)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.apps.live_fakes", "camera", "--source", "-", *options],
        input=clip_file.read_bytes(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"standard input: 64x48" in done.stderr
    with av.open(str(record)) as container:
        frames = list(container.decode(video=0))
    assert all(brightness(frame.to_ndarray(format="rgb24", threads=1)) > 140 for frame in frames)
    assert len(frames) >= 3


def test_a_stream_of_an_unknown_kind_is_no_file(tmp_path: Path, capsys: Captured) -> None:
    ends = ["--emotion", "happy", "--no-virtual", "--no-panel", "--record", str(tmp_path / "a.mkv")]
    assert camera("gopher://host/video", *ends) == 2
    assert "cannot read streams of gopher://" in one_line(capsys)


@pytest.mark.parametrize("options", [("--emotion", "none"), ("--emotion", "happy", "--mark")])
def test_a_recording_says_what_was_done_and_not_what_was_asked(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    record = tmp_path / "talk.mkv"
    is_asked = "happy" in options
    clip = write_clip(tmp_path / "clip.mp4", face=not is_asked)
    ends = ["--no-virtual", "--no-panel", "--record", str(record), "--seconds", "0.5"]
    assert camera(clip, *options, *ends) == 0
    with av.open(str(record)) as container:
        assert NOTICE not in container.metadata.values()
        assert list(container.decode(video=0))


def test_an_expression_that_the_method_cannot_make_is_refused_before_a_frame(
    clip_file: Path, tmp_path: Path, capsys: Captured
) -> None:
    record = tmp_path / "talk.mp4"
    models = write_style_models(tmp_path / "models")
    options = ["--method", "parts", "--emotion", "angry", "--models", str(models)]
    ends = ["--no-virtual", "--no-panel", "--record", str(record), "--seconds", "1"]
    assert run(["camera", "--source", str(clip_file), *options, *ends]) == 2
    assert "cannot make a face angry (it can: neutral, happy, sad)" in one_line(capsys)
    assert not record.exists()


@pytest.mark.parametrize("blend", ["field", "paste"])
def test_a_live_method_blends_as_it_is_told(blend: str, clip_file: Path, tmp_path: Path) -> None:
    made: list[LiveFake] = []

    def make(settings: FilterSpec) -> LiveFake:
        made.append(LiveFake(settings))
        return made[-1]

    record = tmp_path / "talk.mp4"
    options = ["--method", "image", "--blend", blend, "--emotion", "happy"]
    ends = ["--no-virtual", "--no-panel", "--record", str(record), "--seconds", "0.3"]
    assert run(["camera", "--source", str(clip_file), *options, *ends], make) == 0
    assert [filter_.settings.told for filter_ in made] == [{"blend": blend}]


def test_a_blend_that_a_method_does_not_have_is_refused_live(
    clip_file: Path, tmp_path: Path, capsys: Captured
) -> None:
    record = tmp_path / "talk.mp4"
    options = ["--blend", "paste", "--emotion", "happy", "--no-virtual", "--no-panel"]
    assert run(["camera", "--source", str(clip_file), *options, "--record", str(record)]) == 2
    assert "the method warp has no option blend; leave blend out" in one_line(capsys)
    assert not record.exists()


def test_raw_video_goes_to_a_file_for_another_program(clip_file: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "video.y4m"
    options = ["--emotion", "sad", "--no-panel", "--no-virtual", "--pipe", str(pipe)]
    assert camera(clip_file, *options, "--seconds", "1", "--mark") == 0
    assert pipe.read_bytes().startswith(b"YUV4MPEG2 W64 H48 F10:1")


def test_a_file_takes_the_size_that_is_asked_for(
    clip_file: Path, tmp_path: Path, capsys: Captured
) -> None:
    pipe = tmp_path / "video.y4m"
    options = ["--emotion", "sad", "--no-panel", "--no-virtual", "--pipe", str(pipe)]
    assert camera(clip_file, *options, "--seconds", "0.5", "--size", "320x120") == 0
    assert pipe.read_bytes().startswith(b"YUV4MPEG2 W160 H120 F10:1")
    assert "160x120 at 10, yuv420p (asked for: 320x120)" in capsys.readouterr().err


def test_without_a_virtual_camera_it_goes_on_where_there_is_another_way(
    clip_file: Path, tmp_path: Path, virtual: Recorder, capsys: Captured
) -> None:
    virtual.error = "there is no driver"
    record = tmp_path / "talk.mkv"
    options = ["--emotion", "happy", "--no-panel"]
    assert camera(clip_file, *options, "--record", str(record), "--seconds", "0.5") == 0
    assert "going on without it" in capsys.readouterr().err
    assert record.exists()
    assert camera(clip_file, *options) == 2
    assert "nothing to show the video in" in one_line(capsys)
    assert camera(clip_file, *options, "--virtual", "--seconds", "1") == 2
    assert "no virtual camera" in one_line(capsys)
    assert camera(clip_file, *options, "--device", "/dev/video77", "--seconds", "1") == 2
    assert one_line(capsys)


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ([], None),
        (["--virtual"], "auto"),
        (["--virtual", "--size", "64x48"], "auto"),
        (["--virtual", "pipewire"], "pipewire"),
        (["--virtual=v4l2"], "v4l2"),
        (["--no-virtual"], NO_VIRTUAL),
    ],
)
def test_the_way_of_the_virtual_camera_may_be_named_or_left_open(
    options: list[str], way: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[CameraPlan] = []
    monkeypatch.setattr(
        "mien.apps.camera.run.run_camera", lambda plan, _make: plans.append(plan) or 0
    )
    assert camera("0", *options) == 0
    assert plans[0].outputs.virtual == way


def test_a_way_that_does_not_work_is_an_error_and_not_another_way(
    clip_file: Path, virtual: Recorder, capsys: Captured
) -> None:
    options = ["--emotion", "happy", "--no-panel", "--seconds", "0.5"]
    assert camera(clip_file, *options, "--virtual", "pipewire") == 2
    assert "no virtual camera: " in one_line(capsys)
    assert not virtual.opened
    for wrong, said in (
        (["--virtual=obs"], "known: auto, pipewire, v4l2"),
        (["--virtual", "--no-virtual"], "either --virtual or --no-virtual"),
    ):
        assert camera(clip_file, *options, *wrong) == 2
        assert said in one_line(capsys)
    assert camera(clip_file, *options, "--virtual", "v4l2") == 0
    assert virtual.sent


def test_where_pipewire_runs_the_camera_is_shown_there_unless_a_device_is_named(
    clip_file: Path, virtual: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    options = ["--emotion", "happy", "--no-panel", "--seconds", "0.5"]
    with private_session() as session:
        for name in ("XDG_RUNTIME_DIR", "PIPEWIRE_RUNTIME_DIR"):
            monkeypatch.setenv(name, session.environment[name])
        assert camera(clip_file, *options, "--device", "ada") == 0
        assert "virtual camera: ada" in capsys.readouterr().err
        assert not virtual.opened
        assert camera(clip_file, *options, "--device", "/dev/video77") == 0
        assert [asked["device"] for asked in virtual.opened] == ["/dev/video77"]


def one_line(capsys: Captured) -> str:
    said = capsys.readouterr().err
    assert said.startswith("mien: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--size", "big"], "1280x720"),
        (["--size", "-1x720"], "1280x720"),
        (["--size", "4x4"], "no size of 4x4"),
        (["--rate", "0"], "--rate"),
        (["--delay", "-1"], "--delay"),
        (["--intensity", "7"], "--intensity"),
        (["--format", "h264"], "auto, mjpeg, yuyv"),
        (["--method", "magic"], "unknown method"),
        (["--face", "nobody"], "all, largest"),
        (["--record", "talk.avi"], "must end in"),
        (["--record", "none/talk.mp4"], "does not exist"),
        (["--pipe", "none/talk"], "does not exist"),
        (["--record", "{source}", "--overwrite"], "is what is read"),
        (["--pipe", "{source}", "--overwrite"], "is what is read"),
        (["--no-virtual", "--device", "x"], "--no-virtual"),
        (["--emotion", "hapy"], "happy"),
        (["--prompt", "a sad face"], "give either --prompt or --emotion"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    clip_file: Path, options: list[str], reason: str, capsys: Captured
) -> None:
    emotion = [] if "--emotion" in options else ["--emotion", "happy"]
    options = [option.replace("{source}", str(clip_file)) for option in options]
    whole = clip_file.read_bytes()
    assert camera(clip_file, *emotion, *options, "--no-panel", "--seconds", "1") == 2
    assert reason in one_line(capsys)
    assert clip_file.read_bytes() == whole


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that takes no files")
@pytest.mark.parametrize("option", [["--record", "/proc/mien.mp4"], ["--pipe", "/proc/mien.y4m"]])
def test_a_file_that_cannot_be_written_is_refused_at_once(
    clip_file: Path, option: list[str], capsys: Captured
) -> None:
    options = ["--emotion", "happy", "--no-panel", "--no-virtual", "--seconds", "1", *option]
    assert camera(clip_file, *options) == 2
    assert "cannot be written" in one_line(capsys)


def test_without_panel_because_it_was_left_out_nobody_is_told_to_install_it(
    clip_file: Path, capsys: Captured
) -> None:
    assert camera(clip_file, "--emotion", "happy", "--no-panel", "--no-virtual") == 2
    assert "leave --no-panel out" in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ([], ((1280, 720), Fraction(30))),
        (["--rate", "15"], ((1280, 720), Fraction(15))),
        (["--size", "640x480"], ((640, 480), Fraction(30))),
    ],
)
def test_a_camera_is_asked_for_what_a_call_wants(
    options: list[str],
    asked: tuple[tuple[int, int], Fraction],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[CaptureOptions] = []

    def open_camera(what: str, options: CaptureOptions) -> Device:
        opened.append(options)
        raise DeviceError(f"there is no camera {what}")

    monkeypatch.setattr(cameras, "open_camera", open_camera)
    assert camera("0", "--emotion", "happy", "--no-panel", *options) == 2
    assert [(each.size_wh, each.rate) for each in opened] == [asked]


def test_raw_video_names_the_rate_of_a_camera_that_gives_less_than_was_asked(
    clip_file: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "video.y4m"
    options = ["--emotion", "sad", "--no-panel", "--no-virtual", "--pipe", str(pipe)]
    assert camera(clip_file, *options, "--seconds", "0.5", "--rate", "60") == 0
    assert pipe.read_bytes().startswith(b"YUV4MPEG2 W64 H48 F10:1")


def test_a_camera_that_does_not_exist_is_refused_with_those_that_do(capsys: Captured) -> None:
    assert camera("97", "--emotion", "happy", "--no-panel") == 2
    assert "97" in one_line(capsys)
    assert camera("no-such.mp4", "--emotion", "happy", "--no-panel") == 2
    assert "no-such.mp4" in one_line(capsys)


def test_without_panel_an_expression_must_be_named(clip_file: Path, capsys: Captured) -> None:
    assert camera(clip_file, "--no-panel") == 2
    assert "--emotion" in one_line(capsys)


def test_a_port_in_use_names_the_next_free_one(clip_file: Path, capsys: Captured) -> None:
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert camera(clip_file, "--no-virtual", "--port", str(port)) == 2
    said = one_line(capsys)
    assert str(port) in said
    assert "add --port" in said


def test_cameras_are_listed(capsys: Captured) -> None:
    assert run(["camera", "--list"], LiveFake) == 0
    assert capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_recording_is_whole(
    clip_file: Path, tmp_path: Path, number: int, status: int
) -> None:
    record = tmp_path / "talk.mp4"
    arguments = ["camera", "--source", str(clip_file), "--emotion", "happy", "--no-virtual"]
    arguments += ["--no-panel", "--record", str(record)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.apps.live_fakes", *arguments],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert until(lambda: list(tmp_path.glob(".*.part.mp4")), 60)
    time.sleep(1)  # for a first frame to be recorded: without one there is no recording to keep
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == status, said
    assert "Traceback" not in said
    with av.open(str(record)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 1
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_recording_that_stopped_is_told_at_the_end_too_and_is_no_success(
    clip_file: Path, tmp_path: Path
) -> None:
    import resource

    record = tmp_path / "talk.mp4"
    arguments = ["camera", "--source", str(clip_file), "--emotion", "happy", "--no-virtual"]
    arguments += ["--no-panel", "--pipe", os.devnull, "--record", str(record), "--seconds", "1.5"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.apps.live_fakes", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"mien: the recording {record} has stopped: the disk is full")
    assert not record.exists()


def stats(**changes: object) -> LiveStats:
    settings: dict[str, object] = {
        "state": "running",
        "source": FACTS,
        "output_fps": 29.6,
        "delay": DelayStats(10.0, 12.2, 18.7, 12.0, 19.0),
        "recent_dropped_share": 0.004,
        "providers": {"warp": "cpu", "detector": "cpu"},
        "outputs": (OutputStatus("window", 5, 0, None),),
    }
    return LiveStats(**{**settings, **changes})  # type: ignore[arg-type]


def test_the_status_is_one_line_that_tells_what_is_given_up_and_what_is_wrong() -> None:
    assert status_line(stats()) == "30 fps, latency 12 ms (p95 19), dropped 0.4%, 0 faces, on cpu"
    worse = stats(adaptations=("smaller preview",), messages=("camera\ngone",))
    assert status_line(worse).endswith("on cpu; smaller preview; camera\\ngone")
    assert "the camera is off" in status_line(stats(state="idle"))
    assert "on nothing yet" in status_line(stats(providers={}, delay=DelayStats()))


def test_without_a_terminal_only_what_is_new_is_told(capsys: Captured) -> None:
    teller = Teller(is_terminal=False)
    for messages in ((), ("gone for 1 s",), ("gone for 2 s",), (), ("gone for 1 s",)):
        teller.show(stats(messages=messages))
    assert capsys.readouterr().err == "mien: gone for 1 s\n" * 2
    terminal = Teller(is_terminal=True)
    terminal.show(stats())
    terminal.say("done")
    assert capsys.readouterr().err.endswith("on cpu\ndone\n")
