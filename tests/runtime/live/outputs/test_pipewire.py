from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mien.engines.errors import DeviceError
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.outputs import pipewire
from mien.runtime.live.outputs.pipewire import PipeWireCamera, missing_session
from mien.runtime.live.outputs.pipewire_stream import PipeWireStream, load_library
from tests.runtime.live.outputs.session import Reader, Session, private_session
from tests.runtime.live.pictures import live
from tests.runtime.live.stand_ins import CountedSource, FakeFilter, wait_until, yuv_frame
from tests.runtime.live.virtual import until

SIZE = (160, 96)
BYTES = 160 * 96 * 3 // 2
LEVELS = range(20, 230)


@pytest.fixture(scope="module")
def running() -> Iterator[Session]:
    with private_session() as made:
        yield made


@pytest.fixture
def session(running: Session, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session that this process and its readers are in."""
    for name in ("XDG_RUNTIME_DIR", "PIPEWIRE_RUNTIME_DIR"):
        monkeypatch.setenv(name, running.environment[name])
    monkeypatch.setattr(pipewire, "RETRY_S", 0.05)
    return running


@contextmanager
def camera_called(name: str) -> Iterator[PipeWireCamera]:
    camera = PipeWireCamera(SIZE, 25.0, device=name)
    try:
        yield camera
    finally:
        camera.close()


@contextmanager
def shown(camera: PipeWireCamera) -> Iterator[None]:
    """Grey pictures shown all the time, each lighter than the last until they begin anew."""
    ended = threading.Event()

    def show() -> None:
        for index in range(1_000_000):
            frame = yuv_frame(LEVELS[index % len(LEVELS)], SIZE)
            camera.offer(live(frame, time.monotonic(), index))
            if ended.wait(0.04):
                return

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def levels(reader: Reader, count: int) -> list[int]:
    """The grey of the next pictures, each checked to be of one grey."""
    found = []
    for _ in range(count):
        frame = np.frombuffer(reader.frame(BYTES), np.uint8)
        assert frame.size == BYTES
        luma = frame[: SIZE[0] * SIZE[1]]
        assert (luma == luma[0]).all()
        assert (frame[luma.size :].reshape(2, -1) == [[120], [140]]).all()
        found.append(int(luma[0]))
    return found


def test_another_program_reads_size_rate_and_frames_in_order(session: Session) -> None:
    with camera_called("first") as camera, shown(camera):
        assert camera.device == "first"
        assert not camera.watched
        told = session.formats("first")
        for fact in ("width=(int)160", "height=(int)96", "framerate=(fraction)25/1", "I420"):
            assert fact in told
        reader = session.reader("first")
        steps = np.diff(levels(reader, 40)) % len(LEVELS)
        assert camera.watched
        reader.close()
    assert (steps > 0).all()
    assert (steps < len(LEVELS) // 2).all()  # none is shown twice, none comes after a later one
    assert camera.status().message is None


def test_the_real_camera_is_released_while_nobody_reads(session: Session) -> None:
    source, controls = CountedSource(), Controls()
    camera = PipeWireCamera(SIZE, 25.0, device="idle")
    make: Callable[..., FakeFilter] = lambda _state: FakeFilter()  # noqa: E731
    with LiveLoop(source, make, [camera], controls, idle_after_s=0.1):
        wait_until(lambda: source.calls == ["pause"])
        for turn in (1, 2):
            reader = session.reader("idle")
            wait_until(lambda: source.calls == ["pause", "resume"] * turn)  # noqa: B023
            reader.close()
            wait_until(lambda: source.calls == ["pause", "resume"] * turn + ["pause"])  # noqa: B023


def test_a_reader_that_hangs_holds_nobody_up_and_goes_on_later(session: Session) -> None:
    with camera_called("held") as camera, shown(camera):
        held = session.reader("held")
        levels(held, 3)
        held.hold()
        before = camera.status().shown
        assert until(lambda: camera.status().shown > before + 40)  # more than there are buffers
        held.go_on()
        assert len(set(levels(held, 40))) > 20


def test_a_pipewire_that_ends_is_told_and_found_again(session: Session) -> None:
    with camera_called("again") as camera, shown(camera):
        levels(session.reader("again"), 3)
        session.end()
        assert until(lambda: camera.status().message)
        assert "PipeWire" in str(camera.status().message)
        assert not camera.watched
        session.start()
        assert until(lambda: camera.status().message is None)
        levels(session.reader("again"), 3)
        assert camera.watched


def test_a_camera_that_was_closed_is_asked_without_harm(session: Session) -> None:
    with camera_called("closed") as camera:
        pass
    camera.close()
    assert not camera.watched
    stream = PipeWireStream({"node.name": "closed"}, SIZE, camera._rate)
    stream.close()
    stream.close()
    assert stream.is_lost
    assert not stream.push(np.zeros(BYTES, np.uint8), 0.0)


def test_what_is_missing_is_told_with_the_line_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPEWIRE_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(pipewire.sys, "platform", "darwin")
    assert "for Linux" in str(missing_session(tmp_path))
    monkeypatch.setattr(pipewire.sys, "platform", "linux")
    try:
        load_library()
    except DeviceError:
        assert "apt install pipewire" in str(missing_session(tmp_path))
        return
    assert "systemctl --user" in str(missing_session(tmp_path))
    with pytest.raises(
        DeviceError, match=r"no virtual camera: no PipeWire is running .* systemctl"
    ):
        PipeWireCamera(SIZE, 30.0)


def test_a_pipewire_without_a_session_manager_is_told(session: Session, tmp_path: Path) -> None:
    assert "WirePlumber" in str(missing_session(tmp_path))
    program = tmp_path / "proc/77"
    program.mkdir(parents=True)
    (program / "comm").write_text("wireplumber\n")
    assert missing_session(tmp_path) is None
