"""The parts paper's methods in the whole filter: ONNX graphs, the bundled sample."""

from __future__ import annotations

from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from mien.calibration.tables.sheet import rgb_picture
from mien.engines import NETWORKS, Catalog, ModelError, UsageError
from mien.engines.networks import SHIPPED_CLASSES, parser_network, stargan_network
from mien.runtime import Filter, Frame, parse_target
from mien.runtime.methods import method_spec, method_specs
from mien.runtime.video import read_frames
from tests.runtime.methods.gan.networks import (
    CELEBAMASK,
    class_map,
    logits_of,
    write_network,
    write_style_models,
)

SAMPLE = Path(__file__).parents[4] / "apps" / "sample" / "sample.mp4"
MODES = ("image", "face", "parts")
WAYS = list(product(MODES, ("stargan", "cyclegan"), ("field", "paste")))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_style_models(tmp_path_factory.mktemp("style"))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(islice(read_frames(SAMPLE), 4))


def test_the_methods_are_found_by_their_modules() -> None:
    assert {"warp", *MODES} <= set(method_specs())


@pytest.mark.parametrize(("mode", "gan", "blend"), WAYS)
def test_every_way_edits_the_face_and_nothing_else(
    mode: str, gan: str, blend: str, models: Path, frames: list[Frame]
) -> None:
    with Filter("happy", method=mode, gan=gan, blend=blend, models=models) as change:
        edited = change.apply(frames[0])
        (face,) = change.faces
        assert change.edited == (face.track_id,)
        assert change.unedited_parts == ()
        assert f"{gan}_{mode}" in change.providers
        assert ("face_parser" in change.providers) == (mode != "image")
    before, after = frames[0].planes[0].samples, edited.planes[0].samples
    assert (after != before).mean() > 0.05
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    reach = 0.6 * (high - low)
    x0, y0 = np.maximum(0, np.floor(low - reach)).astype(int)
    x1, y1 = np.ceil(high + reach).astype(int)
    outside = np.ones(before.shape, bool)
    outside[y0:y1, x0:x1] = False
    np.testing.assert_array_equal(before[outside], after[outside])
    for index in (1, 2):  # models of grey pictures move colour at most
        if blend == "paste":
            assert edited.planes[index] is frames[0].planes[index]
        far = outside[::2, ::2]
        colour = frames[0].planes[index].samples
        np.testing.assert_array_equal(colour[far], edited.planes[index].samples[far])


def test_the_same_change_goes_through_both_blends(models: Path, frames: list[Frame]) -> None:
    shown = {}
    for blend in ("field", "paste"):
        with Filter("happy", method="face", gan="cyclegan", blend=blend, models=models) as change:
            shown[blend] = change.apply(frames[0]).planes[0].samples.astype(int)
    assert np.abs(shown["field"] - shown["paste"]).max() > 8


def test_an_expression_eases_in_and_the_frame_given_is_not_written_to(
    models: Path, frames: list[Frame]
) -> None:
    kept = frames[0].planes[0].samples.copy()
    with Filter(None, method="parts", models=models) as change:
        change.apply(frames[0])
        change.target = parse_target("happy")
        sizes = []
        for frame in frames[1:]:
            edited = change.apply(frame).planes[0].samples.astype(int)
            sizes.append(np.abs(edited - frame.planes[0].samples).sum())
    assert sizes == sorted(sizes)
    np.testing.assert_array_equal(frames[0].planes[0].samples, kept)


def test_parts_that_are_not_seen_are_told(tmp_path: Path, frames: list[Frame]) -> None:
    classes = tuple("hair" if name == "r_eye" else name for name in SHIPPED_CLASSES)
    folder = write_style_models(tmp_path / "models", classes)
    with Filter("happy", method="parts", models=folder) as change:
        edited = change.apply(frames[0])
        assert change.unedited_parts == ("right_eye",)
        assert edited is not frames[0]
    with Filter("happy", method="face", models=folder) as change:
        assert change.apply(frames[0]) is frames[0]
        assert change.unedited_parts == ("right_eye",)
        assert change.edited == ()


@pytest.mark.parametrize("gan", ["stargan", "cyclegan"])
def test_an_emotion_without_a_label_is_refused_at_once_and_later(gan: str, models: Path) -> None:
    message = r"cannot make a face angry \(it can: "
    with pytest.raises(UsageError, match=message):
        Filter("angry", method="parts", gan=gan, models=models)
    with Filter("happy", method="parts", gan=gan, models=models) as change:
        happy = change.target
        with pytest.raises(UsageError, match=message):
            change.target = parse_target("happy:0.5+angry:0.5")
        assert change.target is happy


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "warp", "gan": "stargan"}, "the method warp has no option gan; leave gan out"),
        ({"method": "warp", "blend": "paste"}, "the method warp has no option blend; leave"),
        ({"method": "parts", "gan": "stylegan"}, r"unknown gan 'stylegan' \(known: stargan, cycle"),
        ({"method": "face", "blend": "mix"}, r"unknown blend 'mix' \(known: field, paste\)"),
        (
            {"method": "mouth"},
            r"unknown method 'mouth' \(known: warp, diffusion, directions, emm, face, image, .*\)",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(
    settings: dict[str, str], message: str, models: Path
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        Filter("happy", models=models, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("without", ["stargan_parts", "face_parser"])
def test_a_catalog_that_lacks_a_network_says_which(without: str, models: Path) -> None:
    whole = Catalog.load(models)
    known = {network.name for network in NETWORKS} | {"stargan_parts", "face_parser"}
    catalog = Catalog(tuple(entry for entry in whole.entries if entry.network in known - {without}))
    with pytest.raises(ModelError, match=f"has no model for the network '{without}'"):
        method_spec("parts").open(catalog, "cpu", {})


def test_models_of_other_sizes_words_and_colours_run_as_they_are(
    tmp_path: Path, frames: list[Frame]
) -> None:
    """As public checkpoints are: 128 pixels, RGB, one square at once, 19 classes at 512 pixels."""
    names = ("Anger", "happiness", "Neutral", "contempt")
    network = stargan_network("stargan_parts", labels=4, batch=1, size=128)
    reddens = np.zeros((4, 3), np.float32)
    reddens[1, 0] = 0.4
    nodes = [
        helper.make_node("MatMul", ["label", "reddens"], ["step"]),
        helper.make_node("Reshape", ["step", "shape"], ["map"]),
        helper.make_node("Add", ["image", "map"], ["edited"]),
    ]
    constants = {"reddens": reddens, "shape": np.array([1, 3, 1, 1], np.int64)}
    folder = tmp_path / "own"
    folder.mkdir()
    write_network(folder, network, nodes, constants, {"labels": ",".join(names)})
    parser = parser_network(classes=len(CELEBAMASK), size=512)
    logits = logits_of(class_map(512, CELEBAMASK), len(CELEBAMASK))
    identity = [helper.make_node("Identity", ["answer"], ["logits"])]
    facts = {"classes": ",".join(CELEBAMASK), "colour": "rgb"}
    write_network(folder, parser, identity, {"answer": logits}, facts)
    with Filter("happy", method="parts", models=folder) as change:
        edited = change.apply(frames[0])
        assert change.unedited_parts == ()
        with pytest.raises(UsageError, match=r"it can: angry, happy, neutral, contemptuous"):
            change.target = parse_target("sad")
    before, after = (rgb_picture(frame).astype(int) for frame in (frames[0], edited))
    red, green, blue = (after - before)[np.abs(after - before).sum(-1) > 40].mean(0)
    assert red > 30
    assert abs(green) < 6
    assert abs(blue) < 6
