"""The latent methods in the whole filter: ONNX graphs, the bundled sample."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mien.engines import Catalog, Engine, ModelError, Network, UsageError
from mien.runtime import Filter, Frame
from mien.runtime.methods import method_spec
from mien.runtime.target import Target, parse_target
from mien.runtime.video import read_frames
from tests.runtime.methods.latent.networks import (
    COLOUR_LAYERS,
    SIDE,
    VOCABULARY,
    write_directions,
    write_emm,
    write_space,
    write_text,
)

SAMPLE = Path(__file__).parents[4] / "apps" / "sample" / "sample.mp4"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_space(tmp_path_factory.mktemp("latent"))
    return write_text(write_directions(write_emm(folder)))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(islice(read_frames(SAMPLE), 2))


def luma(frame: Frame) -> np.ndarray:
    return frame.planes[0].samples.astype(int)


def edited(
    frame: Frame, models: Path, target: str | Target = "happy", **told: object
) -> np.ndarray:
    told.setdefault("method", "emm")
    with Filter(target, models=models, **told) as change:  # type: ignore[arg-type]
        return luma(change.apply(frame))


def test_the_mapper_edits_the_face_and_nothing_else(models: Path, frames: list[Frame]) -> None:
    with Filter("happy", method="emm", models=models) as change:
        after = change.apply(frames[0])
        (face,) = change.faces
        used = {"stylegan2_synthesis", "latent_encoder", "emm", "latent_classifier", "text_tower"}
        assert used <= set(change.providers)
    change_of = luma(after) - luma(frames[0])
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    x, y = face.landmarks[84:104].mean(0).astype(int)
    assert change_of[y - 2 : y + 3, x - 2 : x + 3].mean() > 10  # the blot is light, and by the lips
    reach = 0.4 * (high - low)
    outside = np.ones(change_of.shape, bool)
    (x0, y0), (x1, y1) = np.maximum(0, low - reach).astype(int), (high + reach).astype(int)
    outside[y0:y1, x0:x1] = False
    assert not change_of[outside].any()


def test_a_code_that_stays_leaves_the_frame_as_it_is(models: Path, frames: list[Frame]) -> None:
    assert np.abs(edited(frames[0], models, "contemptuous") - luma(frames[0])).max() <= 1


@pytest.mark.parametrize("batch", [1, 3])
def test_pictures_are_the_same_however_many_a_graph_takes(
    batch: int, models: Path, frames: list[Frame], tmp_path: Path
) -> None:
    other = write_emm(write_space(tmp_path / "models", batch=batch))
    np.testing.assert_array_equal(edited(frames[0], other), edited(frames[0], models))


def test_intensity_scales_the_code_and_beyond_one_the_field(
    models: Path, frames: list[Frame]
) -> None:
    before = luma(frames[0])
    amounts = [
        np.abs(edited(frames[0], models, parse_target("happy", strength)) - before).sum()
        for strength in (0.0, 0.5, 1.0, 1.5)
    ]
    assert amounts[0] == 0
    assert amounts == sorted(amounts)
    assert amounts[3] > 1.3 * amounts[2] > 1.3 * amounts[1]


def test_a_mix_is_between_its_emotions(models: Path, frames: list[Frame]) -> None:
    means = [
        edited(frames[0], models, target).mean() for target in ("sad", "happy:0.5+sad:0.5", "happy")
    ]
    assert means == sorted(means)
    half = edited(frames[0], models, "happy:0.5").mean()
    assert luma(frames[0]).mean() < half < means[2]


def test_a_seed_draws_the_condition_and_without_one_it_is_the_median(
    frames: list[Frame], tmp_path: Path
) -> None:
    folder = write_emm(write_space(tmp_path / "models"), conditioned=-0.3)
    plain, again = edited(frames[0], folder), edited(frames[0], folder)
    np.testing.assert_array_equal(plain, again)
    seeded = [edited(frames[0], folder, seed=seed) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(seeded[0], seeded[1])
    assert (seeded[0] != plain).any()
    assert (seeded[0] != seeded[2]).any()


def test_the_source_emotion_conditions_the_mapper(frames: list[Frame], tmp_path: Path) -> None:
    shown = {}
    for source in ("neutral", "angry"):
        folder = write_emm(write_space(tmp_path / source), source=source, conditioned=-0.3)
        shown[source] = edited(frames[0], folder)
    # A neutral face is surely neutral, so its blot is darker.
    assert (shown["neutral"] - shown["angry"]).min() < -8


def test_an_emotion_that_the_mapper_was_not_trained_for_is_refused(
    tmp_path: Path, models: Path
) -> None:
    folder = write_emm(write_space(tmp_path / "models"), targets=("sad", "happy"))
    with pytest.raises(UsageError, match=r"cannot make a face angry \(it can: sad, happy\)"):
        Filter("angry", method="emm", models=folder)


@pytest.mark.parametrize(
    ("prompt", "emotion"), [("a surprised face", "surprised"), ("Sad!", "sad")]
)
def test_a_prompt_picks_the_emotion(
    prompt: str, emotion: str, models: Path, frames: list[Frame]
) -> None:
    asked = Target(parse_target("neutral").weights, prompt=prompt)
    np.testing.assert_array_equal(
        edited(frames[0], models, asked), edited(frames[0], models, emotion)
    )


def test_a_prompt_of_two_emotions_mixes_them(models: Path, frames: list[Frame]) -> None:
    asked = Target(parse_target("neutral").weights, prompt="a happy surprised face")
    shown = edited(frames[0], models, asked)
    # The shares of a prompt are not quite a half, and edges in the picture show the least shift.
    off = np.abs(shown - edited(frames[0], models, "happy:0.5+surprised:0.5")).mean()
    assert off < 0.1 * np.abs(shown - luma(frames[0])).mean()


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("zebra", "says nothing that this model knows"),
        ("a suprised face", "did you mean 'surprised'"),
        ("glasses", "names no expression"),
        ("...", "has no word"),
    ],
)
def test_a_prompt_that_says_nothing_is_refused(prompt: str, told: str, models: Path) -> None:
    with pytest.raises(UsageError, match=told):
        Filter(Target(parse_target("neutral").weights, prompt=prompt), method="emm", models=models)


def test_a_prompt_needs_a_text_tower_and_a_method_that_reads(tmp_path: Path) -> None:
    folder = write_emm(write_space(tmp_path / "models"))
    asked = Target(parse_target("neutral").weights, prompt="a happy face")
    with pytest.raises(UsageError, match="needs the network text_tower"):
        Filter(asked, method="emm", models=folder)
    with pytest.raises(UsageError, match="takes no prompt"):
        Filter(asked)


def test_attributes_move_and_layers_hold_them_back(models: Path, frames: list[Frame]) -> None:
    before = luma(frames[0])

    def change(**told: str) -> np.ndarray:
        return edited(frames[0], models, "neutral", method="directions", **told) - before

    up, down = change(attribute="brows_raised:+1"), change(attribute="brows_raised:-1")
    assert up.max() > 10
    assert down.min() < -10
    assert np.corrcoef(up.ravel(), down.ravel())[0, 1] < -0.5  # but for what the landmarks move
    part = change(attribute="brows_raised:+1", layers="fine")  # below the attribute's blot
    assert np.abs(part).sum() < 0.7 * np.abs(up).sum()
    np.testing.assert_array_equal(change(attribute="brows_raised", layers="0-3,4-7"), up)


def test_an_attribute_serves_the_emotion_that_it_names(models: Path, frames: list[Frame]) -> None:
    by_emotion = edited(frames[0], models, "happy", method="directions")
    by_name = edited(frames[0], models, "neutral", method="directions", attribute="smiling")
    np.testing.assert_array_equal(by_emotion, by_name)
    with pytest.raises(
        UsageError,
        match=r"no direction makes a face sad \(emotions: happy; attributes: smiling, brows",
    ):
        Filter("sad", method="directions", models=models)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"attribute": "grin:1"}, r"unknown attribute 'grin' \(known: smiling, brows_raised, male"),
        ({"attribute": "smiling:2"}, "an amount in -1..1"),
        ({"attribute": "smiling:nan"}, "an amount in -1..1"),
        ({"attribute": "smiling:more"}, "an amount in -1..1"),
        ({"layers": "0-8"}, "numbers in 0-7"),
        ({"layers": "5-2"}, "numbers in 0-7"),
        ({"layers": "fein"}, "coarse, middle, fine"),
    ],
)
def test_what_no_direction_is_told_is_refused(
    told: dict[str, str], message: str, models: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        Filter("neutral", method="directions", models=models, **told)


def test_public_networks_see_ffhq_crops_in_colour(tmp_path: Path, frames: list[Frame]) -> None:
    folder = write_emm(write_space(tmp_path / "models", channels=3), layers=COLOUR_LAYERS)
    method = method_spec("emm").open(Catalog.load(folder), "cpu", {})
    assert (method.crop.alignment, method.crop.is_colour) == ("ffhq", True)
    assert method.crop.size == 2 * SIDE
    method.close()
    with Filter("happy", method="emm", models=folder) as change:
        after = change.apply(frames[0])
    assert (luma(after) != luma(frames[0])).mean() > 0.01


def test_own_networks_see_the_canonical_crop_in_luma(models: Path) -> None:
    method = method_spec("emm").open(Catalog.load(models), "cpu", {})
    assert (method.crop.alignment, method.crop.is_colour) == ("canonical", False)
    method.close()


@pytest.mark.parametrize(
    ("method", "missing"),
    [
        ("emm", "stylegan2_synthesis, latent_encoder, latent_classifier, emm"),
        ("directions", "stylegan2_synthesis, latent_encoder, latent_walk"),
    ],
)
def test_all_missing_networks_are_named_in_one_line(method: str, missing: str) -> None:
    there = Catalog(tuple(e for e in Catalog.bundled().entries if e.network not in missing))
    with pytest.raises(ModelError) as caught:
        Filter("happy", method=method, models=there)
    assert f"the method {method} lacks the networks {missing}; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_of_two_spaces_are_refused_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Engine] = []
    ordinary = Catalog.open

    def watched(catalog: Catalog, network: Network | str, **settings: object) -> Engine:
        opened.append(ordinary(catalog, network, **settings))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(Catalog, "open", watched)
    folder = write_emm(write_space(tmp_path / "models", layers=16))
    with pytest.raises(ModelError, match="use networks of one face space"):
        Filter("happy", method="emm", models=folder)
    assert {engine.network.name for engine in opened} >= {"stylegan2_synthesis", "latent_encoder"}
    assert all(engine._closed for engine in opened)


def test_a_tower_without_words_for_emotions_is_no_help(tmp_path: Path) -> None:
    folder = write_emm(write_space(tmp_path / "models"))
    write_text(folder, tuple(word for word in VOCABULARY if word in ("a", "face", "glasses")))
    asked = Target(parse_target("neutral").weights, prompt="glasses")
    with pytest.raises(UsageError, match="names no expression"):
        Filter(asked, method="emm", models=folder)
