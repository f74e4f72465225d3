from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from mien.engines.errors import EngineError, VideoError
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.outputs.log import FrameLog
from mien.runtime.live.outputs.recording import NOTICE, Recording
from mien.runtime.live.values import Applied
from mien.runtime.target import Target
from tests.runtime.live.stand_ins import (
    CountedSource,
    FakeFilter,
    Recorder,
    live_frame,
    wait_until,
    yuv_frame,
)

HAPPY = Target((0, 0.75, 0, 0.25, 0, 0, 0, 0), 0.5)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_loop(
    outputs: list[Recorder | FrameLog | Recording], steps: list[dict[str, object]]
) -> None:
    """Frames with each of the settings in turn; an `error` is what the filter raises."""
    source, filter_ = CountedSource(), FakeFilter()
    recorder = Recorder()
    controls = Controls()
    source.push(yuv_frame(100))
    with LiveLoop(source, lambda _: filter_, [recorder, *outputs], controls) as loop:
        for step in steps:
            error = step.get("error")
            filter_.error = error if isinstance(error, Exception) else None
            controls.update(**{name: value for name, value in step.items() if name != "error"})
            before = len(recorder.frames)
            wait_until(lambda: source.push(yuv_frame(100)) or len(recorder.frames) > before + 1)  # noqa: B023
        loop.stop()


def test_every_frame_has_a_line_with_what_was_applied_to_it(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / "log.jsonl")
    steps: list[dict[str, object]] = [
        {"target": None},
        {"target": HAPPY, "own": 0.5, "mark": True},
        {"paused": True},
        {"paused": False, "error": EngineError("broken")},
    ]
    run_loop([log], steps)
    lines = lines_of(log.path)
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert lines[0]["target"] is None
    assert (lines[0]["edited"], lines[0]["method"], lines[0]["options"]) == ([], "warp", {})
    edited = next(line for line in lines if line["edited"])
    assert edited["target"] == {"happy": 0.75, "surprised": 0.25}
    assert (edited["intensity"], edited["own"], edited["mark"]) == (0.5, 0.5, True)
    assert (edited["paused"], edited["bypassed"]) == (False, False)
    assert edited["faces"] == [1]
    weights = {"happy": 0.75, "surprised": 0.25}
    assert edited["edited"] == [{"face": 1, "weights": weights, "intensity": 0.25, "own": 0.5}]
    paused = next(line for line in lines if line["paused"])
    assert (paused["edited"], paused["mark"]) == ([], False)
    assert (lines[-1]["bypassed"], lines[-1]["edited"]) == (True, [])


def test_times_count_from_the_first_frame_and_by_the_systems_clock(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / "log.jsonl")
    now_s = time.monotonic()
    for index in range(3):
        log.offer(live_frame(index, now_s + 0.04 * index))
    log.close()
    lines = lines_of(log.path)
    assert [line["time_s"] for line in lines] == [0, 0.04, 0.08]
    unix_s = [float(str(line["unix_s"])) for line in lines]
    assert unix_s[1] - unix_s[0] == pytest.approx(0.04, abs=1e-3)
    assert unix_s[0] == pytest.approx(time.time(), abs=60)
    assert log.status().shown == 3


def test_a_log_can_be_read_while_it_grows_and_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / "log.jsonl")
    log.offer(live_frame())
    wait_until(lambda: lines_of(log.part))
    assert not log.path.exists()
    log.close()
    log.close()
    assert len(lines_of(log.path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_frames_that_are_left_out_are_counted(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / "log.jsonl")
    for index in (0, 1, 4, 5, 9):
        log.offer(live_frame(index, 0.1 * index))
    log.close()
    assert [line["dropped"] for line in lines_of(log.path)] == [0, 0, 2, 0, 3]


def test_a_log_that_was_cut_off_can_be_seen_after_the_next(tmp_path: Path) -> None:
    text = (
        "import os, sys, time; from pathlib import Path\n"
        "from mien.runtime.live.outputs.log import FrameLog\n"
        "from tests.runtime.live.stand_ins import live_frame\n"
        "log = FrameLog(Path(sys.argv[1])); log.offer(live_frame())\n"
        "while not log.status().shown: time.sleep(0.01)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "log.jsonl"
    assert subprocess.run([sys.executable, "-c", text, str(path)], check=False).returncode != 0
    assert not path.exists()
    log = FrameLog(path)
    assert log.rescued == (tmp_path / "log_unfinished.jsonl",)
    assert len(lines_of(log.rescued[0])) == 1
    log.close()
    assert not path.exists()  # no frame went out


def test_a_log_replaces_nothing_without_leave(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("an experiment")
    for wrong in (path, tmp_path, tmp_path / "missing" / "log.jsonl"):
        with pytest.raises(VideoError) as caught:
            FrameLog(wrong)
        assert "\n" not in str(caught.value)
    assert path.read_text() == "an experiment"
    FrameLog(path, overwrite=True).close()
    assert path.read_text() == "an experiment"  # no frame went out
    log = FrameLog(path, overwrite=True)
    log.offer(live_frame())
    log.close()
    assert len(lines_of(path)) == 1


def test_a_full_disk_stops_the_log_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    log = FrameLog(tmp_path / "log.jsonl")
    log.offer(live_frame())
    wait_until(lambda: log.status().shown)
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(log._partial.file, "write", full.write)
        log.offer(live_frame())
        wait_until(lambda: log.has_stopped)
    message = log.status().message or ""
    assert "has stopped" in message
    assert "the disk is full" in message
    assert "\n" not in message
    log.close()
    assert not log.path.exists()
    assert len(lines_of(tmp_path / "log_unfinished.jsonl")) == 1


def test_a_log_does_not_replace_what_appeared_meanwhile(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / "log.jsonl")
    log.offer(live_frame())
    log.path.write_text("an experiment")
    log.close()
    assert log.path.read_text() == "an experiment"
    assert "log_2.jsonl" in (log.status().message or "")
    assert len(lines_of(tmp_path / "log_2.jsonl")) == 1


def test_a_dry_recording_has_what_the_camera_gave_at_the_times_of_the_other(tmp_path: Path) -> None:
    wet, dry = Recording(tmp_path / "wet.mkv"), Recording(tmp_path / "dry.mkv", is_dry=True)
    log = FrameLog(tmp_path / "log.jsonl")
    began_s = time.monotonic()
    for index in range(6):
        frame = live_frame(index, began_s + 0.1 * index)
        changed = type(frame)(
            yuv_frame(200), yuv_frame(60), index, frame.captured_s, (), (), index, False, True,
            Applied(target=HAPPY),
        )  # fmt: skip
        for output in (wet, dry, log):
            output.offer(changed)
        wait_until(lambda: wet.status().shown == dry.status().shown == index + 1)  # noqa: B023
    for output in (wet, dry, log):
        output.close()
    seen = {}
    for recording in (wet, dry):
        with av.open(str(recording.path)) as container:
            frames = list(container.decode(video=0))
            times = [float(frame.pts * frame.time_base) for frame in frames]
            seen[recording] = (times, NOTICE in container.metadata.values())
            level = frames[3].to_ndarray(format="gray", threads=1).mean()
            assert abs(level - (200 if recording is wet else 60)) < 30
    assert seen[wet][0] == seen[dry][0]
    assert (seen[wet][1], seen[dry][1]) == (True, False)
    logged = [line["time_s"] for line in lines_of(log.path)]
    assert seen[wet][0] == pytest.approx(logged, abs=2e-3)
