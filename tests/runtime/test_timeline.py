from __future__ import annotations

import os
from pathlib import Path

import pytest

from mien.engines.errors import UsageError
from mien.runtime.target import Timeline, parse_target, parse_time, read_timeline


def written(folder: Path, text: str) -> Path:
    path = folder / "steps.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_timeline_steps_from_target_to_target(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "time, emotion, intensity\n"
        "# the beginning is left unchanged\n"
        "1.5, happy, 0.8\n"
        "\n"
        "0:03, happy:0.7+surprised:0.3\n"
        "1:00:04.5, none,\n",
    )
    timeline = read_timeline(path, default_strength=1.2)
    assert timeline.target_at(0) is None
    assert timeline.target_at(1.49) is None
    assert timeline.target_at(1.5) == parse_target("happy", 0.8)
    assert timeline.target_at(2.99) == parse_target("happy", 0.8)
    assert timeline.target_at(3) == parse_target("happy:0.7+surprised:0.3", 1.2)
    assert timeline.target_at(3604.5) is None


def test_a_timeline_needs_no_header_and_bears_a_byte_order_mark(tmp_path: Path) -> None:
    timeline = read_timeline(written(tmp_path, "\ufeff0,sad,1\r\n2,angry\r\n"))
    assert isinstance(timeline, Timeline)
    assert timeline.target_at(0) == parse_target("sad")
    assert timeline.target_at(5) == parse_target("angry")


GERMAN = "Time;Emotion;INTENSITY\r\n0:00;happy;0,8\r\n0:05,5;none;\r\n0:09;sad;1\r\n;;\r\n"


@pytest.mark.parametrize(
    "data",
    [
        GERMAN.encode("utf-8-sig"),
        GERMAN.encode("utf-8"),
        GERMAN.encode("utf-16"),
        b"\xfe\xff" + GERMAN.encode("utf-16-be"),
        GERMAN.encode("utf-16-le"),
        GERMAN.encode("utf-16-be"),
        GERMAN.encode("utf-32"),
        GERMAN.replace("Time;Emotion;INTENSITY", "Zeit;Gefühl;Stärke").encode("cp1252"),
        GERMAN.replace("Time;Emotion;INTENSITY", "Zeit;Gefühl;Stärke").encode("utf-16"),
        GERMAN.replace(";", "\t").encode("utf-16"),
        GERMAN.replace(";", "\t").replace("\r\n", "\r").encode(),
        ("sep=;\r\n" + GERMAN).encode(),
        ('"sep=\t"\n' + GERMAN.replace(";", "\t")).encode(),
        ("# für später\n" + GERMAN).encode("cp1252"),
        GERMAN.replace("0,8", "80%").replace("none;", "OFF").encode(),
        GERMAN.replace(";", ",").replace("0,8", '"0,8"').replace("0:05,5", '"0:05,5"').encode(),
        GERMAN.replace(";", ",").encode(),
        GERMAN.replace(";", " ; ").encode(),
    ],
)
def test_a_timeline_is_read_as_spreadsheet_programs_write_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "steps.csv"
    path.write_bytes(data)
    timeline = read_timeline(path)
    assert timeline.target_at(0) == parse_target("happy", 0.8)
    assert timeline.target_at(5.49) == parse_target("happy", 0.8)
    assert timeline.target_at(5.5) is None
    assert timeline.target_at(9) == parse_target("sad")
    assert len(timeline.steps) == 3


def test_the_weights_of_a_mix_may_have_decimal_commas(tmp_path: Path) -> None:
    timeline = read_timeline(written(tmp_path, "1,5;happy:0,7+surprised:0,3;0,5\n"))
    assert timeline.steps[0].time_s == 1.5
    assert timeline.target_at(2) == parse_target("happy:0.7+surprised:0.3", 0.5)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_a_workbook_is_told_from_a_timeline(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "steps.csv").write_bytes(start + bytes(100))
    with pytest.raises(UsageError, match=r"is a workbook; save the sheet as CSV$"):
        read_timeline(tmp_path / "steps.csv")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("0,hapy,1\n", 1, "did you mean 'happy'"),
        ("time,emotion\n0,happy,2\n", 2, "intensity must lie in 0..1.5"),
        ("0,happy,much\n", 1, "'much' is not a number"),
        ("0,happy,nan\n", 1, "intensity"),
        ("# c\n\nsoon,happy\n", 3, "'soon' is not a time"),
        ("0,happy\n0,sad\n", 2, "does not come after"),
        ("0,happy,1e400\n", 1, "intensity must lie in 0..1.5"),
        ("0,happy,-1\n", 1, "intensity must lie in 0..1.5"),
        (f"0,happy,{'9' * 5000}\n", 1, "intensity must lie in 0..1.5"),
        (f"0,happy:{'9' * 400},1\n", 1, "must lie between 0 and 1"),
        (f"0,happy:{'9' * 5000},1\n", 1, "500 are allowed"),
        (f"{'9' * 5000},happy\n", 1, "is not a time"),
        ("nan,happy\n", 1, "'nan' is not a time"),
        ("-1,happy\n", 1, "'-1' is not a time"),
        ("0,ha\0ppy\n", 1, ""),
        ("0,\x1b[31mred\n", 1, "unknown emotion '\\x1b[31mred'"),
        ("0\n", 1, "received 1 values"),
        ("0,happy,1,1,1\n", 1, "received 5 values"),
        ("0;happy;1;1\n", 1, "received 4 values"),
        ("0,happy,50%%\n", 1, "'50%%' is not a number"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        read_timeline(path)
    assert f"{path}, line {line}: " in str(raised.value)
    assert said in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < len(str(path)) + 200


def test_a_cell_too_long_for_csv_is_said_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, "0,happy\n1," + "x" * 200_000)
    with pytest.raises(UsageError, match="line 2: field larger than field limit"):
        read_timeline(path)


def test_an_unreadable_timeline_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_timeline(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="cannot read"):
        read_timeline(tmp_path)
    with pytest.raises(UsageError, match="has no rows"):
        read_timeline(written(tmp_path, "time,emotion,intensity\n"))
    (tmp_path / "steps.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UsageError, match="not a text file"):
        read_timeline(tmp_path / "steps.csv")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no such devices")
def test_what_never_ends_is_no_timeline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="/dev/zero: it is a device"):
        read_timeline(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="it is a device or a pipe"):
        read_timeline(tmp_path / "pipe")


def test_a_timeline_is_of_a_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    with path.open("wb") as file:
        file.truncate(20 << 30)  # takes no room on the disk
    with pytest.raises(UsageError, match="has 21,474,836,480 bytes"):
        read_timeline(path)
    path.write_text("".join(f"{second},sad\n" for second in range(10_001)), encoding="utf-8")
    with pytest.raises(UsageError, match="has 10,001 rows"):
        read_timeline(path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12),
        (" 0.25", 0.25),
        ("1.3333333333333333", 4 / 3),
        ("1:02.5", 62.5),
        ("1:02,5", 62.5),
        ("12,25", 12.25),
        ("90:00", 5400),
        ("01:00:02", 3602),
    ],
)
def test_times_are_seconds_or_a_clock(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:75", "1:60:00", "nan", "inf", "1e3", "1::2"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)
