"""How files get their names: whole or not at all, never over another, and no leftovers."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.engines.errors import EngineError, ModelError, VideoError
from mien.engines.system import partial_file
from mien.engines.system.file_lock import passing_lock
from mien.engines.system.partial_file import (
    PartialFile,
    check_free,
    free_names,
    remove_leftovers,
    rename_by_call,
    rename_by_claim,
    rename_by_link,
    rename_new,
    rescue_recordings,
)

posix = pytest.mark.skipif(os.name != "posix", reason="links, locks and modes of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_by_a_killed_run(path: Path, data: bytes = b"half", *, is_recording: bool = False) -> Path:
    """The partial file of a process that was killed while it wrote to `path`."""
    script = f"""
        import os, signal
        from pathlib import Path
        from mien.engines.system.partial_file import PartialFile
        part = PartialFile(Path({str(path)!r}), is_recording={is_recording})
        part.write({data!r})
        print(part.place, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    left = Path(done.stdout.strip())
    assert left.read_bytes() == data
    return left


def test_a_file_has_its_name_only_once_it_is_published(tmp_path: Path) -> None:
    with PartialFile(tmp_path / "out.mp4") as part:
        part.write(b"one")
        assert names_in(tmp_path) == [part.place.name]
        part.publish(durable=True)
    assert (tmp_path / "out.mp4").read_bytes() == b"one"
    with PartialFile(tmp_path / "other.mp4") as part:
        part.write(b"two")
    assert names_in(tmp_path) == ["out.mp4"]


@posix
def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            with PartialFile(tmp_path / f"{mask}.png") as part:
                part.publish()
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask}.png").stat().st_mode) == 0o666 & ~mask


def test_a_name_that_is_taken_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    for number in (2, 3):
        with PartialFile(tmp_path / "out.mp4") as part:
            part.write(b"an hour's work")
            (tmp_path / "out.mp4").write_bytes(b"precious")
            with pytest.raises(VideoError, match="appeared meanwhile") as caught:
                part.publish()
        kept = tmp_path / f"out_{number}.mp4"
        assert str(caught.value).endswith(f"kept as {kept}")
        assert kept.read_bytes() == b"an hour's work"
        assert (tmp_path / "out.mp4").read_bytes() == b"precious"
        (tmp_path / "out.mp4").unlink()
    assert names_in(tmp_path) == ["out_2.mp4", "out_3.mp4"]


def test_with_leave_the_name_changes_hands_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with (tmp_path / "out.mp4").open("rb") as reader:
        with PartialFile(tmp_path / "out.mp4", overwrite=True) as part:
            part.write(b"new")
            part.publish()
        assert reader.read() == b"old", "who reads the old file keeps it"
    assert (tmp_path / "out.mp4").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("overwrite", [False, True])
def test_no_link_is_followed(tmp_path: Path, overwrite: bool) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    with PartialFile(tmp_path / "out.onnx", overwrite=overwrite, error=ModelError) as part:
        part.write(b"new")
        (tmp_path / "out.onnx").symlink_to(victim)
        if overwrite:
            part.publish()
        else:
            with pytest.raises(ModelError, match="appeared meanwhile"):
                part.publish()
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "out.onnx").is_symlink() != overwrite


@posix
def test_a_link_to_nothing_is_there_as_well(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").symlink_to(tmp_path / "nothing")
    with pytest.raises(VideoError, match="--overwrite"):
        check_free(tmp_path / "out.mp4", overwrite=False)
    check_free(tmp_path / "out.mp4", overwrite=True)
    check_free(tmp_path / "none" / "out.mp4", overwrite=False)
    assert names_in(tmp_path) == ["out.mp4"]


@posix
def test_a_file_that_is_put_in_the_partial_ones_place_gets_no_name(tmp_path: Path) -> None:
    (tmp_path / "planted").write_bytes(b"not mine")
    with PartialFile(tmp_path / "out.mp4") as part:
        part.place.unlink()
        part.place.symlink_to(tmp_path / "planted")
        with pytest.raises(VideoError, match="replaced meanwhile"):
            part.publish()
    assert names_in(tmp_path) == ["planted"]


@posix
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name, told in (("pipe.mp4", "device or a pipe"), ("folder.mp4", "is a folder")):
        with pytest.raises(VideoError, match=told):
            check_free(tmp_path / name, overwrite=True)
        part = PartialFile(tmp_path / name, overwrite=True)
        with part, pytest.raises(VideoError, match="appeared meanwhile"):
            part.publish()
    assert names_in(tmp_path) == ["folder.mp4", "folder_2.mp4", "pipe.mp4", "pipe_2.mp4"]
    assert (tmp_path / "pipe.mp4").is_fifo()


@posix
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_goes_meanwhile_costs_one_line_and_leaves_nothing(
    tmp_path: Path, is_replaced: bool
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    with PartialFile(folder / "out.mp4") as part:
        part.write(b"one")
        folder.rename(tmp_path / "moved")
        if is_replaced:
            folder.mkdir()
        with pytest.raises(VideoError, match="removed or replaced meanwhile"):
            part.publish()
    assert not any((tmp_path / "moved").iterdir())
    folder.mkdir(exist_ok=True)
    with PartialFile(folder / "out.mp4") as part:
        shutil.rmtree(folder)
        with pytest.raises(VideoError, match="removed or replaced meanwhile"):
            part.publish()
    assert names_in(tmp_path) == ["moved"]


@linux
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with PartialFile(tmp_path / "out.mp4") as part, pytest.raises(VideoError, match="is full"):
            part.write(bytes(1001))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not any(tmp_path.iterdir())


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(VideoError, match="Permission denied"):
            PartialFile(tmp_path / "out.mp4")
    finally:
        tmp_path.chmod(0o700)


@posix
def test_descriptors_are_given_back_however_it_ends(tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for index in range(3):
        with PartialFile(tmp_path / f"{index}.mp4") as part:
            part.publish()
        with PartialFile(tmp_path / "dropped.mp4"):
            pass
        with PartialFile(tmp_path / "taken.mp4") as part:
            (tmp_path / "taken.mp4").touch()
            with pytest.raises(VideoError):
                part.publish()
        (tmp_path / "taken.mp4").unlink()
        with pytest.raises(VideoError):
            PartialFile(tmp_path / "none" / "out.mp4")
    assert len(list(Path("/dev/fd").iterdir())) == before


WAYS = [
    rename_new,
    pytest.param(rename_by_call, marks=linux),
    pytest.param(rename_by_link, marks=posix),
    pytest.param(rename_by_claim, marks=posix),
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_rename_refuses_a_name_that_is_taken(
    way: Callable[..., None], tmp_path: Path
) -> None:
    part, name = tmp_path / "part", tmp_path / "name"
    part.write_bytes(b"new")
    name.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        way(str(part), str(name), None)
    assert (part.read_bytes(), name.read_bytes()) == (b"new", b"old")
    name.unlink()
    way(str(part), str(name), None)
    assert names_in(tmp_path) == ["name"]
    assert name.read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        way(str(part), str(tmp_path / "other"), None)
    assert names_in(tmp_path) == ["name"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_of_many_that_rename_to_one_name_one_gets_it(
    way: Callable[..., None], tmp_path: Path
) -> None:
    script = f"""
        import sys, time
        from mien.engines.system.partial_file import {way.__name__}
        won = 0
        for turn in range(50):
            while time.time() < float(sys.argv[2]) + turn / 100:
                pass
            try:
                {way.__name__}(f"{{turn}}.part{{sys.argv[1]}}", f"{{turn}}", None)
                won += 1
            except FileExistsError:
                pass
        print(won)
    """
    for turn in range(50):
        for index in range(3):
            (tmp_path / f"{turn}.part{index}").write_text(str(index))
    begins_s = str(time.time() + 2)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(index), begins_s],
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            text=True,
        )
        for index in range(3)
    ]
    won = [int(run.communicate(timeout=60)[0]) for run in runs]
    assert sum(won) == 50
    assert len(list(tmp_path.glob("*.part?"))) == 100
    assert sorted((tmp_path / str(turn)).stat().st_size for turn in range(50)) == [1] * 50


@posix
def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left_by_a_killed_run(tmp_path / "out.mp4")
    left_by_a_killed_run(tmp_path / ("字" * 80 + ".mp4"))
    left_by_a_killed_run(tmp_path / "no suffix")
    left_by_a_killed_run(tmp_path / "ends in a dot.")
    remove_leftovers(tmp_path)
    assert not any(tmp_path.iterdir())


@posix
def test_what_another_run_writes_is_left_unchanged(tmp_path: Path) -> None:
    with PartialFile(tmp_path / "out.mp4") as part:
        part.write(b"half")
        script = f"""
            from pathlib import Path
            from mien.engines.system.partial_file import remove_leftovers, rescue_recordings
            remove_leftovers(Path({str(tmp_path)!r}))
            rescue_recordings(Path({str(tmp_path)!r}))
        """
        for _ in range(2):
            subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
        remove_leftovers(tmp_path)  # and of another thread of the same process
        part.publish()
    assert (tmp_path / "out.mp4").read_bytes() == b"half"


@posix
def test_a_file_that_only_looks_like_a_leftover_stays(tmp_path: Path) -> None:
    name = left_by_a_killed_run(tmp_path / "out.mp4").name
    like = [
        name[1:],
        f"{name}.txt",
        name.replace(".part", ".partial"),
        name.replace(".mien-", ".mine-"),
        f".out.partial-{name[-12:]}",
        ".out.mp4",
        ".mien-0123.part",
    ]
    for other in like:
        (tmp_path / other).write_bytes(b"precious")
    folder = tmp_path / name.replace("out", "folder")
    folder.mkdir()
    link = tmp_path / name.replace("out", "link")
    link.symlink_to(tmp_path / like[0])
    pipe = tmp_path / name.replace("out", "pipe")
    os.mkfifo(pipe)
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == sorted([*like, folder.name, link.name, pipe.name])
    remove_leftovers(tmp_path / "none")
    remove_leftovers(tmp_path / like[0])


@posix
def test_a_leftover_of_another_machine_waits_a_day(tmp_path: Path) -> None:
    left = left_by_a_killed_run(tmp_path / "out.mp4")
    host = left.name.split("-")[1]
    foreign = left.rename(left.with_name(left.name.replace(host, f"{int(host, 16) ^ 1:04x}")))
    remove_leftovers(tmp_path)
    assert foreign.exists()
    os.utime(foreign, (1, 1))
    remove_leftovers(tmp_path)
    assert not foreign.exists()


@posix
def test_a_recording_that_was_cut_off_is_given_a_name_to_be_seen(tmp_path: Path) -> None:
    for _ in range(2):
        left_by_a_killed_run(tmp_path / "talk.mp4", is_recording=True)
    left_by_a_killed_run(tmp_path / "empty.mkv", b"", is_recording=True)
    left_by_a_killed_run(tmp_path / "out.mp4")
    remove_leftovers(tmp_path)
    assert len(names_in(tmp_path)) == 3
    rescued = rescue_recordings(tmp_path)
    names = ["talk_unfinished.mp4", "talk_unfinished_2.mp4"]
    assert sorted(path.name for path in rescued) == names
    assert names_in(tmp_path) == names
    assert rescue_recordings(tmp_path) == []


def test_what_is_kept_gets_a_free_name(tmp_path: Path) -> None:
    (tmp_path / "talk_unfinished.mp4").touch()
    with PartialFile(tmp_path / "talk.mp4") as part:
        part.write(b"half")
        assert part.keep(partial_file.UNFINISHED) == tmp_path / "talk_unfinished_2.mp4"
    assert (tmp_path / "talk_unfinished_2.mp4").read_bytes() == b"half"
    long = Path("字" * 83 + ".mp4")
    assert all(len(name.encode()) <= 255 for name in free_names(long, "_unfinished"))
    assert next(free_names(long)).endswith("_2.mp4")


def test_a_lock_of_an_instant_leaves_no_file_and_lets_one_in_at_a_time(tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from mien.engines.system.file_lock import passing_lock
        count = Path({str(tmp_path / "count")!r})
        for _ in range(40):
            with passing_lock(Path({str(tmp_path / ".lock")!r})):
                count.write_text(str(int(count.read_text()) + 1))
    """
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", textwrap.dedent(script)]
    runs = [subprocess.Popen(command) for _ in range(3)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "120"
    assert names_in(tmp_path) == ["count"]
    second = passing_lock(tmp_path / ".lock", patience_s=0.1)
    with passing_lock(tmp_path / ".lock"), pytest.raises(EngineError, match="locked"), second:
        pass
    assert names_in(tmp_path) == ["count"]
