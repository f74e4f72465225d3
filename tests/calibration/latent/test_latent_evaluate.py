"""`mien evaluate emm` and `directions`, on networks and faces whose answers are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mien.apps.main import run
from mien.calibration.latent.directions import AttributeScore, DirectionsReport, disturbance_saved
from mien.calibration.latent.emm import COLUMNS
from mien.calibration.latent.faces import OpenSpace, held_out_faces
from mien.calibration.latent.measures import PictureNetwork, ms_ssim
from mien.engines import Catalog
from mien.engines.errors import ModelError, UsageError
from tests.calibration.networks import write_classifier
from tests.calibration.smile.data import HELD_OUT, portrait, write_faces160
from tests.runtime.methods.latent.networks import (
    ATTRIBUTES,
    write_directions,
    write_emm,
    write_image_tower,
    write_regressor,
    write_space,
    write_text,
)

Captured = pytest.CaptureFixture[str]
OTHER = "1e"  # another hash of somebody held out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One who is calm and smiles, and one who is only calm."""
    folder = tmp_path_factory.mktemp("data")
    faces = [("neutral", HELD_OUT, 1.0), ("happiness", HELD_OUT, 1.4), ("neutral", OTHER, 0.9)]
    write_faces160(folder, [(e, who, portrait(140, brightness=f)) for e, who, f in faces])
    write_classifier(folder / "judge.onnx")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = write_space(tmp_path_factory.mktemp("models"))
    write_image_tower(write_text(write_directions(write_emm(folder))))
    with OpenSpace(Catalog.load(folder), "emm", ()) as space:
        (face, *_) = held_out_faces(space, data, {"neutral": 1}, lambda *_: None)
    return write_regressor(folder, 2 * face.picture[0] - 1)


def asked(command: str, data: Path, models: Path, *more: str) -> list[str]:
    given = ["--data", str(data), "--models", str(models), *more]
    return ["evaluate", command, "--classifier", str(data / "judge.onnx"), *given]


def reported(captured: Captured) -> dict[str, object]:
    found: dict[str, object] = json.loads(captured.readouterr().out)
    return found


def write_pictures_network(path: Path, pictures: int, facts: dict[str, str] | None = None) -> Path:
    """A network that gives the mean of its first picture less that of its second."""
    names = ["first", "second"][:pictures]
    nodes = [
        helper.make_node("ReduceMean", [name, "axes"], [f"mean_{name}"], keepdims=0)
        for name in names
    ]
    last = "Sub" if pictures == 2 else "Identity"
    nodes.append(helper.make_node(last, [f"mean_{name}" for name in names], ["said"]))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 16, 16)) for name in names
    ]
    said = helper.make_tensor_value_info("said", TensorProto.FLOAT, (1,))
    axes = onnx.numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes")
    graph = helper.make_graph(nodes, "means", values, [said], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, facts or {})
    path.write_bytes(model.SerializeToString())
    return path


def test_ms_ssim_is_one_for_the_same_and_falls_with_noise() -> None:
    random = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(random.uniform(0, 1, (128, 128)).astype(np.float32), (0, 0), 4)[None]
    smooth = 0.5 + 8 * (smooth - 0.5)
    noise = random.normal(0, 1, smooth.shape).astype(np.float32)
    values = [ms_ssim(smooth, smooth + amount * noise) for amount in (0, 0.03, 0.1, 0.3)]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8
    assert ms_ssim(smooth, 1 - smooth) == 0  # its structure is the opposite


def test_ms_ssim_is_its_definition_at_one_scale() -> None:
    a, b = np.random.default_rng(1).uniform(0, 1, (2, 1, 15, 15))
    weights = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    light, structure = [], []
    for y in range(5):
        for x in range(5):
            p, q = a[0, y : y + 11, x : x + 11], b[0, y : y + 11, x : x + 11]
            u, v = (window * p).sum(), (window * q).sum()
            vu, vv = (window * p * p).sum() - u * u, (window * q * q).sum() - v * v
            light.append((2 * u * v + 1e-4) / (u * u + v * v + 1e-4))
            structure.append((2 * ((window * p * q).sum() - u * v) + 9e-4) / (vu + vv + 9e-4))
    expected = max(0, float(np.mean(light) * np.mean(structure)))
    assert ms_ssim(a, b) == pytest.approx(expected, abs=1e-6)


def test_a_network_of_ones_own_is_fed_in_the_range_that_it_states(tmp_path: Path) -> None:
    grey = np.full((1, 64, 64), 0.75, np.float32)
    path = write_pictures_network(tmp_path / "a.onnx", 1, {"mien.range": "-1..1"})
    assert PictureNetwork(path, 1)(grey) == pytest.approx(0.5)
    path = write_pictures_network(tmp_path / "b.onnx", 2, {"mien.range": "0..255"})
    assert PictureNetwork(path, 2)(grey, 0 * grey) == pytest.approx(191.25)
    with pytest.raises(ModelError, match="expected 1 of"):
        PictureNetwork(path, 1)
    with pytest.raises(UsageError, match=r"does not state .* add mien\.range"):
        PictureNetwork(write_pictures_network(tmp_path / "c.onnx", 1), 1)


def test_the_mapper_is_measured_by_all_seven(
    data: Path, models: Path, tmp_path: Path, capsys: Captured
) -> None:
    lpips = write_pictures_network(tmp_path / "lpips.onnx", 2, {"mien.range": "0..1"})
    assert run(asked("emm", data, models, "--json", "--lpips", str(lpips))) == 0
    report = reported(capsys)
    rows = {row["target"]: row for row in report["rows"]}  # type: ignore[attr-defined]
    assert rows["happy"]["edits"] == 2
    assert rows["happy"]["pairs"] == 1  # the other does not smile
    assert rows["sad"]["values"]["MS-SSIM"] is None
    assert set(rows["happy"]["values"]) == set(COLUMNS)
    happy = rows["happy"]["values"]
    assert 0 < happy["MS-SSIM"] < 1
    assert happy["LPIPS"] < 0 < rows["sad"]["values"]["LPIPS"]  # lighter, and darker
    assert rows["surprised"]["values"]["CS"] == pytest.approx(1, abs=1e-3)
    assert rows["sad"]["values"]["CS"] == pytest.approx(0, abs=0.02)
    assert rows["contemptuous"]["values"]["ED"] is None  # the classifier does not know it
    assert happy["FID"] is None  # two pictures do not span three features
    assert report["networks"]["LPIPS"] == "lpips.onnx"  # type: ignore[index]
    assert "judge.onnx" in report["networks"]["ED"]  # type: ignore[index]


def test_the_mappers_table_says_who_measured(data: Path, models: Path, capsys: Captured) -> None:
    assert run(asked("emm", data, models)) == 0
    told = capsys.readouterr().out
    assert "| paper, StyleCLIP" in told
    assert "- IP: cosine of the identities of these two. By: features of the emotion" in told


def test_directions_are_measured_with_and_without_the_landmarks_loss(
    data: Path, models: Path, tmp_path: Path, capsys: Captured
) -> None:
    baseline = write_directions(tmp_path, leak=0.5) / "latent_walk.onnx"
    assert run(asked("directions", data, models, "--json", "--baseline", str(baseline))) == 0
    report = reported(capsys)
    tables = report["tables"]
    assert isinstance(tables, dict)
    clean, leaking = ({r["attribute"]: r for r in tables[n]} for n in tables)
    assert list(clean) == list(ATTRIBUTES)
    for table in (clean, leaking):
        assert 0.5 < table["male"]["reached"] < 1.1  # light skin cannot get lighter
    assert clean["male"]["ratios"]["smiling"] < 0.1
    assert leaking["male"]["ratios"]["smiling"] > 0.3
    assert report["disturbance_saved"] is not None
    assert run(asked("directions", data, models, "--baseline", str(baseline))) == 0
    told = capsys.readouterr().out
    assert "| change, without HFLD" in told
    assert "% less with HFLD" in told


def test_what_hfld_saves_is_by_what_is_reached() -> None:
    def table(reached: float, change: float) -> tuple[AttributeScore, ...]:
        return (AttributeScore("male", reached, {}, {"happy": change, "sad": change}),)

    tables = {"with HFLD": table(0.5, 6.0), "without HFLD": table(1.0, 16.0)}
    report = DirectionsReport(1, tables, {}, "")
    assert disturbance_saved(report) == pytest.approx(1 - 12 / 16)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["emm", "--source", "sleepy"], "unknown emotion 'sleepy'"),
        (["emm", "--source", "fearful"], "no held-out fearful face; choose --source"),
        (["emm", "--inception-range", "0..1"], "--inception-range needs --inception"),
        (["emm", "--identity", "nowhere.onnx"], "nowhere.onnx"),
        (["directions", "--drawn"], "latent_prior"),
        (["directions", "--baseline", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    words: list[str], said: str, data: Path, models: Path, capsys: Captured
) -> None:
    assert run(asked(words[0], data, models, *words[1:])) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith("mien: ")
    assert said in told.err.splitlines()[-1]


def test_networks_that_are_missing_or_of_others_are_refused(
    data: Path, models: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert run(asked("emm", data, write_space(tmp_path / "space"))) == 2
    assert "emm lacks the networks emm, latent_classifier" in capsys.readouterr().err
    other = write_directions(tmp_path, ("smiling", "age")) / "latent_walk.onnx"
    assert run(asked("directions", data, models, "--baseline", str(other))) == 2
    assert "without HFLD are of smiling, age, the regressor reads" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "space")
    whole = write_emm(write_space(tmp_path / "space"))
    assert run(["evaluate", "emm", "--data", str(tmp_path), "--models", str(whole)]) == 2
    assert "holds no faces160.csv" in capsys.readouterr().err
