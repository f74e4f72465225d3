from __future__ import annotations

from pathlib import Path

import pytest

from mien.apps.edit.display import PlainDisplay, TerminalDisplay, frames_text, summary, time_left
from mien.apps.edit.plan import Result
from mien.runtime.video import Progress

STAGES = (("decode", 1.23), ("encode", 4.0))


def test_a_summary_is_one_line_with_the_time_of_every_stage() -> None:
    result = Result(
        Path("in.mp4"), Path("a\nb.mp4"), 120, 2, 2.0, STAGES, notes=("one thing", "another")
    )
    assert summary(result) == (
        r"a\nb.mp4: 120 frames, 2 faces, 2.0 s (60 fps); ms a frame: decode 1.2, encode 4.0"
        "; note: one thing; note: another"
    )
    still = Result(Path("in.png"), Path("out.png"), 1, 1, 0.1, STAGES, still=True)
    assert summary(still) == "out.png: 1 face, 0.1 s; ms: decode 1.2, encode 4.0"


def test_progress_tells_only_what_is_known() -> None:
    known = Progress(frames_done=30, frames_total=90, fps=15.0, eta_s=64.6)
    assert (frames_text(known), time_left(known)) == ("30/90 frames", "1:05 left")
    unknown = Progress(frames_done=30, frames_total=None, fps=15.0, eta_s=None)
    assert (frames_text(unknown), time_left(unknown)) == ("30 frames", "")


@pytest.mark.parametrize("display", [PlainDisplay(), TerminalDisplay()])
def test_every_display_takes_progress(
    display: PlainDisplay, capsys: pytest.CaptureFixture[str]
) -> None:
    with display.watch(Path("[red]in.mp4")) as show:
        show(Progress(1, None, 1.0, None), 0)
        show(Progress(2, 4, 1.0, 2.0), 1)
    assert capsys.readouterr().out == ""


def test_what_is_lost_is_told_apart_from_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(Path("in.mp4"), Path("out.mp4"), 3, 1, 0.1, STAGES, lost="2 of 5 s")
    PlainDisplay().finish(result)
    said = capsys.readouterr()
    assert said.err == "mien: in.mp4 is damaged: 2 of 5 s; edited what there is\n"
    assert said.out.startswith("out.mp4: 3 frames")


def test_damage_is_not_told_twice_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lost = "the file is damaged: about 8 of 90 rows are missing"
    PlainDisplay().finish(Result(Path("a.jpg"), Path("o.jpg"), 1, 1, 0.1, STAGES, lost=lost))
    told = "mien: a.jpg is damaged: about 8 of 90 rows are missing; edited what there is\n"
    assert capsys.readouterr().err == told


def test_the_share_of_a_face_that_takes_long_is_shown() -> None:
    slow = Progress(frames_done=2, frames_total=9, fps=0.1, eta_s=70.0, share_done=0.4)
    assert frames_text(slow) == "2/9 frames + 40%"
