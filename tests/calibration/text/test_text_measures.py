"""What is measured of faces from text: the metrics alone, and the whole on real networks."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from mien.apps.main import run
from mien.calibration.audit.examine import audit
from mien.calibration.precision.run import Calibration
from mien.calibration.representative import read_clips
from mien.calibration.text.measures import FaceReader, perceptual_distance, r_precision
from mien.engines import Catalog
from tests.calibration.judges.test_independent import CODE

PORTRAIT = Path(__file__).parents[3] / "apps" / "sample" / "portrait.jpg"


@pytest.fixture(scope="module")
def models(text_models: Path) -> Path:
    return text_models


def test_a_picture_whose_own_caption_is_the_nearest_counts() -> None:
    random = np.random.default_rng(0)
    sentences = random.standard_normal((400, 32))
    groups = [str(i % 8) for i in range(400)]
    perfect = r_precision(sentences, sentences, groups)
    assert (perfect.mean, perfect.deviation) == (1.0, 0.0)
    assert (perfect.pictures, perfect.candidates) == (400, 100)
    chance = r_precision(random.standard_normal((400, 32)), sentences, groups)
    assert chance.mean < 0.06, "one of a hundred is right by chance"


def test_captions_of_a_picture_s_own_group_do_not_compete() -> None:
    sentences = np.repeat(np.eye(4), 40, 0)
    alike = r_precision(sentences, sentences, [str(i // 40) for i in range(160)])
    assert alike.mean == 1.0
    mixed = r_precision(sentences, sentences, [str(i) for i in range(160)])
    assert mixed.mean == 0.0, "another caption is as near"


def test_half_right_pictures_give_half_over_ten_folds() -> None:
    random = np.random.default_rng(0)
    sentences = random.standard_normal((300, 16))
    codes = np.where(np.arange(300)[:, None] % 2 == 0, sentences, -sentences)
    found = r_precision(codes, sentences, [str(i) for i in range(300)])
    assert found.mean == pytest.approx(0.5, abs=0.02)
    assert 0 < found.deviation < 0.2


def test_few_captions_say_among_how_many_one_was_looked_for() -> None:
    sentences = np.eye(12)
    assert r_precision(sentences, sentences, [str(i) for i in range(12)]).candidates == 12


def test_the_perceptual_distance_is_of_directions_alone() -> None:
    random = np.random.default_rng(0)
    maps = random.standard_normal((8, 5, 5))
    assert perceptual_distance(maps, 3 * maps) == pytest.approx(0)
    assert perceptual_distance(maps, -maps) == pytest.approx(4)
    other = random.standard_normal((8, 5, 5))
    assert 0 < perceptual_distance(maps, other) < 4


def test_a_face_is_found_in_a_whole_picture_and_in_a_tight_crop() -> None:
    portrait = cv2.imread(str(PORTRAIT))
    assert portrait is not None
    tight = np.ascontiguousarray(portrait[95:309, 161:375])
    reader = FaceReader()
    try:
        for picture in (portrait, cv2.resize(tight, (256, 256))):
            seen = reader(np.asarray(picture))
            assert len(set(seen)) == 7
        assert reader(np.full((256, 256, 3), 128, np.uint8)) == ()
    finally:
        reader.close()


def write_captions(folder: Path, count: int, header: str = "caption,group,picture") -> Path:
    path = folder / "captions.csv"
    texts = ("a happy woman", "raised brows", "a woman with 2 brows")
    cv2.imwrite(str(folder / "face.png"), np.asarray(cv2.imread(str(PORTRAIT))))
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        writer = csv.writer(file)
        for i in range(count):
            writer.writerow([texts[i % 3], f"g{i % 3}", "face.png"])
    return path


def test_the_report_names_the_network_of_every_number(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = write_captions(tmp_path, 20)
    given = ["--models", str(models), "--count", "2", "--captions", str(captions), "--json"]
    assert run(["evaluate", "text", *given]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["obeyed"]) == {"happy"}
    assert report["drawn"] == 2
    assert report["compound"] is None, "this vocabulary lacks `surprised`"
    assert 0 <= report["r_precision"] <= 1
    assert report["candidates"] == 14
    assert isinstance(report["perceptual"], float)
    assert report["distance"] is None, "20 pictures are fewer than there are features"
    assert report["networks"] == {
        "emotions": "judge",
        "r_precision": "text_encoder and text_image_encoder",
        "perceptual": "text_image_encoder",
    }


def test_a_network_of_other_origin_has_its_say(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights").write_text("w")
    (tmp_path / "code.py").write_text(CODE)
    given = ["evaluate", "text", "--models", str(models), "--count", "2"]
    judges = ["--judges-code", str(tmp_path / "code.py"), "--judges", str(tmp_path)]
    judges += ["--judges-python", sys.executable]
    assert run([*given, *judges, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["obeyed_others"]) == {"happy"}
    assert report["obeyed_others"]["happy"] in (0, 0.5, 1)
    assert report["networks"]["emotions_others"] == "code"
    assert run([*given, *judges]) == 0
    assert "by code: happy" in capsys.readouterr().out
    assert run([*given, *judges[:2]]) == 2
    assert "give both --judges-code FILE and --judges ROOT" in capsys.readouterr().err


def test_bad_captions_are_refused_in_one_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path) -> str:
        given = ["--models", str(models), "--count", "1", "--captions", str(path)]
        assert run(["evaluate", "text", *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        return line

    assert "give at least 20" in refused(write_captions(tmp_path, 3))
    assert "needs a header" in refused(write_captions(tmp_path, 30, "text,group"))
    assert "cannot read the captions" in refused(tmp_path / "missing.csv")
    bad = write_captions(tmp_path, 20)
    bad.write_text(bad.read_text() + "zebra,g1,face.png\n")
    assert "line 22: the description 'zebra'" in refused(bad)


@pytest.mark.parametrize("network", ["text_encoder", "text_generator", "text_image_encoder"])
def test_an_fp16_variant_is_accepted_and_clean(network: str, models: Path, tmp_path: Path) -> None:
    calibration = Calibration(
        network, Catalog.load(models), read_clips(None)[:1], data="words", inputs=6
    )
    variant = calibration.fp16()
    assert variant.model is not None
    path = tmp_path / f"{network}.onnx"
    onnx.save(variant.model, str(path))
    assert audit(path).is_clean
    halved = 1 - len(variant.card.kept) / variant.card.nodes
    assert halved > 0.3
