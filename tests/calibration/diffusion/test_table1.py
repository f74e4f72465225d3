"""`mien evaluate diffusion` on a tiny UNet and its distilled variant, through ONNX Runtime."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.apps.main import run
from mien.engines.diffusion import FER2013_LABELS
from tests.calibration.judges.test_independent import CODE
from tests.calibration.networks import write_classifier
from tests.calibration.smile.data import portrait, write_fer2013
from tests.runtime.methods.diffusion.networks import forget_shipped, write_student, write_unet

Captured = pytest.CaptureFixture[str]
NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture(autouse=True)
def _own_models_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_shipped(monkeypatch)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(write_unet(tmp_path_factory.mktemp("models"), "label"), "label")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait for each emotion, the next one darker, and networks of other origin."""
    folder = tmp_path_factory.mktemp("data")
    rows = [(n, "public", portrait(48, brightness=1 - 0.1 * i)) for i, n in enumerate(NAMES)]
    write_fer2013(folder, [*rows, ("happy", "train", np.zeros((48, 48), np.uint8))])
    write_classifier(folder / "judge.onnx")
    (folder / "weights").write_text("w")
    (folder / "code.py").write_text(CODE)
    return folder


def command(data: Path, models: Path, *options: str) -> list[str]:
    given = ["--data", str(data), "--models", str(models), "--each", "1", *options]
    return ["evaluate", "diffusion", *given]


def test_table_1_has_every_unet_and_everybody_who_looks(
    data: Path, models: Path, capsys: Captured
) -> None:
    others = ["--judges-code", str(data / "code.py"), "--judges", str(data)]
    others += ["--judges-python", sys.executable, "--classifier", str(data / "judge.onnx")]
    assert run(command(data, models, "--steps", "2", "--json", *others)) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["faces"], report["split"], report["identity"]) == (7, "public", "dlib")
    names = [row["name"] for row in report["rows"]]
    assert names == ["label, from noise", "label, inverted", "label, 2 steps, inverted"]
    for row in report["rows"]:
        assert row["edits"] == 49
        assert row["f1"].keys() == {"judge", "other origin"}
        assert all(len(values) == len(FER2013_LABELS) for values in row["f1"].values())
        assert 0 <= row["same_person"] <= 1
        assert row["macro_f1"]["judge"] == pytest.approx(np.mean(row["f1"]["judge"]))
    noise, inverted, _ = report["rows"]
    assert noise["outside"] > inverted["outside"], "made from noise it is somebody else"
    assert all(name in told.err for name in names)


def test_the_shipped_classifier_looks_where_no_other_is_given(
    data: Path, models: Path, capsys: Captured
) -> None:
    assert run(command(data, models, "--steps", "1", "--markdown", "--condition", "label")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "| label, from noise | shipped |" in out
    assert "| label, from noise, the paper | DeepFace | 0.51 |" in out
    assert "by the emotion classifier's features" in out, "without an embedding of people"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--condition", "vae"], "there is no diffusion UNet of the condition vae"),
        (["--condition", "words"], "unknown condition 'words'"),
        (["--split", "train"], "not 'train'"),
        (["--steps", "0"], "1..999, not 0"),
        (["--guidance", "nan"], "guidance is a number"),
        (["--judges", "."], "give both --judges-code FILE and --judges ROOT"),
        (["--identity-range", "0..1"], "--identity-range needs --identity"),
        (["--identity", "none.onnx"], "none.onnx"),
        (["--json", "--markdown"], "give either --json or --markdown"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    options: list[str], said: str, data: Path, models: Path, capsys: Captured
) -> None:
    assert run(command(data, models, *options)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err.splitlines()[-1]
    assert "Traceback" not in told.err


def test_without_any_unet_it_is_said_how_to_get_one(data: Path, capsys: Captured) -> None:
    assert run(["evaluate", "diffusion", "--data", str(data)]) == 2
    assert "python -m mien.training diffusion" in capsys.readouterr().err
