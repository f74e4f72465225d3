from __future__ import annotations

import json
from pathlib import Path

import pytest

from mien.apps.main import run
from mien.calibration.smile import evaluate as smile
from tests.calibration.networks import write_classifier, write_inception
from tests.calibration.smile.data import HELD_OUT, portrait, write_faces160, write_fer2013
from tests.runtime.methods.gan.networks import write_style_models

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two portraits for each emotion in faces160 (a third each trained on), one each in FER-2013.

    `judge.onnx` beside them names bright faces happy and dark ones sad.
    """
    folder = tmp_path_factory.mktemp("data")
    light = {"neutral": 1.0, "happiness": 1.5, "sadness": 0.5}
    write_faces160(
        folder,
        [
            (emotion, who, portrait(side, brightness=factor))
            for emotion, factor in light.items()
            for who, side in ((HELD_OUT, 120), (HELD_OUT, 140), ("15", 160))
        ],
    )
    names = {"neutral": "neutral", "happiness": "happy", "sadness": "sad"}
    rows = [(names[e], "public", portrait(48, brightness=f)) for e, f in light.items()]
    write_fer2013(folder, rows)
    write_classifier(folder / "judge.onnx")
    return folder


def smile_command(data: Path, *options: str) -> list[str]:
    given = ["--data", str(data), "--classifier", str(data / "judge.onnx"), *options]
    return ["evaluate", "smile", *given]


def error_line(captured: Captured) -> str:
    told = captured.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("mien: ")
    return line


@pytest.mark.slow
def test_the_tables_are_printed_as_json(data: Path, capsys: Captured) -> None:
    assert run(smile_command(data, "--count", "4", "--blend", "field", "--json")) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["distance"] == "Frechet distance, emotion classifier features"
    assert report["classifier"] == "judge.onnx"
    for table, source in zip(report["tables"], ("neutral", "happy"), strict=True):
        assert table["source"]["emotion"] == source
        # three are held out; the detector decides which of them count
        assert 2 <= table["source"]["distinct"] <= 3
        assert table["source"]["distinct"] + table["source"]["mirrored"] == 4
        assert [row["blend"] for row in table["rows"]] == ["field"] * 6
        assert all((row["score"] is None) == (row["missing"] is not None) for row in table["rows"])
    assert "finding neutral faces" in told.err


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generators that make faces lighter for happy and darker for sad."""
    return write_style_models(tmp_path_factory.mktemp("models"))


@pytest.mark.slow
def test_rows_whose_models_are_there_are_measured(
    data: Path, models: Path, capsys: Captured
) -> None:
    options = ["--count", "4", "--blend", "field", "--json", "--models", str(models)]
    assert run(smile_command(data, *options)) == 0
    smiles, frowns = json.loads(capsys.readouterr().out)["tables"]
    assert all(row["score"]["unchanged"] == 0 for row in smiles["rows"])
    for row in frowns["rows"]:
        if row["gan"] == "stargan":
            # darker faces are nearer to the dark ones that stand for sadness
            assert row["score"]["distance"] < frowns["unedited"]["distance"]
        else:
            assert row["missing"] == f"cyclegan_{row['method']} has neutral->happy, not happy->sad"


def test_the_quick_look_tells_of_both_transfers(data: Path, models: Path, capsys: Captured) -> None:
    given = ["--data", str(data), "--classifier", str(data / "judge.onnx"), "--count", "2"]
    options = ["--method", "parts", "--gan", "cyclegan", "--onnx-models", str(models)]
    assert smile.main([*given, *options]) == 0
    happy, sad = capsys.readouterr().out.splitlines()
    assert happy.startswith("parts-to-parts CycleGAN happy, paste: ")
    assert "of 2 named happy (unedited 0.000, real 1.000; 0 unchanged, 0 in part, " in happy
    assert sad.endswith("cyclegan_parts has neutral->happy, not happy->sad")


def test_an_inception_wants_as_many_pictures_as_it_has_features(
    data: Path, capsys: Captured
) -> None:
    network = write_inception(data / "inception.onnx", facts={"mien.range": "0..1"})
    options = ["--inception", str(network), "--count", "2000"]
    assert run(smile_command(data, *options)) == 2
    assert "over 2048 features needs at least 2048" in error_line(capsys)


def test_data_with_too_few_faces_is_one_line(data: Path, tmp_path: Path, capsys: Captured) -> None:
    rows = [(e, HELD_OUT, portrait(120)) for e in ("neutral", "happiness", "sadness")]
    write_faces160(tmp_path, rows)
    write_classifier(tmp_path / "judge.onnx")
    assert run(smile_command(tmp_path)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith("mien: received 2 pictures")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--count", "2"], "received 2 pictures, but a Frechet distance over 3 features"),
        (["--blend", "glue"], "--blend must be field, paste or both, not 'glue'"),
        (["--json", "--markdown"], "give either --json or --markdown"),
        (["--inception-range", "0..1"], "--inception-range needs --inception"),
        (["--classifier", "none.onnx"], "none.onnx"),
        (["--inception", "none.onnx"], "none.onnx"),
        (["--models", "none"], "none"),
        (["--provider", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    data: Path, capsys: Captured, options: list[str], said: str
) -> None:
    assert run(smile_command(data, *options)) == 2
    assert said in error_line(capsys)


def test_a_folder_without_data_is_one_line(data: Path, tmp_path: Path, capsys: Captured) -> None:
    write_classifier(tmp_path / "judge.onnx")
    assert run(smile_command(tmp_path)) == 2
    assert "holds neither faces160.csv nor fer2013.csv" in error_line(capsys)


def test_a_classifier_that_is_another_network_is_refused(
    data: Path, tmp_path: Path, capsys: Captured
) -> None:
    network = write_inception(tmp_path / "other.onnx")
    assert run(smile_command(data, "--classifier", str(network))) == 2
    assert "other.onnx" in error_line(capsys)


def test_the_quick_look_refuses_what_it_cannot_use(
    data: Path, tmp_path: Path, capsys: Captured
) -> None:
    given = ["--method", "parts", "--gan", "stargan", "--data", str(data)]
    assert smile.main([*given, "--onnx-models", str(tmp_path)]) == 2
    assert "holds neither" in error_line_of_quick(capsys)


def error_line_of_quick(captured: Captured) -> str:
    (line,) = captured.readouterr().err.splitlines()
    return line
