"""Clips that tests in every folder can ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.video.clips import ClipSpec, make_clip


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Makes a clip in the test's folder: `clip("in.mp4", frames=5, audio_tracks=1)`."""

    def make(name: str = "in.mp4", **settings: object) -> Path:
        return make_clip(tmp_path / name, ClipSpec(**settings))

    return make
