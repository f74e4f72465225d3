"""Programs that mien starts: nothing that lies where the user works is imported by them."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from mien.engines.system.process import module_command
from tests.apps.fakes import ROOT

TRAPS = ("numpy.py", "json.py", "runpy.py", "typer.py", "mien/__init__.py")


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules that nobody asked for."""
    (tmp_path / "mien").mkdir()
    for name in TRAPS:
        (tmp_path / name).write_text("raise SystemExit('of the working folder')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_nothing_of_the_working_folder_is_imported(trapped: Path) -> None:
    done = run(module_command("mien.apps.main", ["--version"]))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mien ")


def test_a_child_gets_its_arguments_as_they_are(trapped: Path) -> None:
    done = run(module_command("mien.apps.main", ["edit", "a b.mp4", "--face", "-x"]))
    assert done.returncode == 2
    assert "of the working folder" not in done.stderr
    assert done.stderr.startswith("mien: ")


@pytest.mark.parametrize("room", ["apps", "calibration", "export", "runtime", "engines"])
def test_every_program_is_started_so(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / room).rglob("*.py"))
        if path != ROOT / "engines" / "system" / "process.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "executable"
    ]
    assert found == []
