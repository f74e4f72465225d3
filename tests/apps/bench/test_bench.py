from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.bench import eager as bench_eager
from mien.apps.bench import run as bench
from mien.apps.bench.eager import EagerFilter, EagerRow, eager_filter
from mien.apps.bench.networks import NetworkRow, NetworksReport, measure_networks, ran_on
from mien.apps.bench.plan import BenchPlan
from mien.apps.bench.plot import COLOURS, LABEL, bench_chart
from mien.apps.bench.report import BenchReport, Grid, eager_filter_grid, eager_grid, scene_grid
from mien.apps.bench.variants import SceneRow, Variant
from mien.apps.main import run
from mien.runtime.profile import FilterProfile, StageTime
from mien.runtime.spec import FilterSpec
from tests.apps.fakes import write_clip
from tests.apps.stand_in import write_models
from tests.runtime.methods.gan.networks import write_style_models

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave PyTorch's rows out: the stand-ins are no modules of PyTorch."""
    monkeypatch.setattr("mien.apps.bench.run.eager_rows", lambda *_: [])


@pytest.mark.slow
def test_variants_are_measured_side_by_side_and_drawn(tmp_path: Path, capsys: Captured) -> None:
    clip = write_clip(tmp_path / "in.mp4", 14, size_wh=(320, 240))
    own, other = write_models(tmp_path / "own"), write_models(tmp_path / "other")
    plot = tmp_path / "bench.png"
    arguments = ["bench", str(clip), "--runs", "1", "--models", str(own), "--networks", "--json"]
    assert run([*arguments, "--beside", f"cpu:{other}", "--plot", str(plot)]) == 0
    report = json.loads(capsys.readouterr().out)
    names = [f"cpu:{own}", f"cpu:{other}"]
    assert [row["variant"] for row in report["variants"]] == names
    assert all(row["first_frame_s"] > row["warm_start_s"] > 0 for row in report["variants"])
    assert all(row["profile"]["frames"] == 4 for row in report["variants"])
    rows = [(row["network"], row["variant"]) for row in report["networks"]]
    assert rows == [(n, v) for n in ("detector", "landmarks", "warp", "occlusion") for v in names]
    assert all(row["median_ms"] <= row["p95_ms"] for row in report["networks"])
    assert report["peaks"]["cpu"]["operations_s"] > 1e8
    picture = cv2.imread(str(plot))
    assert picture is not None
    assert len({tuple(colour) for colour in picture[:, 340]}) >= 3, "two series, and the paper"


def test_what_cannot_be_written_or_opened_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: Captured
) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"")
    for wrong, said in (
        (["--json", "--markdown"], "not both"),
        (["--plot", str(tmp_path / "bench.svg")], ".png"),
        (["--plot", str(there)], "exists"),
        (["--plot", str(tmp_path / "no folder" / "bench.png")], "folder"),
        (["--beside", f"cpu:{tmp_path / 'none'}"], "none"),
        (["--beside", "abacus"], "abacus"),
        (["--provider", "abacus"], "mien: unknown provider 'abacus'"),
        (["--models", str(tmp_path / "none")], "mien: cannot read "),
    ):
        assert run(["bench", *wrong]) == 2
        error = capsys.readouterr().err
        assert (error.count("\n"), error.count("mien: ")) == (1, 1)
        assert said in error


def test_a_variant_is_a_provider_and_perhaps_a_folder() -> None:
    assert Variant.parse("cuda") == Variant("cuda", None)
    assert Variant.parse("cpu:models/int8") == Variant("cpu", Path("models/int8"))
    assert Variant.parse("cuda:1") == Variant("cuda:1", None)
    assert Variant.parse("cuda:1:models") == Variant("cuda:1", Path("models"))
    assert Variant.parse("cpu:models/int8").name == "cpu:models/int8"


def test_a_grid_is_a_markdown_table() -> None:
    grid = Grid("Networks", ("network", "ms"), (("warp", "1.0"),))
    lines = ["Networks", "", "| network | ms |", "| --- | --- |", "| warp | 1.0 |"]
    assert grid.markdown().splitlines() == lines


def test_a_lone_variant_takes_no_column() -> None:
    rows = [SceneRow("faces", "720p", 2, name, 10.0, 12.0, 99.0) for name in ("cpu", "cuda")]
    scene = ("720p", "2, each an eighth of the frame")
    times = ("10.00", "12.00", "99.0")
    assert scene_grid(rows[:1]).rows == ((*scene, *times),)
    assert "variant" not in scene_grid(rows[:1]).headings
    assert scene_grid(rows).rows == ((*scene, "cpu", *times), (*scene, "cuda", *times))


def _python_that(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> Path:
    """What is started in the place of Python; it writes its arguments beside itself."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho "$@" > {folder}/told\n{script}\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return folder / "told"


def test_without_torch_there_is_no_row_and_with_a_broken_one_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said, expected in (
        ("ModuleNotFoundError: No module named 'torch'", []),
        ("ModuleNotFoundError: No module named 'onnx'", []),
        ("ModuleNotFoundError: No module named 'onnxruntime'", None),
        ("mien: warp.onnx is of another make", None),
    ):
        _python_that(monkeypatch, tmp_path, f'echo "{said}" >&2\nexit 2')
        if expected is None:
            with pytest.raises(bench_eager.MienError, match=said.removeprefix("mien: ")):
                bench_eager.eager_rows(None, {"warp": 1}, 0.1, 1)
        else:
            assert bench_eager.eager_rows(None, {"warp": 1}, 0.1, 1) == expected


def test_a_network_that_torch_cannot_run_has_a_row_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warp = {"torch": 3.0, "onnx_runtime": 1.5, "setting": "1 thread, planes"}
    found = json.dumps({"warp": warp, "mouth": {"refused": "of another make"}})
    told = _python_that(monkeypatch, tmp_path, f"echo '{found}'")
    rows = bench_eager.eager_rows(tmp_path, {"warp": 1, "mouth": 2}, 0.5, 2)
    assert eager_grid(rows).rows == (
        ("warp", "1 thread, planes", "3.00", "1.50", "2.00"),
        ("mouth", "not run: of another make", "-", "-", "-"),
    )
    arguments = f"warp=1 mouth=2 --seconds 0.5 --threads 2 --models {tmp_path}"
    assert told.read_text().split()[-len(arguments.split()) - 1 :] == [
        *("mien.export.benchmark.eager", *arguments.split())
    ]


def _profile(median_ms: float, fps: float, frames: int = 9) -> dict[str, object]:
    times = {"median_ms": median_ms, "p95_ms": 2 * median_ms}
    stages = [{"name": "edit"} | times]
    return {"stages": stages, "whole": {"name": "filter"} | times, "fps": fps} | {
        "frames": frames,
        "faces": 1,
    }


def test_the_whole_filter_on_torch_is_told_with_what_makes_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = _profile(8, 100) | {"networks": {"warp": {"calls": 0.5, "ms": 2.0}}}
    torch = _profile(16, 50) | {"networks": {"warp": {"calls": 0.5, "ms": 12.0}}}
    found = {"onnx_runtime": onnx, "torch": torch, "settings": {"warp": "fast"}, "decibels": None}
    told = _python_that(monkeypatch, tmp_path, f"echo '{json.dumps(found)}'")
    plan = BenchPlan(filter=FilterSpec("face", (("gan", "cyclegan"),), models=tmp_path))
    rows = eager_filter_grid(eager_filter(tmp_path / "a.mp4", plan.filter_options(), 2)).rows
    assert rows == (
        ("whole filter, median", "8.00", "16.00", "2.00"),
        ("whole filter, p95", "16.00", "32.00", "2.00"),
        ("edit, median", "8.00", "16.00", "2.00"),
        ("whole filter, mean", "10.00", "20.00", "2.00"),
        ("warp, mean (0.50 calls a frame; PyTorch: fast)", "2.00", "12.00", "6.00"),
        ("all but the networks, mean", "8.00", "8.00", "1.00"),
        ("bound: were ONNX Runtime to take no time", "8.00", "20.00", "2.50"),
    )
    options = f"--emotion happy --method face --gan cyclegan --models {tmp_path} --threads 2"
    arguments = ["mien.training.eager_filter", str(tmp_path / "a.mp4"), *options.split()]
    assert told.read_text().split()[-len(arguments) :] == arguments


def test_a_clip_that_ends_with_the_warm_up_has_no_times_on_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = _profile(0, 0, frames=0) | {"networks": {}}
    found = {"onnx_runtime": nothing, "torch": nothing, "settings": {}, "decibels": None}
    _python_that(monkeypatch, tmp_path, f"echo '{json.dumps(found)}'")
    rows = eager_filter_grid(eager_filter(tmp_path / "a.mp4", [], 2)).rows
    assert {row[1:] for row in rows} == {("0.00", "0.00", "-")}


@pytest.mark.slow
def test_a_report_says_what_was_measured_and_how_it_starts_cold_and_warm(
    tmp_path: Path, capsys: Captured
) -> None:
    clip = write_clip(tmp_path / "in.mp4", 14, size_wh=(320, 240))
    models = write_models(tmp_path / "own")
    arguments = ["bench", str(clip), "--runs", "1", "--models", str(models), "--markdown"]
    assert run(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("in.mp4, 320x240, 14 frames; --method warp --emotion happy; ")
    rows = dict(line[2:].split(" | ")[:2] for line in told.splitlines() if line.startswith("| "))
    cold = float(rows["cold: start of the process to first edited frame, s"])
    assert cold > float(rows["warm: opening of the filter to first edited frame, s"]) >= 0


def _report(clip: str = "a.mp4") -> BenchReport:
    profile = FilterProfile(
        (StageTime("edit", 2.0, 3.0),), StageTime("filter", 4.0, 5.0), 9, 1, 9.0
    )
    return BenchReport(
        *(clip, 640, 480, 9, "a machine", 2, "--method warp", "cpu", {"warp": "cpu"}, profile),
        *(1, 2.0, 1.0, 2.0, 0.5, 0.1, 300.0),
    )


def test_names_with_brackets_are_printed_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    report = _report("[/old] a[bold].mp4")
    scene = SceneRow("faces", "720p", 2, "cpu:[/b]", 10.0, 12.0, 99.0)
    report = replace(report, scenes=(scene, replace(scene, variant="cpu")))
    monkeypatch.setattr(bench, "measure", lambda _: report)
    bench.print_bench(BenchPlan(), bench.BenchOutput())
    told = capsys.readouterr().out
    assert told.startswith("[/old] a[bold].mp4, 640x480")
    assert "cpu:[/b]" in told


def test_the_picture_shows_torch_beside_and_leaves_out_what_it_cannot_run() -> None:
    report = _report()
    rows = (
        EagerRow("warp", torch_ms=4.0, onnx_runtime_ms=2.0, ratio=2.0, setting="1 thread, planes"),
        EagerRow("mouth", refused="of another make"),
    )
    whole = EagerFilter(report.profile, report.profile, (), None)
    plain = _seen(bench_chart(report))
    beside = _seen(bench_chart(replace(report, eager=rows)))
    both = _seen(bench_chart(replace(report, eager=rows, eager_filter=whole)))
    assert (plain, beside, both) == ([2, 0, 0], [2, 1, 1], [2, 3, 3])


def _seen(png: bytes) -> list[int]:
    """How many bars a chart has of each of its first three colours."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), 1)
    assert picture is not None
    inside = [(picture[:, LABEL + 3] == colour).all(1) for colour in COLOURS[:3]]
    return [int((rows[1:] & ~rows[:-1]).sum()) for rows in inside]


def test_the_filter_on_torch_is_measured_first_and_refused_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    clip = write_clip(tmp_path / "in.mp4", 2)
    told = _python_that(
        monkeypatch, tmp_path, "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1"
    )
    for arguments, said in (
        (["--beside", "torch"], "PyTorch is not installed: pip install"),
        (["--beside", f"torch:{tmp_path}"], "leave out its folder"),
        (["--beside", "torch", "--provider", "auto"], "use --provider cpu"),
    ):
        assert run(["bench", str(clip), *arguments]) == 2
        assert said in capsys.readouterr().err
    assert "mien.training.eager_filter" in told.read_text().split(), "nothing else was started"


def test_the_networks_of_the_method_are_measured_as_the_filter_opens_them(tmp_path: Path) -> None:
    models = write_style_models(tmp_path / "models")
    plan = BenchPlan(filter=FilterSpec("parts", models=models))
    report = measure_networks(plan, seconds=0)
    ran = {row.network: ran_on(row) for row in report.rows}
    assert ran == {
        "detector": "cpu",
        "landmarks": "cpu",
        "face_parser": "cpu, 2 threads",
        "stargan_parts": "cpu, 2 threads",
    }
    assert list(report.peaks) == ["cpu", "cpu, 2 threads"]
    assert all(row.peak_percent is not None for row in report.rows)
    assert report.threads() == {name: 2 if "," in on else 1 for name, on in ran.items()}


def test_threads_are_those_on_the_processor_whatever_ran_beside() -> None:
    times = (1.0, 1.0, 1000.0, 1.0, None, None)
    rows = [
        NetworkRow("face_parser", provider, provider, threads, *times)
        for provider, threads in (("cpu", 2), ("cuda", None))
    ]
    assert NetworksReport(tuple(rows)).threads() == {"face_parser": 2}
    assert NetworksReport(tuple(rows[1:])).threads() == {"face_parser": 1}
