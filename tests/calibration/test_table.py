import json

from mien.calibration.floors import ACTION_FLOORS
from mien.calibration.machine import machine_line
from mien.calibration.table import markdown, tables


def expression_report(corners_up: float | None, calm: float, outside: int) -> dict:
    edit = {"action": {"corners_up": corners_up}, "calm": calm, "outside": outside, "compared": 9}
    return {"clips": {"walk": {"frames": 9, "edits": {"happy": edit}}}, "failures": []}


def table_of(tmp_path, **reports) -> str:
    for name, report in reports.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    return tables(tmp_path)


def line_with(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_met_floor_stands_beside_its_number(tmp_path):
    text = table_of(tmp_path, expression=expression_report(0.0512, 1.1, 0))
    assert line_with(text, "happy: mouth corners up")[1:] == ["+0.051", "+0.040"]
    assert line_with(text, "happy: calm")[1:] == ["1.10", "at most 1.25"]
    assert line_with(text, "largest change of a sample")[1:] == ["0", "0"]


def test_what_misses_its_floor_says_so(tmp_path):
    text = table_of(tmp_path, expression=expression_report(0.03, 1.4, 2))
    assert line_with(text, "happy: mouth corners up")[1] == "+0.030 (missed)"
    assert line_with(text, "happy: calm")[1] == "1.40 (missed)"
    assert line_with(text, "largest change of a sample")[1] == "2 (missed)"
    assert line_with(text, "sad: mouth corners up")[1] == "none (missed)"


def test_a_floor_below_zero_asks_for_a_change_downwards():
    sad = next(floor for floor in ACTION_FLOORS if floor.emotion == "sad")
    assert sad.holds(-0.03)
    assert not sad.holds(-0.01)
    assert not sad.holds(0.5)
    assert not sad.holds(float("nan"))


def test_the_other_reports_have_their_tables(tmp_path):
    persuasion = {
        "accuracy": {"happy": 0.95, "sad": 0.4},
        "mean": 0.675,
        "classes": ["neutral", "happy"],
        "confusion": {"source": [9, 1], "happy": [1, 9]},
    }
    finding = {
        "clips": {"walk": {"frames": 10, "with_face": 8, "found": 8}},
        "faceless": {"dogs.jpg": 1},
    }
    text = table_of(
        tmp_path,
        persuasion={"held_out": persuasion},
        finding=finding,
        landmarks={"mean_error": {"faces160": 0.0251}},
    )
    assert line_with(text, "happy, held-out people")[1:] == ["0.950", "0.9"]
    assert line_with(text, "mean of the six")[1:] == ["0.675 (missed)", "0.7"]
    assert line_with(text, "source")[1:] == ["9", "1"]
    assert line_with(text, "all clips")[1:] == ["1.000", "0.99"]
    assert line_with(text, "false faces in dogs.jpg")[1] == "1 (missed)"
    assert line_with(text, "landmark error, faces160")[1] == "2.51 %"


def test_tables_name_the_machine(tmp_path):
    assert machine_line() in tables(tmp_path)
    assert "numpy" in machine_line()
    assert "no-such-package missing" in machine_line(("no-such-package",))


def test_cells_are_padded():
    lines = markdown(("a", "bb"), [("long cell", "1")]).splitlines()
    assert lines == ["| a         | bb |", "| --------- | -- |", "| long cell | 1  |"]
    assert len({len(line) for line in lines}) == 1
