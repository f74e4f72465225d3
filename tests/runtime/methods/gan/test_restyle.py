from __future__ import annotations

import numpy as np
import pytest

from mien.engines import ModelError, UsageError
from mien.runtime.methods.gan.generator import Restyler
from mien.runtime.target import EMOTIONS, parse_target
from tests.runtime.methods.gan.networks import PART_LABELS, CountedGenerator, one_way_engine


def weights(text: str) -> np.ndarray:
    return parse_target(text).vector()


def squares(count: int, channels: int = 1, size: int = 64) -> np.ndarray:
    ramp = np.linspace(0.2, 0.6, count * channels * size * size, dtype=np.float32)
    return ramp.reshape(count, channels, size, size)


def test_luma_fills_three_channels_and_comes_back_as_their_mean() -> None:
    generator = CountedGenerator()
    restyle = Restyler(generator.engine())
    given = squares(1)
    edited = restyle(given, restyle.labels.ones("happy", ["face"]))
    (seen,) = generator.given
    assert seen.shape == (1, 3, 64, 64)
    for channel in seen[0]:
        np.testing.assert_allclose(channel, 2 * given[0, 0] - 1, atol=1e-6)
    assert edited.shape == given.shape
    np.testing.assert_allclose(edited, given + 0.15, atol=1e-5)


def test_colour_stays_colour() -> None:
    restyle = Restyler(CountedGenerator(size=32).engine(colour="rgb"))
    given = squares(1, 3, 32)
    edited = restyle(given, restyle.labels.ones("sad", ["face"]))
    assert edited.shape == given.shape
    np.testing.assert_allclose(edited, given - 0.15, atol=1e-5)


@pytest.mark.parametrize(("batch", "runs"), [(1, 3), (2, 2), (4, 1)])
def test_any_number_of_squares_goes_through_any_batch(batch: int, runs: int) -> None:
    generator = CountedGenerator(PART_LABELS, batch)
    restyle = Restyler(generator.engine("stargan_parts"))
    names = ("left_eye", "nose", "mouth")
    given = squares(3)
    edited = restyle(given, restyle.labels.ones("happy", names))
    assert generator.calls == runs
    np.testing.assert_allclose(edited, given + 0.15, atol=1e-5)


def test_pictures_stay_within_black_and_white() -> None:
    restyle = Restyler(CountedGenerator().engine())
    edited = restyle(np.full((1, 1, 64, 64), 0.95, np.float32), restyle.labels.ones("happy", [""]))
    assert edited.max() == 1


def test_labels_are_weights_of_emotions_and_the_kind_of_part() -> None:
    labels = Restyler(CountedGenerator(PART_LABELS, 4).engine("stargan_parts")).labels
    mixed = labels.mixes(weights("happy:0.7+sad:0.2"), ("right_eye", "mouth"), "neutral")
    np.testing.assert_allclose(mixed[0], [0.1, 0.7, 0.2, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(mixed[1], [0.1, 0.7, 0.2, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(
        labels.mixes(weights("happy:0.4"), ("nose",), None)[0, :3], [0, 0.4, 0]
    )


def test_labels_of_other_words_and_orders_are_understood() -> None:
    labels = Restyler(CountedGenerator(("Anger", "happiness", "Glasses")).engine()).labels
    assert labels.emotions == ("angry", "happy")
    np.testing.assert_array_equal(labels.ones("happy", ["face"]), [[0, 1, 0]])
    assert labels.rest is None


def test_emotions_that_a_model_has_no_label_for_are_refused_by_name() -> None:
    labels = Restyler(CountedGenerator().engine()).labels
    labels.check(parse_target("happy:0.5+sad:0.5"))
    with pytest.raises(UsageError, match=r"'stargan_face' cannot make a face angry \(it can: neu"):
        labels.check(parse_target("happy:0.5+angry:0.5"))


def test_a_one_way_model_says_its_way() -> None:
    labels = Restyler(one_way_engine()).labels
    assert (labels.source, labels.emotions) == ("neutral", ("happy",))
    labels.check(parse_target("happy"))
    message = r"cannot make a face sad \(it can: happy, from neutral faces\)"
    with pytest.raises(UsageError, match=message):
        labels.check(parse_target("sad"))


def test_the_share_of_a_mix_is_what_the_model_can_give_of_it() -> None:
    labels = Restyler(one_way_engine()).labels
    assert labels.share(weights("happy:0.3+sad:0.7")) == pytest.approx(0.3)
    assert labels.share(np.ones(len(EMOTIONS), np.float32)) == 1


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"labels": "Black_Hair,Male,Young"}, r"none of its labels is an emotion \(it has: Black"),
        ({"labels": "neutral,happy"}, "received 2 label names, expected 3"),
    ],
)
def test_models_without_usable_labels_are_refused(facts: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Restyler(CountedGenerator().engine(**facts))


def test_a_one_way_model_without_a_way_is_refused() -> None:
    with pytest.raises(ModelError, match="direction is stated as 'happy', expected a pair"):
        Restyler(one_way_engine(direction="happy"))
