"""What people see of an error, and of names that would steer their terminal."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from mien.apps.boundary import exit_status, tell_error
from mien.apps.main import run
from mien.apps.signals import Stopped
from mien.engines import WARP, Catalog
from mien.engines.catalog import ModelEntry, write_catalog
from mien.engines.errors import UsageError, is_out_of_memory, one_line, plain_lines

Captured = pytest.CaptureFixture[str]
STEERING = "a\x1b[2J\x9b1m\x07\x7f\r\nb\u202ec\u2066d\u200be\u2028f\ufeffg\udcffh"
SHOWN = r"a\x1b[2J\x9b1m\x07\x7f\r\nb\u202ec\u2066d\u200be\u2028f\ufeffg\udcffh"


def test_nothing_slow_is_imported_before_signals_are_minded() -> None:
    program = "import sys, mien.apps.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("mien.")} == {
        "mien.apps",
        "mien.apps.main",
        "mien.apps.signals",
    }
    assert not loaded & {"typer", "rich", "numpy", "logging"}


def test_the_help_imports_nothing_that_reads_video_edits_or_measures() -> None:
    program = "import sys, mien.apps.command_line; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {
        *("av", "onnxruntime", "rich.console"),
        *("mien.runtime.filter", "mien.runtime.session", "mien.calibration"),
    }
    start = "mien.runtime.methods."
    methods = {name.removeprefix(start) for name in loaded if name.startswith(start)}
    assert {"gan", "warp"} <= methods, "what they declare is in the help"
    assert not [name for name in methods if "." in name], "and nothing else of them is imported"


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


def opencv_error() -> Exception:
    import cv2

    return cv2.error("OpenCV(5) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9")


ERRORS = {
    "ours": (UsageError("what was wrong"), "mien: what was wrong\n"),
    "a file": (FileNotFoundError(errno.ENOENT, "No such file", "x\x1b"), "mien: x\\x1b: No such"),
    "memory": (MemoryError(), "mien: out of memory; try a smaller"),
    "C++ memory": (RuntimeError("std::bad_alloc"), "mien: out of memory; try a smaller"),
    "OpenCV's memory": (opencv_error(), "mien: out of memory; try a smaller"),
    "threads": (RuntimeError("can't start new thread"), "mien: out of memory; try a smaller"),
    "a fault": (
        OverflowError("too\nlarge"),
        "mien: this is a fault of mien itself (OverflowError: too",
    ),
    "the command line": (typer.BadParameter("bad\nvalue"), "mien: Invalid value: bad\\nvalue"),
}


@pytest.mark.parametrize(("error", "said"), ERRORS.values(), ids=ERRORS)
def test_every_error_is_one_line_and_status_2(
    error: Exception, said: str, capsys: Captured
) -> None:
    assert exit_status(raising(error)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1


def test_ends_that_are_no_errors_keep_their_status(capsys: Captured) -> None:
    assert exit_status(raising(typer.Exit(7))) == 7
    assert exit_status(raising(typer.Abort())) == 130
    assert exit_status(raising(KeyboardInterrupt())) == 130
    assert exit_status(raising(Stopped(15))) == 143
    assert exit_status(lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_fault_can_be_traced_where_that_is_asked_for(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    exit_status(raising(KeyError("x")))
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("MIEN_TRACEBACK", "1")
    exit_status(raising(KeyError("x")))
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "please report it" in said.splitlines()[-1]


def test_what_steers_a_terminal_is_shown() -> None:
    assert one_line(STEERING) == SHOWN
    assert one_line("Zoë 顔\u3000\U0001f600 'a'  b") == "Zoë 顔\u3000\U0001f600 'a'  b"
    assert plain_lines("a\x1b\nb\u202e") == "a\\x1b\nb\\u202e"
    assert one_line(Path("a\x1bb")) == "a\\x1bb"


def test_very_long_error_keeps_its_end(capsys: Captured) -> None:
    tell_error(f"{'9' * 5000} is no number; write 1..10")
    said = capsys.readouterr().err
    assert len(said) < 2100
    assert said.endswith("is no number; write 1..10\n")


def test_warnings_that_are_logged_are_plain(capsys: Captured) -> None:
    log = logging.getLogger("mien.engines.opening")
    assert exit_status(lambda: log.warning("%s: waits", STEERING)) == 0
    assert capsys.readouterr().err == f"{SHOWN}: waits\n"
    assert logging.getLogger("mien").handlers == []


def test_memory_that_runs_out_is_known_by_its_words() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    assert is_out_of_memory(ImportError("x.so: failed to map segment from shared object"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def catalog_with(folder: Path, text: str) -> Path:
    entry = Catalog.bundled().entry(WARP)
    (folder / entry.file).write_bytes(entry.path.read_bytes())
    fields = {name: getattr(entry, name) for name in ModelEntry.__slots__}
    told = dict.fromkeys(("name", "trained_on", "licence"), text)
    write_catalog(folder, (ModelEntry(**{**fields, **told, "folder": folder}),))
    return folder


def test_texts_of_a_catalog_are_shown(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    folder = catalog_with(tmp_path, STEERING.replace("\udcff", ""))
    assert run(["models", "--models", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count(SHOWN.replace("\\udcff", "")) == 3
    assert {sign for sign in said if not sign.isprintable()} == {"\n"}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize(
    "command",
    [["models", "--models"], ["doctor", "--models"], ["audit"], ["bench"], ["calibrate", "warp"]],
    ids=" ".join,
)
def test_names_of_files_are_shown(command: list[str], tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[2Jb\u202e\n.onnx"
    if command[0] == "doctor":
        name.mkdir()
    extra = ["--precision", "fp16", "--data"] if command[0] == "calibrate" else []
    done = subprocess.run(
        [sys.executable, "-m", "mien.apps.main", *command, *extra, str(name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert {sign for sign in said if not sign.isprintable()} == {"\n"}


LONG = "9" * 5000
ARGUMENTS = {
    "face": (["edit", "in.jpg", "--emotion", "happy", "--face", LONG], "--face must be all"),
    "quality": (["edit", "in.jpg", "--emotion", "happy", "--quality", LONG], "--quality"),
    "from": (["edit", "in.mp4", "--emotion", "happy", "--from", LONG], "--from: "),
    "mix": (["edit", "in.jpg", "--emotion", f"happy:{LONG}"], "characters"),
    "intensity": (["edit", "in.jpg", "--emotion", "happy", "--intensity", LONG], "0..1.5, not inf"),
    "memory": (["edit", "in.jpg", "--emotion", "happy", "--max-memory", LONG], "no amount of"),
    "provider": (["edit", "in.jpg", "--emotion", "happy", "--provider", f"cuda:{LONG}"], "in.jpg"),
    "width": (["camera", "--size", f"{LONG}x720"], "--size must be such as 1280x720"),
    "wide": (["camera", "--size", "99999x720"], "--size must be such as 1280x720"),
    "no size": (["camera", "--size", "0x0"], "--size must be such as 1280x720"),
    "rate": (["camera", "--rate", LONG], "--rate must lie in 0..1000"),
    "delay": (["camera", "--delay", "nan"], "--delay must lie in 0..5000"),
    "seconds": (["camera", "--seconds", "inf"], "--seconds"),
    "no seconds": (["camera", "--seconds", "nan"], "--seconds"),
    "port": (["camera", "--port", "65536"], "--port"),
    "port of doctor": (["doctor", "--port", LONG], "--port"),
    "runs": (["bench", "--runs", "9" * 400], "--runs"),
    "count": (["evaluate", "smile", "--data", ".", "--count", "9" * 400], "--count"),
    "device": (["build", "--list", "--device", LONG], "--device"),
    "models": (["models", "--models", LONG], "catalog.toml"),
    "NUL": (["models", "--models", "a\0b"], "mien: "),
    "command": ([f"\x1b[2J{LONG}"], r"\x1b[2J9999"),
}


@pytest.mark.parametrize(("arguments", "said"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_argument_of_any_length_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: Captured, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 2100
    assert "fault of mien" not in printed.err
