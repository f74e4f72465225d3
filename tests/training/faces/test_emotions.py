import json

import numpy as np
import pytest
import torch

from mien.engines import OnnxRuntimeEngine
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES
from mien.export.models.emotions import EmotionClassifier
from mien.training.faces.emotions import (
    PEAK_RATE,
    Run,
    Split,
    augment,
    finish,
    learning_rate,
    score,
    train,
)


def some_faces(count: int = 32) -> Split:
    chance = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (count, 1, 48, 48), generator=chance, dtype=torch.uint8)
    classes = torch.arange(count) % len(FER_CLASSES)
    return Split(pictures, torch.nn.functional.one_hot(classes, len(FER_CLASSES)).float())


def test_augmented_faces_are_pictures_of_the_same_shape():
    faces = some_faces().pictures.float() / 255
    moved = augment(faces, torch.Generator().manual_seed(2))
    assert moved.shape == faces.shape
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert not torch.equal(moved, faces)
    again = augment(faces, torch.Generator().manual_seed(2))
    assert torch.equal(moved, again)


def test_augmentation_hides_at_most_a_part_and_mirrors_half():
    ramp = torch.linspace(0, 1, 48).expand(400, 1, 48, 48)
    moved = augment(ramp.clone(), torch.Generator().manual_seed(4))
    falls = (moved[:, 0, :, -4:].mean((1, 2)) < moved[:, 0, :, :4].mean((1, 2))).float().mean()
    assert 0.4 < float(falls) < 0.6


def test_the_rate_rises_peaks_and_falls_to_nothing():
    assert learning_rate(0) < 0.1 * PEAK_RATE
    assert learning_rate(0.08) == pytest.approx(PEAK_RATE)
    assert learning_rate(1.0) == pytest.approx(0, abs=1e-9)


def test_the_score_counts_by_true_class():
    split = some_faces(21)
    told = score(EmotionClassifier(stages=((8, 1),)).eval(), split)
    assert [sum(row) for row in told["confusion"]] == [3] * len(FER_CLASSES)
    assert set(told["recall"]) == set(FER_CLASSES)


def test_a_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("mien.training.faces.emotions.BATCH", 8)
    run = Run(tmp_path, seed=1)
    train(run, some_faces(), minutes=0.005)
    assert run.steps > 0
    again = Run(tmp_path, seed=1)
    assert again.steps == run.steps
    for old, new in zip(
        run.averaged.state_dict().values(), again.averaged.state_dict().values(), strict=True
    ):
        assert torch.equal(old, new)


def test_a_finished_run_leaves_a_classifier_whose_card_has_its_confusion(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mien.training.faces.emotions.load_split", lambda data, split, clear: some_faces(21)
    )
    monkeypatch.setattr("mien.training.faces.emotions.load_press", lambda data: some_faces(21))
    run = Run(tmp_path, seed=1)
    run.runs += [600.0, 1500.0]
    finish(run, tmp_path)
    card = (tmp_path / "judge.md").read_text()
    told = json.loads((tmp_path / "judge.json").read_text())
    assert told["minutes"] == 35
    assert "600 s, then 1500 s" in card
    for name, counts in zip(FER_CLASSES, told["private"]["confusion"], strict=True):
        assert f"| {name} | " + " | ".join(map(str, counts)) in card
    assert told["sha256"] in card
    with OnnxRuntimeEngine(tmp_path / "judge.onnx", EMOTION_CLASSIFIER) as engine:
        face = np.random.default_rng(0).random((1, 1, 48, 48), np.float32)
        assert engine.infer({"face": face})["probabilities"].sum() == pytest.approx(1, abs=1e-5)
    assert (tmp_path / "judge.onnx").stat().st_size < 7e6
