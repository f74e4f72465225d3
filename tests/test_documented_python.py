"""Every Python example of the README and the docs runs as it stands there."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

import mien
from mien.apps.edit.inputs import SAMPLE
from mien.runtime import filter as filter_module
from mien.runtime.video import read_frames

ROOT = Path(__file__).parents[1]
PYTHON = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    """Where each example stands, and its text."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for count, (_, code) in enumerate(PYTHON.findall(page.read_text(encoding="utf-8")), 1):
            yield f"{page.relative_to(ROOT)}-{count}", textwrap.dedent(code)
    for module in (mien, filter_module):
        paragraphs = (module.__doc__ or "").split("\n\n")
        code = [text for text in paragraphs if text.lstrip().startswith(("from mien", "with "))]
        yield module.__name__, textwrap.dedent("\n\n".join(code))


EXAMPLES = dict(examples())


def test_there_are_examples() -> None:
    assert "README.md-1" in EXAMPLES
    assert all(code.strip() for code in EXAMPLES.values())


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
