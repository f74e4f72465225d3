import json

from mien.calibration.tables.machine import machine_line
from mien.calibration.tables.table import markdown, tables
from mien.calibration.tables.thresholds import ACTION_THRESHOLDS


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


def test_a_met_threshold_stands_beside_its_number(tmp_path):
    text = table_of(tmp_path, expression=expression_report(0.0512, 1.1, 0))
    assert line_with(text, "happy: mouth corners up")[1:] == ["+0.051", "+0.040"]
    assert line_with(text, "happy: calm")[1:] == ["1.10", "at most 1.15"]
    assert line_with(text, "largest change of a sample")[1:] == ["0", "0"]


def test_what_misses_its_threshold_says_so(tmp_path):
    text = table_of(tmp_path, expression=expression_report(0.03, 1.4, 2))
    assert line_with(text, "happy: mouth corners up")[1] == "+0.030 (missed)"
    assert line_with(text, "happy: calm")[1] == "1.40 (missed)"
    assert line_with(text, "largest change of a sample")[1] == "2 (missed)"
    assert line_with(text, "sad: mouth corners up")[1] == "none (missed)"


def test_a_threshold_below_zero_asks_for_a_change_downwards():
    sad = next(threshold for threshold in ACTION_THRESHOLDS if threshold.emotion == "sad")
    assert sad.holds(-0.03)
    assert not sad.holds(-0.01)
    assert not sad.holds(0.5)
    assert not sad.holds(float("nan"))


def test_the_other_reports_have_their_tables(tmp_path):
    named = {
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
        named_emotion={"held_out": named},
        finding=finding,
        landmarks={"mean_error": {"faces160": 0.0251}},
    )
    assert line_with(text, "happy, held-out people")[1:] == ["0.950", "0.9"]
    assert line_with(text, "mean of the six")[1:] == ["0.675 (missed)", "0.77"]
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


def lips(gap_r: float | None, kept: float, *, span: float = 0.3, lag: int = 0) -> dict:
    return {
        "span": span,
        "correlation": gap_r,
        "lag": lag,
        "closures": 40,
        "kept": kept,
        "spoken": 10,
        "spoken_kept": kept,
    }


def edit_of(lips_found: dict) -> dict:
    return {
        "action": {},
        "lips": lips_found,
        "eyes": {"span": 0.1, "correlation": 0.96, "slope": 0.8, "blinks": 3, "kept": 2},
        "closed_lift": {"frames": 40, "lift": 0.05, "kept": 0.9},
        "stain": {"largest": 0.05, "mean": 0.01, "frames": 99},
        "calm": 1.0,
        "outside": 0,
        "compared": 99,
    }


def test_lips_eyes_and_skin_stand_beside_their_thresholds(tmp_path):
    talks = {"happy": edit_of(lips(0.98, 0.9)), "surprised": edit_of(lips(0.94, 0.91, lag=1))}
    rests = {"happy": edit_of(lips(None, 1.0, span=0.01))}
    clips = {"talks": {"frames": 99, "edits": talks}, "rests": {"frames": 99, "edits": rests}}
    text = table_of(tmp_path, expression={"clips": clips, "failures": []})
    assert line_with(text, "happy: lip gap, r")[1:] == ["0.980", "at rest", "0.97"]
    kept = line_with(text, "happy: closures kept")[1:]
    assert kept == ["0.900 (missed) of 40", "1.000 of 40", "0.98"]
    assert line_with(text, "surprised: lip gap, r")[1:] == ["0.940", "", "0.93"]
    assert line_with(text, "surprised: closures kept")[1] == "0.910 of 10"
    assert line_with(text, "surprised: lips late")[1] == "1 (missed)"
    assert line_with(text, "happy: eye opening, r")[1:] == ["0.960", "0.960", "0.95"]
    assert line_with(text, "happy: blinks kept")[1] == "2 of 3 (missed)"
    assert line_with(text, "happy: corners up, from closed lips")[1] == "+0.050"
    assert line_with(text, "happy: lips then closed")[1] == "0.900 (missed)"
    assert line_with(text, "happy: low-frequency luma")[1] == "0.050 (missed)"


def test_linearity_rims_cost_and_own_smiles_have_their_tables(tmp_path):
    movements = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.45]
    linear = {"correlation": 0.99, "reversal": 0.1}
    sad = {"quantity": "corners_up", "movements": movements, "linear": linear}
    rim = {"median": 0.1, "high": 0.61, "lost": 0.02, "points": 5000, "frames": 50}
    no_rim = {"median": None, "high": None, "lost": None, "points": 3, "frames": 0}
    scales = {"0.25": {"measured": 0.4, "neutral": 0.5}, "0.5": {"measured": 0.62, "neutral": 0.3}}
    cost = {"emotion": "happy", "own_ms": 10.04, "baseline_ms": 9.5, "ratio": 1.057, "spread": 0.01}
    text = table_of(
        tmp_path,
        linearity={"sad": sad},
        rims={"clips": {"wearer": {"sad": rim}, "bare": {"sad": no_rim}}},
        own_scale={"people": 40, "lift": 0.08, "scales": scales},
        cost=cost,
    )
    assert line_with(text, "sad: corners up, r")[1:] == ["0.990", "0.98"]
    assert line_with(text, "sad: corners up, step back")[1] == "0.100 (missed)"
    assert line_with(text, "wearer")[1:] == ["sad", "0.10", "0.61 (missed)", "0.020", "at most 0.5"]
    assert line_with(text, "bare")[2] == "no glasses"
    assert line_with(text, "own 0.5: measured scale")[1:] == ["0.620 (missed)", "0.5 ± 0.1"]
    assert line_with(text, "own 0.25: measured scale")[1:] == ["0.400", ""]
    assert line_with(text, "own 0.25: called neutral")[1:] == ["0.500 (missed)", "0.6"]
    assert line_with(text, "happy: by the other's")[1] == "1.057 (missed) ± 0.010"
    assert line_with(text, "happy: CPU time")[1] == "10.0 ms, before 9.5 ms"


def test_other_networks_and_confusions_have_their_thresholds(tmp_path):
    part = {
        "accuracy": {"disgusted": 0.65, "fearful": 0.7},
        "mean": 0.675,
        "classes": ["angry", "disgusted", "fearful", "sad"],
        "confusion": {"disgusted": [35, 65, 0, 0], "fearful": [0, 20, 70, 10]},
    }
    found = {"pictures": 150, "same_person": 0.98, "median_distance": 0.2, "calm": None}
    clip = {"pictures": 90, "same_person": 1.0, "median_distance": 0.3, "calm": 0.991}
    text = table_of(
        tmp_path,
        named_emotion={"held_out": part, "clips": part},
        independent={
            "expressions": {"held_out": part},
            "identity": {"held_out": {"sad": found}, "talks": {"sad": clip}},
        },
    )
    called = line_with(text, "disgusted called angry, held-out people")
    assert called[1:] == ["0.350 (missed)", "at most 0.2"]
    assert line_with(text, "fearful called sad, held-out people")[1:] == ["0.100", "at most 0.15"]
    assert line_with(text, "disgusted, clips")[1:] == ["0.650", ""]
    assert line_with(text, "sad, held-out people: same person")[1] == "0.980 (missed)"
    assert line_with(text, "sad, held-out people: distance")[1:] == ["0.200", "at most 0.25"]
    assert line_with(text, "sad, talks: neighbouring frames")[1:] == ["0.9910 (missed)", "0.995"]
