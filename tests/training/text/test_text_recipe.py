"""The text recipe on small made data: every part trains, goes on, and the graphs draw faces."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.calibration.audit.examine import audit
from mien.engines import Catalog
from mien.runtime.text import TextFaces
from mien.training import ship
from mien.training.__main__ import main
from tests.training.latent.fixtures import Made, make

pytestmark = pytest.mark.slow
NAMES = ("text_encoder", "text_generator", "text_image_encoder")


def words(made: Made) -> list[str]:
    return ["text", *made.words(0.02), "--batch", "3", "--ngf", "2", "--noise", "16"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    made = make(tmp_path_factory.mktemp("text"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    colours = np.random.default_rng(0).integers(0, 255, (6, 256, 256, 3), np.uint8)
    np.savez(made.work / "colour256.npz", faces=colours)
    assert main(words(made)) == 0
    yield made
    torch.set_num_threads(threads)


def test_every_part_leaves_its_checkpoint_and_a_sheet(trained: Made) -> None:
    for name in ("text_finish", "text_damsm", "text_stages", "text_fine"):
        assert torch.load(trained.work / f"{name}.pt", weights_only=True)["step"] >= 1
    for name in ("text_stages", "text_fine"):
        assert list(trained.work.glob(f"{name}-*min.png"))
    measured = json.loads((trained.work / "text_damsm.json").read_text())
    assert 0 <= measured["r_precision_photographs"] <= 1
    assert "happy" in measured["facts"]
    assert json.loads((trained.work / "text_teacher.json").read_text())["mean"] >= 0


def test_the_captions_of_people_that_were_not_seen_are_left(trained: Made) -> None:
    with (trained.work / "test" / "captions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16, "a quarter of the press pictures"
    assert all((trained.work / "test" / row["picture"]).exists() for row in rows)
    assert len({row["group"] for row in rows}) > 1


def test_a_run_that_is_done_is_not_trained_again(trained: Made) -> None:
    before = json.loads((trained.work / "text.json").read_text())
    assert main(words(trained)) == 0
    assert json.loads((trained.work / "text.json").read_text()) == before


@pytest.mark.parametrize("name", NAMES)
def test_every_graph_is_clean_and_has_its_card(trained: Made, name: str) -> None:
    path = trained.work / "models" / f"{name}.onnx"
    assert audit(path).is_clean
    card = path.with_suffix(".md").read_text()
    assert "Congress" in card
    assert "Luma only" not in card


def test_the_graphs_draw_faces_once_they_are_shipped(trained: Made, tmp_path: Path) -> None:
    for name in NAMES:
        folder = trained.work / "models"
        ship.main(["--out", str(folder), "--network", name, "--into", str(tmp_path)])
    with TextFaces.open(Catalog.load(tmp_path)) as faces:
        drawn = faces.draw(faces.read("a young woman, happy, brows raised"), count=2, seed=7)
        assert faces.ranked_by == "text_image_encoder"
    assert drawn[0].pixels.shape == (256, 256, 3)


def test_shipped_networks_are_trained_further(trained: Made, tmp_path: Path) -> None:
    models, out = trained.work / "models", tmp_path / "further"
    asked = ["text-further", *words(trained)[1:], "--begin-with", str(models)]
    assert main([*asked, "--out", str(out), "--cache", str(trained.work)]) == 0
    before, after = (
        [path.read_bytes() for path in sorted(folder.glob("text_*.onnx"))]
        for folder in (models, out / "models")
    )
    assert len(before) == len(after) == len(NAMES)
    assert all(a != b for a, b in zip(before, after, strict=True))
    card = (out / "models" / "text_generator.md").read_text()
    assert "mien.training text`" in card
    assert "Then `python -m mien.training text-further --begin-with DIR`" in card
