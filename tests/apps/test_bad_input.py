from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from mien.apps.main import run
from mien.runtime.pictures.png import PNG_SIGNATURE, png_chunk
from tests.apps.fakes import ROOT, FakeFilter, Makers, write_clip, write_picture_file

Captured = pytest.CaptureFixture[str]
FAKE_MIEN = [sys.executable, "-m", "tests.apps.fakes"]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def missing(folder: Path) -> list[str]:
    return [str(folder / "in.mp4")]


def address(folder: Path) -> list[str]:
    return ["rtsp://me:word@127.0.0.1/video"]


def output_address(folder: Path) -> list[str]:
    return [str(write_clip(folder / "in.mp4")), "-o", "rtmp://me:word@127.0.0.1/live"]


def empty_folder(folder: Path) -> list[str]:
    (folder / "album").mkdir()
    return [str(folder / "album")]


def text(folder: Path) -> list[str]:
    (folder / "in.mp4").write_text("this is a text")
    return [str(folder / "in.mp4")]


def text_picture(folder: Path) -> list[str]:
    (folder / "in.jpg").write_text("this is a text")
    return [str(folder / "in.jpg")]


def empty_file(folder: Path) -> list[str]:
    (folder / "in.mp4").write_bytes(b"")
    return [str(folder / "in.mp4")]


def no_video_stream(folder: Path) -> list[str]:
    path = folder / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = 44100, 0
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return [str(path)]


def bomb(folder: Path) -> list[str]:
    header = (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")]
    data = PNG_SIGNATURE + b"".join(png_chunk(name, payload) for name, payload in chunks)
    (folder / "in.png").write_bytes(data)
    return [str(folder / "in.png")]


def output_exists(folder: Path) -> list[str]:
    write_clip(folder / "in.mp4")
    (folder / "in_happy.mp4").write_text("precious")
    return [str(folder / "in.mp4")]


def output_is_input(folder: Path) -> list[str]:
    path = write_clip(folder / "in.mp4")
    return [str(path), "-o", str(folder / "." / "in.mp4"), "--overwrite"]


def output_links_to_input(folder: Path) -> list[str]:
    path = write_clip(folder / "in.mp4")
    (folder / "out.mp4").symlink_to(path)
    return [str(path), "-o", str(folder / "out.mp4"), "--overwrite"]


def output_in_no_folder(folder: Path) -> list[str]:
    return [str(write_clip(folder / "in.mp4")), "-o", str(folder / "none" / "out.mp4")]


def picture_changes_format(folder: Path) -> list[str]:
    return [str(write_picture_file(folder / "in.jpg")), "-o", str(folder / "out.png")]


def folder_into_file(folder: Path) -> list[str]:
    album = folder / "album"
    album.mkdir()
    write_picture_file(album / "in.png")
    (folder / "out.png").write_text("precious")
    return [str(album), "-o", str(folder / "out.png")]


def models_missing(folder: Path) -> list[str]:
    return [str(write_clip(folder / "in.mp4")), "--models", str(folder / "none")]


def long_name(folder: Path) -> list[str]:
    return [str(folder / ("a" * 300 + ".mp4"))]


def long_output_name(folder: Path) -> list[str]:
    return [str(write_clip(folder / ("a" * 247 + ".mp4")))]


def device(folder: Path) -> list[str]:
    return [os.devnull, "-o", str(folder / "out.mp4")]


def on_a_clip(*options: str) -> Callable[[Path], list[str]]:
    return lambda folder: [str(write_clip(folder / "in.mp4")), *options]


def on_a_picture(*options: str) -> Callable[[Path], list[str]]:
    return lambda folder: [str(write_picture_file(folder / "in.png")), *options]


BAD: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "a missing file": (missing, "no such file"),
    "an address": (address, "mien camera --source rtsp://127.0.0.1/video"),
    "an address of the output": (output_address, "rtmp://127.0.0.1/live is an address"),
    "an empty folder": (empty_folder, "holds no video or picture"),
    "a text called mp4": (text, "in.mp4"),
    "a text called jpg": (text_picture, "is not a picture of a known kind"),
    "an empty file": (empty_file, "in.mp4"),
    "sound only": (no_video_stream, "in.mp4"),
    "a picture bomb": (bomb, "60000x60000"),
    "an output that exists": (output_exists, "--overwrite"),
    "an output that is the input": (output_is_input, "is the input itself"),
    "an output that links to the input": (output_links_to_input, "is the input itself"),
    "an output in no folder": (output_in_no_folder, "does not exist"),
    "a picture that changes format": (picture_changes_format, "must end in .jpg"),
    "a folder into a file": (folder_into_file, "-o must be a folder"),
    "models that are missing": (models_missing, "none"),
    "a name too long": (long_name, "too long"),
    "a name too long with _happy": (long_output_name, "too long"),
    "a device": (device, "is a device"),
    "an unknown codec": (on_a_clip("--codec", "nonsense"), "nonsense"),
    "quality out of range": (on_a_clip("--quality", "101"), "0..100"),
    "intensity out of range": (on_a_clip("--intensity", "1.6"), "0..1.5"),
    "intensity that is none": (on_a_clip("--intensity", "nan"), "0..1.5"),
    "intensity in words": (on_a_clip("--intensity", "much"), "--intensity"),
    "a face of no number": (on_a_clip("--face", "left"), "all, largest or a number"),
    "a time that is none": (on_a_clip("--from", "soon"), "--from: 'soon' is not a time"),
    "an end before the start": (on_a_clip("--from", "2", "--to", "1"), "empty"),
    "a timeline and an emotion": (on_a_clip("--timeline", "steps.csv"), "not both"),
    "an unknown option": (on_a_clip("--speed", "9"), "--speed"),
    "a section of a picture": (on_a_picture("--from", "1"), "is a picture"),
    "a codec for a picture": (on_a_picture("--codec", "h264"), "is a picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_status_2(tmp_path: Path, name: str, capsys: Captured) -> None:
    make, said = BAD[name]
    arguments = make(tmp_path)
    before = {entry: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()}
    status = run(["edit", *arguments, "--emotion", "happy"], Makers())
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith("mien: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err
    assert "me:word" not in printed.err
    after = {entry: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()}
    assert after == before


def test_an_unknown_emotion_names_the_nearest_and_the_known(
    tmp_path: Path, capsys: Captured
) -> None:
    path = write_clip(tmp_path / "in.mp4")
    assert run(["edit", str(path), "--emotion", "hapy"], Makers()) == 2
    said = capsys.readouterr().err
    assert "did you mean 'happy'" in said
    assert "surprised" in said
    assert run(["edit", str(path)], Makers()) == 2
    assert "--emotion happy" in capsys.readouterr().err


def test_an_error_in_a_timeline_names_file_and_line(tmp_path: Path, capsys: Captured) -> None:
    path = write_clip(tmp_path / "in.mp4")
    steps = tmp_path / "steps.csv"
    steps.write_text("time,emotion\n0,hapy\n")
    assert run(["edit", str(path), "--timeline", str(steps)], Makers()) == 2
    assert f"{steps}, line 2" in capsys.readouterr().err


def test_a_filter_that_cannot_be_made_leaves_nothing(tmp_path: Path, capsys: Captured) -> None:
    path = write_clip(tmp_path / "in.mp4")
    arguments = ["edit", str(path), "--emotion", "happy", "--models", str(path)]
    assert run(arguments, Makers()) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("size_wh", [(63, 47), (1, 1), (64, 47)])
def test_odd_and_tiny_videos_are_edited(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "in.mp4", size_wh=size_wh)
    assert run(["edit", str(path), "--emotion", "happy"], Makers()) == 0
    with av.open(str(tmp_path / "in_happy.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == size_wh


def test_a_truncated_video_is_edited_as_far_as_it_goes(tmp_path: Path, capsys: Captured) -> None:
    path = write_clip(tmp_path / "in.mkv", 60, size_wh=(128, 96))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert run(["edit", str(path), "--emotion", "happy"], Makers()) == 3
    said = capsys.readouterr()
    assert "is damaged" in said.err
    assert said.err.count("\n") == 1
    assert (tmp_path / "in_happy.mkv").exists()


def test_a_truncated_picture_is_edited_as_far_as_it_goes(tmp_path: Path, capsys: Captured) -> None:
    path = write_picture_file(tmp_path / "in.jpg")
    path.write_bytes(path.read_bytes()[:-10])
    assert run(["edit", str(path), "--emotion", "happy"], Makers()) == 3
    assert "is damaged" in capsys.readouterr().err
    assert (tmp_path / "in_happy.jpg").exists()


def fake_mien(
    folder: Path, *arguments: str, delay_s: float = 0.0, endless: bool = False
) -> subprocess.Popen[str]:
    environment = {**os.environ, "FAKE_DELAY_S": str(delay_s), "PYTHONPATH": str(ROOT)}
    if endless:
        environment["FAKE_ENDLESS"] = str(folder / "endless")
    return subprocess.Popen(
        [*FAKE_MIEN, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "kill"]
)
def test_a_stopped_edit_leaves_nothing(tmp_path: Path, number: int, status: int) -> None:
    write_clip(tmp_path / "in.mp4", 200)
    process = fake_mien(tmp_path, "edit", "in.mp4", "--emotion", "happy", delay_s=0.1)
    deadline = time.monotonic() + 60
    while len(names(tmp_path)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert len(names(tmp_path)) == 2, "the edit writes beside the final name"
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert output == ""
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_picture_is_stopped_amid_a_call_that_does_not_come_back(tmp_path: Path) -> None:
    write_picture_file(tmp_path / "in.png")
    process = fake_mien(tmp_path, "edit", "in.png", "--emotion", "happy", endless=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "endless").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (tmp_path / "endless").unlink()
    process.send_signal(signal.SIGINT)
    try:
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, output, errors) == (130, "", "")
    assert names(tmp_path) == ["in.png"]


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_another_signal_does_not_break_the_clean_up() -> None:
    program = """
import os, signal
from mien.apps.signals import Stopped, raise_on_signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a test run under nohup inherits it ignored
raise_on_signals()
try:
    os.kill(os.getpid(), signal.SIGHUP)
except Stopped as stopped:
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), other)
    print(stopped.status)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "129\n", "")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_second_ctrl_c_ends_at_once_what_never_comes_back_to_python() -> None:
    program = """
import hashlib, sys
from mien.apps.signals import status_of
print("begun", flush=True)
sys.exit(status_of(lambda: len(hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1))))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # too soon for a second request
        assert process.stderr.readline() == "mien: stopping; Ctrl-C again ends it at once\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_a_signal_after_the_work_leaves_its_status_and_no_trace() -> None:
    program = """
import os, signal, sys
from mien.apps.signals import status_of
status = status_of(lambda: 7)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(os.getpid(), number)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (7, b"")


def test_signals_are_minded_before_anything_that_takes_time_is_imported() -> None:
    program = """
import sys
from mien.apps.signals import status_of
import mien.apps.main
print({"typer", "numpy", "mien.engines"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.skipif(os.name != "posix", reason="the limit is one of POSIX")
@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"in{suffix}"
    if suffix == ".mp4":
        write_clip(source, 30, size_wh=(320, 240))
    else:
        write_picture_file(source)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = subprocess.run(
        [*FAKE_MIEN, "edit", source.name, "--emotion", "happy"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mien: ")
    assert done.stderr.count("\n") == 1
    assert names(tmp_path) == [source.name]


def test_the_script_of_a_clone_takes_the_same_options(tmp_path: Path) -> None:
    script = ROOT / "apps" / "video_edit.py"
    done = subprocess.run(
        [sys.executable, str(script), "none.mp4", "--emotion", "happy"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mien: no such file: none.mp4\n"


def test_version_and_help_answer(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mien 0.")
    assert run(["edit", "--help"]) == 0
    assert "--emotion" in capsys.readouterr().out
    assert run(["nonsense"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(["edit", "--emotion"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_unicode_is_edited(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"\xff in.png")
    source.write_bytes(write_picture_file(tmp_path / "in.png").read_bytes())
    done = subprocess.run(
        [*FAKE_MIEN, "edit", source, "--emotion", "happy"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / os.fsdecode(b"\xff in_happy.png")).exists()


def test_who_reads_the_output_may_go_away(tmp_path: Path) -> None:
    write_picture_file(tmp_path / "in.png")
    process = fake_mien(tmp_path, "edit", "in.png", "--emotion", "happy")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1


def test_the_fake_is_a_filter(tmp_path: Path) -> None:
    from mien.runtime.session import FaceFilter
    from mien.runtime.spec import FilterSpec

    filter_: FaceFilter = FakeFilter(FilterSpec())
    assert filter_.faces == ()


@pytest.mark.parametrize("arguments", [[], ["evaluate"], ["-h"], ["edit", "-h"]])
def test_without_a_command_the_help_is_shown(arguments: list[str], capsys: Captured) -> None:
    assert run(arguments, Makers()) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Usage: mien")
    assert "Options:" in said.out
    assert said.err == ""
