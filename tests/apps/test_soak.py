"""The soak run in short, and the clip it is made on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import typer

from mien.apps import soak
from mien.apps.edit.inputs import SAMPLE
from mien.apps.soak import Minute, Watch, verdict
from mien.runtime.live import soak_clip
from mien.runtime.live.soak_clip import write_soak_clip
from tests.runtime.live.stand_ins import live_frame


def test_the_clip_has_one_face_none_for_a_while_and_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_clip, "RATE", 4)
    path = tmp_path / "soak.mp4"
    write_soak_clip(SAMPLE, path, (96, 54))
    with av.open(str(path)) as container:
        luma = [frame.to_ndarray(format="gray8", threads=1) for frame in container.decode(video=0)]
    assert len(luma) == 3 * 20 * 4
    spread = [picture[10:44].std() for picture in luma]
    away = range(80 + 7 * 4, 80 + 10 * 4)
    assert all((index in away) == (spread[index] < 3) for index in [10, 70, 90, *away, 150, 200])
    left, right = luma[200][:, :48], luma[200][:, 48:][:, ::-1]
    assert abs(left.astype(int) - right).mean() < 25  # one face beside its mirrored self


def test_frames_and_gaps_are_counted_from_take_to_take() -> None:
    watch = Watch(watched=True)
    for index in (0, 1, 4, 5):
        watch.offer(live_frame(index))
    delays_ms, dropped = watch.take()
    assert (len(delays_ms), dropped) == (4, 2)
    watch.offer(live_frame(8))
    assert watch.take()[1] == 2
    assert watch.take() == ([], 0)


def test_the_verdict_is_that_of_all_minutes() -> None:
    minutes = [
        Minute(1800, 0, 12.0, 20.0, 200.0, None),
        Minute(1780, 20, 14.0, 90.0, 230.0, 30.0),
        Minute(1800, 0, 13.0, 21.0, 226.0, 30.0),
    ]
    found = verdict(minutes, {"a message"})
    assert (found["median_ms"], found["p95_ms"], found["growth_mb"]) == (13.0, 90.0, 26.0)
    assert found["dropped"] == pytest.approx(20 / 5400)
    assert found["told"] == ["a message"]
    assert "dropped 1.11%" in minutes[1].line(2)
    assert "browser 30 ms" in minutes[1].line(2)


def test_a_short_run_measures_and_holds_it_against_the_limits(
    clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "WARM_UP_S", 0.5)
    monkeypatch.setattr(soak, "LIMITS", {"median_ms": math.inf, "dropped": -1.0})
    with pytest.raises(typer.Exit) as ended:
        soak.main(minutes=0.02, panel=False, clip=clip(size_wh=(96, 64)))
    out, err = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert out.startswith("minute 1: ")
    assert "missed: dropped" in err
    assert "median_ms" not in err
