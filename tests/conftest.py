"""What tests in every folder can ask for: clips, and signals that break in."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runtime.video.clips import ClipSpec, make_clip

# Tests import ONNX Runtime themselves, before mien can switch its telemetry off.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# No test shows a camera in the session of whoever runs it.
os.environ["PIPEWIRE_RUNTIME_DIR"] = os.devnull


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Makes a clip in the test's folder: `clip("in.mp4", frames=5, audio_tracks=1)`."""

    def make(name: str = "in.mp4", **settings: object) -> Path:
        return make_clip(tmp_path / name, ClipSpec(**settings))

    return make


@pytest.fixture(autouse=True, scope="session")
def _own_certificate_hidden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests has a certificate or not: edits in them are signed with none of it."""
    folder = str(tmp_path_factory.mktemp("config"))
    names = ["XDG_CONFIG_HOME", "APPDATA"] + ["HOME"] * (sys.platform == "darwin")
    with pytest.MonkeyPatch.context() as patched:
        for name in names:
            patched.setenv(name, folder)
        yield


class InterruptedHere(BaseException):
    """What the signal of `interrupting` raises."""


@pytest.fixture
def interrupting() -> Iterator[type[BaseException]]:
    """SIGUSR1 raises this in the main thread, as Ctrl-C does its own."""

    def interrupt(*_: object) -> None:
        raise InterruptedHere

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield InterruptedHere
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(scope="session")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small untrained networks that draw faces from text; writing it takes seconds."""
    from tests.runtime.text.networks import write_text_models

    return write_text_models(tmp_path_factory.mktemp("text") / "models")
