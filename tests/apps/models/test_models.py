from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.apps.main import run
from tests.apps.fakes import write_clip
from tests.apps.stand_in import write_models

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stand-ins for all networks."""
    return write_models(tmp_path_factory.mktemp("stand-in"))


def edit(clip: Path, models: Path, *options: str) -> int:
    return run(["edit", str(clip), "--emotion", "happy", "--models", str(models), *options])


def test_the_whole_command_runs_on_the_engines(tmp_path: Path, models: Path) -> None:
    picture = tmp_path / "in.png"
    pixels = cv2.imread(str(SAMPLE.with_name("portrait.jpg")))
    cv2.imwrite(str(picture), pixels)
    assert edit(picture, models) == 0
    changed = np.any(cv2.imread(str(tmp_path / "in_happy.png")) != pixels, axis=2)
    assert 0.001 < changed.mean() < 0.5
    assert not changed[:40].any()  # above the faces that the stand-ins see


def test_a_damaged_model_is_refused_in_one_line(
    tmp_path: Path, models: Path, capsys: Captured
) -> None:
    damaged = Path(shutil.copytree(models, tmp_path / "damaged"))
    (damaged / "warp.onnx").write_bytes((damaged / "warp.onnx").read_bytes()[:-20])
    clip = write_clip(tmp_path / "in.mp4")
    assert edit(clip, damaged) == 2
    said = capsys.readouterr().err
    assert said.startswith("mien: ")
    assert said.count("\n") == 1
    assert "warp.onnx" in said
    assert not (tmp_path / "in_happy.mp4").exists()
    assert run(["models", "--models", str(damaged)]) == 2
    assert "damaged" in capsys.readouterr().out


def test_a_model_that_is_not_the_declared_one_is_refused(
    tmp_path: Path, models: Path, capsys: Captured
) -> None:
    swapped = Path(shutil.copytree(models, tmp_path / "swapped"))
    catalog = swapped / "catalog.toml"
    text = catalog.read_text()
    text = text.replace('network = "warp"', 'network = "x"').replace(
        'network = "occlusion"', 'network = "warp"'
    )
    catalog.write_text(text.replace('network = "x"', 'network = "occlusion"'))
    assert edit(write_clip(tmp_path / "in.mp4"), swapped) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "warp" in said
    assert not (tmp_path / "in_happy.mp4").exists()


def test_models_lists_what_there_is(models: Path, capsys: Captured) -> None:
    assert run(["models", "--models", str(models)]) == 0
    said = capsys.readouterr().out
    for part in ("detector", "landmarks", "warp", "occlusion", "Apache-2.0", "ok"):
        assert part in said


def test_a_name_with_brackets_is_listed_as_it_is(
    tmp_path: Path, models: Path, capsys: Captured
) -> None:
    named = Path(shutil.copytree(models, tmp_path / "named"))
    catalog = named / "catalog.toml"
    catalog.write_text(catalog.read_text().replace('"stand-in warp"', '"a[/i]"'))
    assert run(["models", "--models", str(named)]) == 0
    assert "a[/i]" in capsys.readouterr().out


def test_an_unknown_provider_is_refused(tmp_path: Path, models: Path, capsys: Captured) -> None:
    assert edit(write_clip(tmp_path / "in.mp4"), models, "--provider", "abacus") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "abacus" in said


@pytest.mark.slow
def test_bench_measures_stages_command_and_transcode(
    tmp_path: Path, models: Path, capsys: Captured
) -> None:
    clip = write_clip(tmp_path / "in.mp4", 14, size_wh=(320, 240))
    arguments = ["bench", str(clip), "--runs", "1", "--models", str(models), "--json"]
    assert run(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert {stage["name"] for stage in report["profile"]["stages"]} >= {"track", "edit", "blend"}
    assert report["profile"]["whole"]["median_ms"] > 0
    assert report["ratio"] == pytest.approx(report["command_s"] / report["transcode_s"])
    assert report["first_frame_s"] < report["command_s"]
    assert report["peak_mb"] > 10
    assert (report["width"], report["height"]) == (320, 240)
    assert report["profile"]["faces"] >= 1  # the stand-in finds one in whatever it is shown
    assert run(["bench", str(tmp_path / "none.mp4")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
