from __future__ import annotations

import json
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


def test_a_log_can_be_read_while_it_grows(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / "log.jsonl")
    log.offer(live_frame())
    wait_until(lambda: lines_of(log.path))
    log.close()
    log.close()


def test_a_log_replaces_nothing_without_leave(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("an experiment")
    for wrong in (path, tmp_path, tmp_path / "missing" / "log.jsonl"):
        with pytest.raises(VideoError) as caught:
            FrameLog(wrong)
        assert "\n" not in str(caught.value)
    assert path.read_text() == "an experiment"
    FrameLog(path, overwrite=True).close()
    assert not path.read_text()


def test_a_full_disk_stops_the_log_and_says_so(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    path = tmp_path / "log.jsonl"
    path.symlink_to("/dev/full")
    log = FrameLog(path, overwrite=True)
    log.offer(live_frame())
    wait_until(lambda: log.has_stopped)
    assert "has stopped" in (log.status().message or "")
    log.close()


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
