from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.apps.edit.inputs import SAMPLE
from mien.calibration.smile.strip import NOTHING, main
from tests.runtime.methods.gan.networks import write_style_models


def test_the_strip_shows_every_method_in_both_blends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.calibration.smile.strip.FRAME", 0)
    models = write_style_models(tmp_path / "models")
    main([str(SAMPLE), str(tmp_path / "strip.png"), "--models", str(models)])
    strip = cv2.imread(str(tmp_path / "strip.png"))
    cells = [row[:, x : x + 220] for row in (strip[28:248],) for x in range(6, 1588, 226)]
    assert len(cells) == 7
    for cell in cells[1:]:
        assert np.abs(cell.astype(int) - cells[0]).max() > 15


def test_a_model_that_is_not_there_leaves_a_grey_cell_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mien.calibration.smile.strip.FRAME", 0)
    models = write_style_models(tmp_path / "models")
    main([str(SAMPLE), str(tmp_path / "strip.png"), "--models", str(models), "--emotion", "sad"])
    err = capsys.readouterr().err
    assert err.count("cannot make a face sad") == 6  # no CycleGAN, in either blend
    strip = cv2.imread(str(tmp_path / "strip.png"))
    assert (strip[100:120, 1400:1420] == NOTHING).all()
