"""Every Python example of the README, the docs and the docstrings runs as it stands there."""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.runtime.video import read_frames

ROOT = Path(__file__).parents[1]
FOLDERS = ("package", "runtime", "engines", "apps", "export", "calibration", "training")
MIEN_IMPORT = re.compile(r"^(?:from|import) mien\b", re.MULTILINE)
PYTHON = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    """Where each example stands, and its text."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for count, (_, code) in enumerate(PYTHON.findall(page.read_text(encoding="utf-8")), 1):
            yield f"{page.relative_to(ROOT)}-{count}", textwrap.dedent(code)
    for where, docstring in docstrings():
        for count, code in enumerate(filter(is_example, indented_blocks(docstring)), 1):
            yield f"{where}-{count}", code


def docstrings() -> Iterator[tuple[str, str]]:
    """Where each docstring of the package stands, and its text."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
                    text := ast.get_docstring(node)
                ):
                    name = getattr(node, "name", "module")
                    yield f"{path.relative_to(ROOT)}-{name}", text


def indented_blocks(docstring: str) -> list[str]:
    """What stands four spaces in between blank lines, as Markdown has its code."""
    found = re.findall(r"(?:^|\n\n)((?: {4}.*\n?|\n(?= {4}))+)", docstring)
    return [textwrap.dedent(block).strip() for block in found]


def is_example(block: str) -> bool:
    return MIEN_IMPORT.search(block) is not None


EXAMPLES = dict(examples())


def test_there_are_examples() -> None:
    assert "README.md-1" in EXAMPLES
    assert {"package/__init__.py-module-1", "runtime/filter.py-module-1"} <= EXAMPLES.keys()
    assert all(code.strip() for code in EXAMPLES.values())


def test_code_in_a_docstring_has_kept_its_indentation() -> None:
    for where, docstring in docstrings():
        assert MIEN_IMPORT.search(docstring) is None, f"{where}: indent its example by four spaces"


@pytest.mark.parametrize("where", EXAMPLES)
def test_the_example_runs(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.runtime.live.pixels import pixels

    shutil.copy(SAMPLE, tmp_path / "talk.mp4")
    monkeypatch.chdir(tmp_path)
    frames = []
    for frame in read_frames(SAMPLE):
        frames.append((cv2.resize(pixels(frame), (320, 240)), frame.time_s))
        if len(frames) == 3:
            break
    shown: list[object] = []
    names = {"frames": frames, "show": lambda *what: shown.append(what), "outputs": []}
    exec(compile(EXAMPLES[where], where, "exec"), names)
    assert shown or "show" not in EXAMPLES[where]
