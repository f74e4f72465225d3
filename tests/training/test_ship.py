"""A recipe's result among the models that mien finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mien.engines import Catalog
from mien.engines.catalog import BUNDLED_FOLDER, read_catalog
from mien.engines.networks import EMOTION_CLASSIFIER, SHIPPED
from mien.training import ship


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What a recipe leaves: a graph, its numbers, its card."""
    out = tmp_path / "out"
    out.mkdir()
    for ending in ("onnx", "md"):
        shutil.copy(BUNDLED_FOLDER / f"judge.{ending}", out)
    told = {"minutes": 3.5, "quality": {"accuracy": 0.5}, "steps": 7}
    (out / "judge.json").write_text(json.dumps(told))
    return out


def test_a_shipped_network_can_be_opened_from_its_folder(made: Path, tmp_path: Path) -> None:
    into = tmp_path / "models"
    into.mkdir()
    ship.main(["--out", str(made), "--network", "judge", "--into", str(into)])
    (entry,) = read_catalog(into)
    assert (entry.network, entry.minutes, entry.quality) == ("judge", 3.5, {"accuracy": 0.5})
    assert (into / entry.card).read_text() == (made / "judge.md").read_text()
    with Catalog.load(into).open(EMOTION_CLASSIFIER) as engine:
        assert engine.network == EMOTION_CLASSIFIER


def test_shipping_once_more_replaces_the_entry(made: Path, tmp_path: Path) -> None:
    into = tmp_path / "models"
    into.mkdir()
    arguments = ["--out", str(made), "--network", "judge", "--into", str(into)]
    ship.main(arguments)
    told = {"minutes": 9, "quality": {"accuracy": 0.6}}
    (made / "judge.json").write_text(json.dumps(told))
    ship.main(arguments)
    (entry,) = read_catalog(into)
    assert entry.minutes == 9


def test_a_network_that_mien_does_not_have_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ship.main(["--out", str(made), "--network", "unknown", "--into", str(made)])
    assert "face_parser" in capsys.readouterr().err


def test_a_network_of_few_steps_says_what_it_was_trained_on(made: Path, tmp_path: Path) -> None:
    for ending in ("onnx", "md", "json"):
        (made / f"judge.{ending}").rename(made / f"diffusion_vae_4.{ending}")
    into = tmp_path / "models"
    into.mkdir()
    ship.main(["--out", str(made), "--network", "diffusion_vae_4", "--into", str(into)])
    (entry,) = read_catalog(into)
    assert "FER+" in entry.trained_on


def test_without_names_all_that_is_whole_is_shipped(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ending in ("onnx", "md", "json"):
        shutil.copy(made / f"judge.{ending}", made / f"diffusion_label.{ending}")
    shutil.copy(made / "judge.onnx", made / "diffusion_vae.onnx")
    into = tmp_path / "models"
    into.mkdir()
    ship.main(["--out", str(made), "--into", str(into)])
    assert {entry.network for entry in read_catalog(into)} == {"judge", "diffusion_label"}
    with pytest.raises(SystemExit):
        ship.main(["--out", str(into), "--into", str(into)])
    assert "holds no network" in capsys.readouterr().err


def test_every_network_that_may_be_shipped_has_a_name_of_its_own() -> None:
    names = [network.name for network in SHIPPED]
    assert len(set(names)) == len(names)
    assert {"face_parser", "judge", "stargan_parts", "cyclegan_image", "warp"} <= set(names)
