from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.live.outputs.recording import NOTICE, Recording
from tests.runtime.live.pictures import QUARTERS, frame_of, live, quarters
from tests.runtime.live.virtual import until

UNEVEN_S = (0.0, 0.033, 0.12, 0.14, 0.9)


def record(
    recording: Recording, times_s: tuple[float, ...], begin: int = 0, *, is_edited: bool = True
) -> None:
    """Offer each frame once the one before it is written."""
    for index, time_s in enumerate(times_s, begin):
        frame = live(frame_of(quarters()), 5000.0 + time_s, index)
        recording.offer(replace(frame, is_edited=is_edited))
        assert until(lambda: recording.status().shown == index + 1), recording.status()  # noqa: B023


def read(path: Path) -> tuple[list[float], list[np.ndarray], dict[str, str]]:
    """The times in seconds, the pictures as RGB, and the metadata of a file."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times_s = [float(frame.pts * frame.time_base) for frame in frames]
        return (
            times_s,
            [f.to_ndarray(format="rgb24", threads=1) for f in frames],
            dict(container.metadata),
        )


def readable(path: Path) -> int:
    """How many frames can be decoded of a file that is not whole."""
    count = 0
    with suppress(av.error.InvalidDataError), av.open(str(path)) as container:
        for _ in container.decode(video=0):
            count += 1
    return count


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_each_frame_keeps_the_time_at_which_it_was_captured(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"talk{suffix}"
    recording = Recording(path, Fraction(30))
    record(recording, UNEVEN_S)
    assert not path.exists()
    recording.close()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    times_s, pictures, metadata = read(path)
    assert times_s == pytest.approx(UNEVEN_S, abs=0.001)
    assert NOTICE in metadata.values()
    found = pictures[0][[24, 24, 72, 72], [40, 120, 40, 120]].astype(int)
    assert np.abs(found - QUARTERS).max() < 16
    assert recording.status().message is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_a_recording_without_an_edited_frame_does_not_say_that_it_is_edited(
    tmp_path: Path, suffix: str
) -> None:
    found = {}
    for name, edits in (("never", (False, False)), ("later", (False, True))):
        recording = Recording(tmp_path / f"{name}{suffix}", Fraction(30))
        record(recording, UNEVEN_S[:3], is_edited=edits[0])
        record(recording, UNEVEN_S[3:], 3, is_edited=edits[1])
        recording.close()
        assert recording.status().message is None
        found[name] = read(recording.path)
    assert len(list(tmp_path.iterdir())) == 2
    assert NOTICE in found["later"][2].values()
    assert NOTICE not in found["never"][2].values()
    assert found["never"][0] == pytest.approx(UNEVEN_S, abs=0.001)
    for mine, other in zip(found["never"][1], found["later"][1], strict=True):
        assert (mine == other).all()


def test_where_there_is_no_room_for_a_copy_an_unedited_recording_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mien.runtime.live.outputs.recording._copy_packets", full)
    recording = Recording(tmp_path / "talk.mp4", Fraction(30))
    record(recording, UNEVEN_S, is_edited=False)
    recording.close()
    assert "No space left" in (recording.status().message or "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["talk.mp4"]
    assert len(read(recording.path)[0]) == len(UNEVEN_S)


def test_what_is_written_can_be_read_before_it_is_whole(tmp_path: Path) -> None:
    for suffix in (".mp4", ".webm"):
        recording = Recording(tmp_path / f"talk{suffix}", Fraction(10))
        record(recording, tuple(index / 10 for index in range(45)))
        cut_off = shutil.copyfile(recording.part, tmp_path / f"cut{suffix}")
        recording.close()
        assert readable(cut_off) >= 20
        assert len(read(recording.path)[0]) == 45


def test_times_that_do_not_grow_are_kept_in_order(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "talk.mp4")
    record(recording, (0.0, 0.1, 0.1, 0.05, 0.2))
    recording.close()
    times_s = read(recording.path)[0]
    assert len(times_s) == 5
    assert times_s == sorted(set(times_s))


def test_a_camera_that_changes_its_size_is_fitted_into_the_first(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "talk.mp4", Fraction(30))
    record(recording, (0.0, 0.04))
    recording.offer(live(frame_of(quarters((96, 160)), "yuvj422p"), 5000.08, 2))
    assert until(lambda: recording.status().shown == 3)
    recording.close()
    last = read(recording.path)[1][-1]
    assert last.shape == (96, 160, 3)
    assert last[:, :40].max() < 40
    assert last[:, 60:100].mean() > 80


def test_nothing_is_written_where_nothing_was_shown(tmp_path: Path) -> None:
    Recording(tmp_path / "talk.mp4").close()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    there = tmp_path / "there.mp4"
    there.write_bytes(b"precious")
    (tmp_path / "folder.mp4").mkdir()
    for path, reason in (
        (there, "exists; add --overwrite"),
        (tmp_path / "talk.avi", r"must end in \.mp4"),
        (tmp_path / "none" / "talk.mp4", "does not exist"),
        (tmp_path / "folder.mp4", "is a folder"),
    ):
        with pytest.raises(VideoError, match=reason):
            Recording(path)
    assert there.read_bytes() == b"precious"
    recording = Recording(there, overwrite=True)
    record(recording, (0.0,))
    assert there.read_bytes() == b"precious"
    recording.close()
    assert len(read(there)[0]) == 1


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files this process writes cannot become larger."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_full_disk_ends_the_recording_with_a_line_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    recording = Recording(tmp_path / "talk.mp4", Fraction(10))
    with largest_file(200_000):
        for index in range(200):
            noise = rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)
            recording.offer(live(frame_of(noise), 5000 + index / 10, index))
            if not until(lambda: recording.status().shown == index + 1, 0.5):  # noqa: B023
                break
        recording.close()
    message = str(recording.status().message)
    assert "the disk is full" in message
    assert recording.part.name in message
    assert not recording.watched
    assert not recording.path.exists()
    assert readable(recording.part) > 0
    assert recording.part.name == "talk_unfinished.mp4"
    assert [entry.name for entry in tmp_path.iterdir()] == [recording.part.name]
    after = Recording(tmp_path / "talk.mp4")
    after.close()
    assert after.rescued == ()
    assert [entry.name for entry in tmp_path.iterdir()] == [recording.part.name]


def test_a_recording_does_not_replace_what_appeared_meanwhile(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "talk.mp4")
    record(recording, UNEVEN_S)
    recording.path.write_bytes(b"precious")
    recording.close()
    message = str(recording.status().message)
    assert message.endswith(f"the finished file is kept as {tmp_path / 'talk_2.mp4'}")
    assert recording.path.read_bytes() == b"precious"
    assert read(tmp_path / "talk_2.mp4")[0] == pytest.approx(UNEVEN_S, abs=0.001)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["talk.mp4", "talk_2.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="folders in use cannot be moved there")
def test_a_recording_whose_folder_was_moved_stays_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    recording = Recording(folder / "talk.mp4")
    record(recording, UNEVEN_S)
    folder.rename(tmp_path / "moved")
    recording.close()
    assert "removed or replaced meanwhile" in str(recording.status().message)
    left = list((tmp_path / "moved").iterdir())
    assert [entry.name for entry in left] == ["talk_unfinished.mp4"]
    assert len(read(left[0])[0]) == len(UNEVEN_S)


@pytest.mark.skipif(os.name != "posix", reason="a process is killed")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_recording_of_a_killed_process_can_be_seen_after_the_next(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"talk{suffix}"
    script = f"""
        import os, signal
        from fractions import Fraction
        from pathlib import Path
        from mien.runtime.live.outputs.recording import Recording
        from tests.runtime.live.outputs.test_recording import record
        recording = Recording(Path({str(path)!r}), Fraction(10))
        record(recording, tuple(index / 10 for index in range(45)))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=120)
    assert not path.exists()
    recording = Recording(path)
    recording.close()
    rescued = tmp_path / f"talk_unfinished{suffix}"
    assert recording.rescued == (rescued,)
    assert readable(rescued) >= 20
    assert list(tmp_path.iterdir()) == [rescued]
