"""The latent recipes on small made data: each trains, goes on, measures and exports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.calibration.audit.examine import audit
from mien.engines.face_space import condition, stated_condition
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.runtime.target import EMOTIONS
from mien.runtime.words import stated_vocabulary
from mien.training.__main__ import main
from mien.training.data.crops import Crops
from mien.training.latent.data import CodedFaces
from mien.training.latent.edits import condition_of, emotion_codes
from mien.training.latent.everything import JOBS, work_folder
from mien.training.latent.generator import CROP, SMALL, stages_of
from mien.training.recipe import Trainer
from tests.runtime.faces.shapes import mean_face
from tests.training.latent.fixtures import Made, make

GRAPHS = {
    "stylegan2_synthesis",
    "latent_encoder",
    "latent_prior",
    "emm",
    "latent_walk",
    "latent_classifier",
    "attribute_regressor",
    "text_tower",
    "image_tower",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    made = make(tmp_path_factory.mktemp("latent"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    words = made.words()
    for recipe in ("classifiers", "text-image", "emm", "mapper", "directions"):
        batch = ["--batch", "6"]
        further = (
            ["--components", "8", "--samples", "16", "--pairs", "64"] if recipe == "mapper" else []
        )
        assert main([recipe, *words, *batch, *further]) == 0
    assert main(["latent-export", *words[:-2]]) == 0
    yield made
    torch.set_num_threads(threads)


def read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text())
    return found


@pytest.mark.slow
def test_every_recipe_leaves_its_checkpoint_its_log_and_what_it_measured(trained: Made) -> None:
    for name in ("text_image", "emm", "prior", "directions"):
        assert (trained.work / f"{name}.pt").exists()
        assert read(trained.work / f"{name}.json")["steps"]
    assert set(read(trained.work / "classifiers.json")) >= {"codes", "pictures", "minutes"}


@pytest.mark.slow
def test_edits_and_directions_are_drawn(trained: Made) -> None:
    assert list(trained.work.glob("emm-*min.png"))
    assert list(trained.work.glob("directions-*min.png"))
    assert (trained.work / "prior.png").exists()


@pytest.mark.slow
def test_the_mapper_is_scored_from_neutral_and_from_happy(trained: Made) -> None:
    scores = read(trained.work / "emm.json")["scores"]
    assert isinstance(scores, dict)
    assert set(scores) == {"from neutral", "from happy"}
    assert set(scores["from happy"]) == {*EMOTIONS[2:7], "mean"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_every_graph_is_clean_and_says_what_it_is(trained: Made, name: str) -> None:
    path = trained.work / "models" / f"{name}.onnx"
    report = audit(path)
    assert [found for found in report.findings if found.severity == "error"] == []
    assert report.network == name
    with OnnxRuntimeEngine(path, name) as engine:
        assert float(engine.metadata["mien.parity_error"]) < 1e-4
    assert (trained.work / "models" / f"{name}.md").read_text().startswith(f"# {name}")


@pytest.mark.slow
def test_the_mapper_states_the_condition_that_it_was_trained_with(trained: Made) -> None:
    with OnnxRuntimeEngine(trained.work / "models" / "emm.onnx", "emm") as engine:
        table = stated_condition(engine.metadata)
    state = torch.load(trained.work / "classifiers.pt", weights_only=True)
    np.testing.assert_allclose(table, state["table"], atol=1e-4)
    drawn = np.random.default_rng(0).normal(size=8)
    mine = condition(table, 3, drawn)
    theirs = condition_of(
        torch.from_numpy(table), np.array([3]), torch.from_numpy(drawn)[None].float()
    )
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
    medians = np.median(table, axis=2)[3]
    np.testing.assert_allclose(condition(table, 3)[0], medians, atol=1e-6)


@pytest.mark.slow
def test_the_text_tower_states_its_words(trained: Made) -> None:
    with OnnxRuntimeEngine(trained.work / "models" / "text_tower.onnx", "text_tower") as engine:
        words = stated_vocabulary(engine.metadata)
        assert {"happy", "glasses", "brows"} <= set(words)
        assert engine.network.inputs[0].range == (0.0, len(words) + 1.0)


@pytest.mark.slow
def test_a_recipe_that_is_done_is_not_trained_again(
    trained: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(trained.work / "text_image.json")
    monkeypatch.setattr(Trainer, "_one_step", lambda *_: pytest.fail("it trains again"))
    assert main(["text-image", *trained.words(), "--batch", "6"]) == 0
    assert read(trained.work / "text_image.json")["steps"] == before["steps"]


@pytest.mark.slow
def test_the_mapper_without_condition_is_kept_beside_the_other(trained: Made) -> None:
    words = [*trained.words(), "--batch", "6", "--condition", "none"]
    assert main(["emm", *words]) == 0
    assert read(trained.work / "styleclip.json")["condition"] == "none"


@pytest.mark.slow
def test_the_baseline_of_the_directions_takes_the_same_regressor(trained: Made) -> None:
    before = (trained.work / "regressor.pt").read_bytes()
    assert main(["directions", *trained.words(), "--batch", "6", "--no-hfld"]) == 0
    assert (trained.work / "regressor.pt").read_bytes() == before
    assert (trained.work / "directions_baseline.json").exists()


def test_the_chain_works_in_a_folder_of_its_face_space(tmp_path: Path) -> None:
    torch.save({"size": 64, "step": 1}, tmp_path / "latent.pt")
    assert work_folder(Path("out"), tmp_path / "latent.pt") == Path("out/space64-1")
    torch.save({"size": 64, "step": 1, "refined_step": 7}, tmp_path / "refined.pt")
    assert work_folder(Path("out"), tmp_path / "refined.pt") == Path("out/space64-1-refined7")
    recipes = [job.recipe for job in JOBS]
    assert recipes.index("emm") > recipes.index("text-image")
    assert recipes.index("emm") > recipes.index("classifiers")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--guides", "nowhere.pt"], "--guides: nowhere.pt does not exist"),
        (["--features", "nowhere.json"], "--features: nowhere.json does not exist"),
        (["--space", "nowhere.pt"], "--space: nowhere.pt does not exist"),
        (["--judges", "nowhere"], "belong together"),
        (["--judges", "nowhere", "--judges-code", __file__], "--judges: nowhere does not exist"),
    ],
)
def test_what_the_chain_needs_later_is_missed_at_once(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latent.pt").touch()
    places = ["--data", str(tmp_path), "--features", __file__, "--out", str(tmp_path)]
    minutes = ["--latent-minutes", "0", "--minutes-each", "0.1"]
    with pytest.raises(SystemExit) as ended:
        main(["latent-all", *minutes, *places, *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_what_an_emotion_adds_to_a_code_is_told_apart_from_the_light() -> None:
    random = np.random.default_rng(0)
    count, labels = 400, np.arange(400) % 8
    light = random.uniform(60, 160, count) + 40 * (labels == 3)  # surprise is brightly lit
    pixels = np.repeat(light.astype(np.uint8), 128 * 128).reshape(count, 128, 128)
    marks = np.repeat(mean_face()[None], count, 0) + random.normal(0, 0.005, (count, 106, 2))
    source = np.arange(count) // 8 % 2
    crops = Crops(pixels, marks, labels, np.zeros(count, bool), source)
    adds, lit = torch.randn(8, 2, 4), torch.randn(2, 4)
    codes = adds[torch.from_numpy(labels)] + torch.from_numpy(light / 50)[:, None, None] * lit
    votes, rows = np.eye(8, dtype=np.float32)[labels], np.arange(count)
    found = emotion_codes(CodedFaces(codes.float(), crops, votes, rows, rows[:0]))
    torch.testing.assert_close(found[3] - found[0], adds[3] - adds[0], atol=0.05, rtol=0)


def test_the_sizes_share_the_time_after_the_first() -> None:
    assert stages_of(CROP, 100.0, 0.6) == {SMALL: (0.0, 60.0), CROP: (60.0, 100.0)}
    assert stages_of(256, 100.0, 0.6) == {64: (0.0, 60.0), 128: (60.0, 80.0), 256: (80.0, 100.0)}
    assert stages_of(SMALL, 100.0, 0.6) == {SMALL: (0.0, 100.0)}


@pytest.mark.slow
def test_the_face_space_trains_grows_and_goes_on(tmp_path: Path) -> None:
    made = make(tmp_path)
    # Grown at once: by time it would hang on the speed of the machine.
    (made.work / "latent.pt").unlink()
    assert main(["latent", *made.words(0.05), "--grow-at", "0"]) == 0
    first = torch.load(made.work / "latent.pt", weights_only=True)
    assert first["size"] == CROP
    more = first["spent_s"] / 60 + 0.02
    assert main(["latent", *made.words(more), "--grow-at", "0"]) == 0
    second = torch.load(made.work / "latent.pt", weights_only=True)
    assert second["step"] > first["step"]
    assert second["spent_s"] > first["spent_s"]
