from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.engines.errors import UsageError, VideoError
from mien.runtime.live.outputs import output, pipe
from mien.runtime.live.outputs.pipe import PipeFormat, RawPipe
from tests.runtime.live.pictures import frame_of, live, quarters
from tests.runtime.live.virtual import until

SIZE = (160, 96)
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")


@pytest.fixture
def fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A FIFO, and an output that soon tries again."""
    monkeypatch.setattr(output, "RETRY_S", 0.02)
    monkeypatch.setattr(pipe, "_REOPEN_S", 0.02)
    path = tmp_path / "video"
    os.mkfifo(path)
    return path


def offered(raw: RawPipe, levels: tuple[int, ...], begin: int = 0) -> None:
    """Offer grey frames, each once the one before it is written."""
    for index, level in enumerate(levels, begin):
        raw.offer(live(frame_of(np.full((96, 160, 3), level, np.uint8)), seq=index))
        assert until(lambda: raw.status().shown == index + 1), raw.status()  # noqa: B023


def reader_of(path: Path) -> tuple[threading.Thread, list[bytes]]:
    """A thread that reads until the writer ends, and what it has read."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    thread.start()
    return thread, found


def test_a_program_reads_y4m_from_a_fifo(fifo: Path, tmp_path: Path) -> None:
    raw = RawPipe(str(fifo), SIZE, rate=Fraction(25))
    assert not raw.watched
    thread, found = reader_of(fifo)
    assert until(lambda: raw.watched)
    offered(raw, (40, 120, 200))
    raw.close()
    thread.join(5)
    saved = tmp_path / "saved.y4m"
    saved.write_bytes(found[0])
    with av.open(str(saved)) as container:
        assert container.streams.video[0].average_rate == 25
        means = [f.to_ndarray(format="rgb24", threads=1).mean() for f in container.decode(video=0)]
    assert np.abs(np.array(means) - (40, 120, 200)).max() < 4


@pytest.mark.parametrize(("name", "size"), [("yuv420p", 23040), ("rgb24", 46080)])
def test_bare_samples_come_frame_after_frame(tmp_path: Path, name: PipeFormat, size: int) -> None:
    target = tmp_path / "video.raw"
    raw = RawPipe(str(target), SIZE, pixel_format=name)
    offered(raw, (40, 200))
    raw.close()
    data = target.read_bytes()
    assert len(data) == 2 * size
    if name == "rgb24":
        assert abs(int(data[0]) - 40) < 4
        assert abs(int(data[size]) - 200) < 4


def test_without_a_reader_frames_are_dropped_and_it_says_so(fifo: Path) -> None:
    raw = RawPipe(str(fifo), SIZE)
    raw.offer(live(frame_of(quarters())))
    assert until(lambda: raw.status().message)
    assert "no program reads" in str(raw.status().message)
    raw.close()
    assert raw.status().shown == 0


def test_a_reader_that_hangs_holds_up_nobody_and_not_the_end(fifo: Path) -> None:
    raw = RawPipe(str(fifo), SIZE)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # never read from
    try:
        assert until(lambda: raw.watched)
        began_s = time.monotonic()
        for index in range(50):
            raw.offer(live(frame_of(quarters()), seq=index))
        assert until(lambda: raw.status().dropped > 20)
        thread = raw._thread
        raw.close()
        assert thread is not None
        assert not thread.is_alive()
        assert time.monotonic() - began_s < 30
    finally:
        os.close(held)


def test_the_next_reader_begins_with_a_whole_frame(fifo: Path) -> None:
    raw = RawPipe(str(fifo), SIZE)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert until(lambda: raw.watched)
    raw.offer(live(frame_of(quarters())))
    assert until(lambda: raw._is_begun)
    os.close(first)  # in the middle of a frame, or after it
    raw.offer(live(frame_of(quarters()), seq=1))
    assert until(lambda: "has ended" in str(raw.status().message) or not raw.watched)
    thread, found = reader_of(fifo)
    assert until(lambda: raw.watched)
    shown = raw.status().shown
    offered_before = shown
    raw.offer(live(frame_of(quarters()), seq=2))
    assert until(lambda: raw.status().shown > offered_before)
    raw.close()
    thread.join(5)
    assert found[0].startswith(b"YUV4MPEG2 W160 H96")
    header = found[0].index(b"FRAME\n") + 6
    assert len(found[0]) == header + 23040


def test_standard_output_serves_a_program_until_it_ends() -> None:
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.runtime.live.pictures import frame_of, live, quarters\n"
        "from tests.runtime.live.virtual import until\n"
        "from mien.runtime.live.outputs.pipe import RawPipe\n"
        "raw = RawPipe('-', (160, 96), pixel_format='yuv420p')\n"
        "index = 0\n"
        "def more():\n"
        "    global index; index += 1\n"
        "    raw.offer(live(frame_of(quarters()), seq=index))\n"
        "    return not raw.watched\n"
        "ended = until(more)\n"
        "raw.close()\n"
        "sys.stderr.write(f'{ended} {raw.status().message}')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(23040)) == 23040
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(20) == 0, said
    assert said == "True the program that read standard output has ended"


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    for target, reason in (
        (there, "is no pipe; add --overwrite"),
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "video", "does not exist"),
    ):
        with pytest.raises(VideoError, match=reason):
            RawPipe(str(target), SIZE)
    with pytest.raises(UsageError, match="unknown pipe format"):
        RawPipe(str(tmp_path / "new"), SIZE, pixel_format="mp3")  # type: ignore[arg-type]
    assert there.read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="links and devices of POSIX")
def test_a_link_to_nothing_is_not_followed_and_a_device_is_no_new_file(tmp_path: Path) -> None:
    link = tmp_path / "video.y4m"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VideoError, match="add --overwrite"):
        RawPipe(str(link), SIZE)
    assert not (tmp_path / "elsewhere").exists()
    RawPipe(os.devnull, SIZE).close()
