"""`mien audit` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import helper

from mien.apps.main import run
from mien.calibration.audit import guard
from mien.engines.catalog import BUNDLED_FOLDER
from tests.calibration.audit.graphs import make_model

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.onnx"
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["y"])]
    path.write_bytes(make_model(nodes).SerializeToString())
    return path


def test_clean_model_ends_with_0_and_a_broken_one_beside_it_with_2(
    noisy: Path, capsys: Captured
) -> None:
    warp = str(BUNDLED_FOLDER / "warp.onnx")
    assert run(["audit", warp]) == 0
    assert "warp.onnx" in capsys.readouterr().out
    assert run(["audit", warp, str(noisy)]) == 2
    out = capsys.readouterr().out
    assert "noisy.onnx, random: RandomNormalLike: the seed is ignored" in out
    assert "-> make the noise an input" in out


def test_json_says_the_same(noisy: Path, capsys: Captured) -> None:
    assert run(["audit", "--json", str(noisy)]) == 2
    stated = json.loads(capsys.readouterr().out)
    assert (stated["clean"], stated["tensorrt"]) == (False, ["10.3", "11"])
    (model,) = stated["models"]
    assert {found["rule"] for found in model["findings"]} == {"metadata", "random"}


def test_missing_package_ends_with_2_and_one_line(
    noisy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(guard, "find_spec", lambda name: None)
    assert run(["audit", str(noisy)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mien: ")
    assert error.endswith("pip install 'onnx>=1.16,<2'\n")
    assert error.count("\n") == 1
