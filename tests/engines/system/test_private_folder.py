"""Private folders are gone after the run, also after one that was killed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from mien.engines.system.folders import private_folder, remove_left_folders

pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders are locked")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, for these tests alone and for the programs they start."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def left_by_a_killed_run() -> Path:
    script = """
        import os, signal
        from mien.engines.system.folders import private_folder
        with private_folder() as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "model.onnx").write_bytes(b"half")
            print(folder, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    folder = Path(done.stdout.strip())
    assert (folder / "inner").is_dir()
    return folder


def test_a_private_folder_is_gone_at_the_end_whatever_happens(temporary: Path) -> None:
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "model.onnx").write_bytes(b"whole")
    with pytest.raises(ZeroDivisionError), private_folder():
        raise ZeroDivisionError
    assert not any(temporary.iterdir())


def test_the_next_run_removes_the_folder_of_a_killed_one_and_no_other(temporary: Path) -> None:
    left = left_by_a_killed_run()
    like = temporary / left.name.replace("run", "ran")
    like.mkdir()
    link = temporary / f"{left.name[:-8]}00000000"
    link.symlink_to(like)
    (like / "precious").touch()
    with private_folder() as folder:
        assert not left.exists()
        script = "from mien.engines.system.folders import *; remove_left_folders()"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        remove_left_folders()
        assert folder.exists(), "one that is in use stays"
    assert {path.name for path in temporary.iterdir()} == {like.name, link.name}
    assert (like / "precious").exists()
