"""What bad input, bad output and trouble on the way get."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mien.engines.errors import MienError, UsageError, VideoError
from mien.runtime.frame import Frame
from mien.runtime.video import Progress, VideoOptions, edit_video, identity, probe, read_frames
from mien.runtime.video.writing import sink
from tests.runtime.video.clips import damage, truncate

Clip = Callable[..., Path]


def files_in(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def assert_refused(source: Path, destination: Path, words: str, **settings: object) -> None:
    """Fail unless the edit ends in one line with these words and leaves nothing behind."""
    before = files_in(destination.parent) if destination.parent.is_dir() else []
    with pytest.raises(VideoError, match=words) as caught:
        edit_video(source, destination, identity, VideoOptions(**settings))
    assert "\n" not in str(caught.value)
    if destination.parent.is_dir():
        assert files_in(destination.parent) == before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.mp4", tmp_path / "out.mp4", "none.mp4 does not exist")


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    assert_refused(tmp_path / "folder.mp4", tmp_path / "out.mp4", "is a folder")


def test_text_under_the_name_of_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("Dear diary, today I was a video.\n" * 50)
    assert_refused(tmp_path / "in.mp4", tmp_path / "out.mp4", "cannot be read as a video")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").touch()
    assert_refused(tmp_path / "in.mp4", tmp_path / "out.mp4", "is empty")


def test_sound_alone_is_refused(clip: Clip, tmp_path: Path) -> None:
    import av

    source = clip("in.mp4", audio_tracks=1)
    with av.open(str(source)) as video, av.open(str(tmp_path / "in.m4a"), "w") as sound:
        copy = sound.add_stream_from_template(video.streams.audio[0])
        for packet in video.demux(audio=0):
            if packet.size:
                packet.stream = copy
                sound.mux(packet)
    assert_refused(tmp_path / "in.m4a", tmp_path / "out.mp4", "has no video")
    assert not probe(tmp_path / "in.m4a").has_video


def test_a_video_without_frames_is_refused(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mkv", frames=0, audio_tracks=0)
    assert_refused(source, tmp_path / "out.mkv", "no frame that can be decoded|cannot be read")


def test_an_output_that_exists_asks_for_overwrite(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=3)
    (tmp_path / "out.mp4").write_bytes(b"precious")
    assert_refused(source, tmp_path / "out.mp4", "--overwrite")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    edit_video(source, tmp_path / "out.mp4", identity, VideoOptions(overwrite=True))
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 3


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_input_is_never_the_output(
    link: Callable[..., None] | None, clip: Clip, tmp_path: Path
) -> None:
    source = clip("in.mp4", frames=3)
    destination = source
    if link is not None:
        destination = tmp_path / "other.mp4"
        link(source, destination)
    assert_refused(source, destination, "is the input itself", overwrite=True)


def test_an_unknown_kind_of_output_is_refused(clip: Clip, tmp_path: Path) -> None:
    assert_refused(clip("in.mp4", frames=3), tmp_path / "out.nonsense", "kind of video file")


@pytest.mark.parametrize("name", ["out.m3u8", "out.mpd", "out.png"])
def test_an_output_of_several_files_is_refused(name: str, clip: Clip, tmp_path: Path) -> None:
    assert_refused(clip("in.mp4", frames=3), tmp_path / name, "one whole file")


def test_a_name_of_many_bytes_has_room_for_the_unfinished_file(clip: Clip, tmp_path: Path) -> None:
    name = "字" * 83 + ".mp4"  # 253 of the 255 bytes a file system takes
    edit_video(clip("in.mp4", frames=3), tmp_path / name, identity)
    assert files_in(tmp_path) == ["in.mp4", name]


def test_an_output_folder_that_is_missing_is_named(clip: Clip, tmp_path: Path) -> None:
    assert_refused(clip("in.mp4", frames=3), tmp_path / "no" / "out.mp4", "does not exist")


def test_an_unknown_codec_names_the_known_ones(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=3)
    assert_refused(source, tmp_path / "out.mp4", "known are h264, hevc", codec="betamax")


def test_a_codec_that_would_lose_bit_depth_is_refused(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=3, pixel_format="yuv420p10le")
    assert_refused(source, tmp_path / "out.mp4", "cannot keep the yuv420p10le", codec="mpeg4")


def test_what_the_output_cannot_hold_is_told(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=3, subtitle=True)
    report = edit_video(source, tmp_path / "out.avi", identity)
    assert any("subtitle stream 1 (mov_text) left out" in note for note in report.notes)
    report = edit_video(source, tmp_path / "out.mkv", identity)
    assert any("rounded to 1 ms" in note for note in report.notes)


@pytest.mark.parametrize("quality", [-1, 101])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(UsageError):
        VideoOptions(quality=quality)


@pytest.mark.parametrize("name", ["in.mkv", "in.ts"])
def test_a_truncated_file_is_edited_as_far_as_it_goes(
    name: str, clip: Clip, tmp_path: Path
) -> None:
    source = truncate(clip(name, frames=100, audio_tracks=1), 0.5)
    report = edit_video(source, tmp_path / f"out{source.suffix}", identity)
    assert 30 < report.frames < 70
    if name == "in.mkv":  # a transport stream does not say how long it should be
        assert report.lost is not None
        assert "early" in report.lost


def test_a_truncated_mp4_with_its_index_in_front_says_what_is_lost(
    clip: Clip, tmp_path: Path
) -> None:
    import av

    whole = clip("whole.mp4", frames=100)
    source = tmp_path / "in.mp4"
    options = {"movflags": "faststart"}
    with av.open(str(whole)) as old, av.open(str(source), "w", container_options=options) as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    report = edit_video(truncate(source, 0.5), tmp_path / "out.mp4", identity)
    assert 30 < report.frames < 70
    assert report.lost is not None


def test_a_truncated_mp4_without_its_index_is_refused(clip: Clip, tmp_path: Path) -> None:
    source = truncate(clip("in.mp4", frames=50), 0.5)
    assert_refused(source, tmp_path / "out.mp4", "cannot be read as a video")


def test_damage_in_the_middle_is_told(clip: Clip, tmp_path: Path) -> None:
    source = damage(clip("in.mp4", frames=60, options={"crf": "5", "preset": "ultrafast"}))
    report = edit_video(source, tmp_path / "out.mp4", identity)
    assert 40 < report.frames <= 60
    assert report.lost is not None


class StageError(Exception):
    """Raised by the processes below."""


def test_an_error_in_the_process_stops_all_and_reaches_the_caller(
    clip: Clip, tmp_path: Path
) -> None:
    source = clip("in.mp4", frames=200, audio_tracks=1)
    seen = []

    def fail(frame: Frame) -> Frame:
        seen.append(frame.pts)
        if len(seen) == 20:
            raise StageError("twenty")
        return frame

    before = threading.active_count()
    with pytest.raises(StageError, match="twenty"):
        edit_video(source, tmp_path / "out.mp4", fail)
    assert len(seen) == 20
    assert threading.active_count() == before
    assert files_in(tmp_path) == ["in.mp4"]


def test_cancelling_leaves_nothing(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=100)
    cancel = threading.Event()

    def process(frame: Frame) -> Frame:
        cancel.set()
        return frame

    with pytest.raises(VideoError, match="cancelled"):
        edit_video(source, tmp_path / "out.mp4", process, cancel=cancel)
    assert files_in(tmp_path) == ["in.mp4"]


def test_cancelling_counts_until_the_file_has_its_name(clip: Clip, tmp_path: Path) -> None:
    cancel, seen = threading.Event(), []

    def process(frame: Frame) -> Frame:
        seen.append(frame)
        if len(seen) == 3:  # the last one: it is written before anybody looks
            cancel.set()
        return frame

    with pytest.raises(VideoError, match="cancelled"):
        edit_video(clip("in.mp4", frames=3), tmp_path / "out.mp4", process, cancel=cancel)
    assert files_in(tmp_path) == ["in.mp4"]


def test_an_interrupt_leaves_nothing(clip: Clip, tmp_path: Path) -> None:
    is_told = threading.Event()

    def process(frame: Frame) -> Frame:
        assert is_told.wait(60)
        return frame

    def interrupt(_: Progress) -> None:
        is_told.set()
        raise KeyboardInterrupt

    source = clip("in.mp4", frames=100)
    with pytest.raises(KeyboardInterrupt):
        edit_video(source, tmp_path / "out.mp4", process, progress=interrupt)
    assert files_in(tmp_path) == ["in.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent")
def test_an_interrupt_as_the_file_is_made_leaves_nothing(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sink.Interleaver

    def interrupted(*arguments: Any) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)  # until the main thread has seen it, also on a busy machine
        return made(*arguments)

    monkeypatch.setattr(sink, "Interleaver", interrupted)
    source = clip("in.mp4", frames=100)
    with pytest.raises(KeyboardInterrupt):
        edit_video(source, tmp_path / "out.mp4", identity)
    assert files_in(tmp_path) == ["in.mp4"]


def test_frames_reach_the_process_in_order(clip: Clip, tmp_path: Path) -> None:
    options = {"preset": "medium", "bf": "3"}
    source = clip("in.mp4", frames=60, options=options)
    times = []

    def note(frame: Frame) -> Frame:
        times.append(frame.time_s)
        return frame

    edit_video(source, tmp_path / "out.mp4", note)
    assert times == sorted(times)
    assert len(times) == 60


def test_an_edit_that_changes_the_size_is_refused(clip: Clip, tmp_path: Path) -> None:
    def shrink(frame: Frame) -> Frame:
        small = tuple(replace(p, samples=p.samples[:-2].copy()) for p in frame.planes)
        return replace(frame, planes=small)

    with pytest.raises(MienError, match="must keep size"):
        edit_video(clip("in.mp4", frames=3), tmp_path / "out.mp4", shrink)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_a_full_disk_is_told_and_leaves_nothing(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=100, audio_tracks=1)
    script = f"""
        import resource, signal
        from pathlib import Path
        from mien.engines.errors import VideoError
        from mien.runtime.video import VideoOptions, edit_video, identity
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        try:
            edit_video(Path({str(source)!r}), Path({str(tmp_path / "out.mp4")!r}), identity,
                       VideoOptions(quality=100))
        except VideoError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "disk is full" in run.stdout
    assert files_in(tmp_path) == ["in.mp4"]


def test_an_output_that_appears_during_the_edit_is_not_replaced(clip: Clip, tmp_path: Path) -> None:
    def appear(_: Progress) -> None:
        (tmp_path / "out.mp4").write_bytes(b"precious")

    def slowly(frame: Frame) -> Frame:
        time.sleep(0.02)
        return frame

    source = clip("in.mp4", frames=30)
    with pytest.raises(VideoError, match="appeared meanwhile") as caught:
        edit_video(source, tmp_path / "out.mp4", slowly, progress=appear)
    assert str(caught.value).endswith(f"kept as {tmp_path / 'out_2.mp4'}")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert len(list(read_frames(tmp_path / "out_2.mp4"))) == 30
    edit_video(source, tmp_path / "out.mp4", slowly, VideoOptions(overwrite=True))
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 30
    assert files_in(tmp_path) == ["in.mp4", "out.mp4", "out_2.mp4"]


def test_a_folder_that_is_replaced_during_the_edit_costs_one_line(
    clip: Clip, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()

    def move(frame: Frame) -> Frame:
        if not (tmp_path / "moved").exists():
            folder.rename(tmp_path / "moved")
            folder.mkdir()
        return frame

    source = clip("in.mp4", frames=5)
    with pytest.raises(VideoError, match="its folder was removed or replaced meanwhile"):
        edit_video(source, folder / "out.mp4", move)
    assert not [*folder.iterdir(), *(tmp_path / "moved").iterdir()]


def test_of_two_edits_to_one_name_each_is_kept(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=20)
    script = f"""
        import sys, time
        from pathlib import Path
        from mien.engines.errors import VideoError
        from mien.runtime.video import edit_video

        def slowly(frame):
            time.sleep(0.1)
            return frame

        try:
            edit_video(Path({str(source)!r}), Path({str(tmp_path / "out.mp4")!r}), slowly)
        except VideoError as error:
            sys.exit(str(error))
    """
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = sorted(run.communicate(timeout=120)[1] for run in runs)
    assert sorted(run.returncode for run in runs) == [0, 1]
    assert told[0] == ""
    assert told[1].endswith(f"kept as {tmp_path / 'out_2.mp4'}\n")
    for name in ("out.mp4", "out_2.mp4"):
        assert len(list(read_frames(tmp_path / name))) == 20
    assert files_in(tmp_path) == ["in.mp4", "out.mp4", "out_2.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="a process is killed")
def test_the_next_edit_removes_what_a_killed_one_left(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=20)
    script = f"""
        import os, signal
        from pathlib import Path
        from mien.runtime.video import edit_video
        seen = []

        def process(frame):
            seen.append(frame)
            if len(seen) == 10:
                os.kill(os.getpid(), signal.SIGKILL)
            return frame

        edit_video(Path({str(source)!r}), Path({str(tmp_path / "killed.mp4")!r}), process)
    """
    for _ in range(2):  # the second killed one removes what the first one left
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=60)
        assert len(files_in(tmp_path)) == 2
    edit_video(source, tmp_path / "out.mp4", identity)
    assert files_in(tmp_path) == ["in.mp4", "out.mp4"]


def test_a_clip_in_which_nothing_was_edited_can_be_a_copy(clip: Clip, tmp_path: Path) -> None:
    source = clip("in.mp4", frames=5)
    report = edit_video(source, tmp_path / "out.mp4", identity, VideoOptions(copy_unedited=True))
    assert report.is_copy
    assert (tmp_path / "out.mp4").read_bytes() == source.read_bytes()

    def brighten(frame: Frame) -> Frame:
        luma = replace(frame.planes[0], samples=frame.planes[0].samples | 1)
        return replace(frame, planes=(luma, *frame.planes[1:]))

    options = VideoOptions(copy_unedited=True, overwrite=True)
    report = edit_video(source, tmp_path / "out.mp4", brighten, options)
    assert not report.is_copy
    assert (tmp_path / "out.mp4").read_bytes() != source.read_bytes()
