from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest

from mien.apps import bench_eager
from mien.apps.bench_tables import Grid
from mien.apps.bench_variants import Variant
from mien.apps.main import run
from tests.apps.fakes import write_clip
from tests.apps.stand_in import write_models

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins are no modules of PyTorch."""
    monkeypatch.setattr("mien.apps.bench.eager_rows", lambda *_: [])


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
    assert rows == [(n, v) for n in ("detector", "landmarks", "warp", "mouth") for v in names]
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


def test_without_torch_there_is_no_row_and_with_a_broken_one_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    for said, expected in (
        ("ModuleNotFoundError: No module named 'torch'", []),
        ("mien: warp.onnx is of another make", None),
    ):
        python.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 2\n')
        python.chmod(0o755)
        if expected is None:
            with pytest.raises(bench_eager.MienError, match="another make"):
                bench_eager.eager_rows(None, 0.1, 1)
        else:
            assert bench_eager.eager_rows(None, 0.1, 1) == expected
