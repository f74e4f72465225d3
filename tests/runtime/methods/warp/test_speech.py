"""Lips and lids stay the speaker's."""

from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.methods.warp.speech import (
    FROM_BELOW,
    LID_COLUMNS,
    LIP_COLUMNS,
    NARROWER,
    OpenEyes,
    RestingLips,
    SteadyLids,
    keep_blinks,
    keep_lips,
    lid_heights,
    lids_opening,
    softened_lips,
    spoken_width,
    taken_from_below,
)
from tests.runtime.faces.shapes import mean_face


def gaps(landmarks: np.ndarray) -> np.ndarray:
    return np.array([landmarks[low, 1] - landmarks[up, 1] for _, up, low, _ in LIP_COLUMNS])


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.08])
def test_the_gap_between_the_lips_is_the_speakers(gap: float) -> None:
    rng = np.random.default_rng(3)
    face = mean_face()
    face[[103, 102, 101], 1] = face[[97, 98, 99], 1] + gap
    kept = keep_lips(rng.normal(0, 0.03, (106, 2)).astype(np.float32))
    np.testing.assert_allclose(gaps(face + kept), gap, atol=1e-6)


def test_an_opening_is_shown_as_far_as_it_is_let() -> None:
    face, asked = mean_face(), np.zeros((106, 2), np.float32)
    asked[[103, 102, 101], 1] = 0.06
    before = gaps(face)
    for share in (0.0, 0.5, 1.0):
        shown = gaps(face + keep_lips(asked, share)) - before
        np.testing.assert_allclose(shown, 0.06 * share, atol=1e-6)


def test_an_opening_that_is_not_shown_is_taken_back_by_the_lips_in_their_shares() -> None:
    asked = np.zeros((106, 2), np.float32)
    asked[[103, 102, 101], 1] = 0.06
    for below in (0.5, 0.8, 1.0):
        kept = keep_lips(asked, 0.0, from_below=below)
        np.testing.assert_allclose(kept[[98, 102], 1], (1 - below) * 0.06, atol=1e-6)


@pytest.mark.parametrize(("gap", "left"), [(0.04, 0.25), (0.09, 0.625), (0.14, 1.0)])
def test_the_lips_of_a_smile_close_by_their_share_and_those_of_a_laugh_do_not(
    gap: float, left: float
) -> None:
    face = mean_face()
    face[[103, 102, 101], 1] = face[[97, 98, 99], 1] + gap
    closing = softened_lips(face, 0.75, gap)
    kept = keep_lips(np.zeros((106, 2), np.float32), 0.0, closing)
    np.testing.assert_allclose(gaps(face + kept), left * gap, atol=1e-6)
    assert kept[93, 1] == pytest.approx(kept[102, 1])  # a lip moves as a whole


def test_softened_lips_move_no_faster_than_the_speaker_s() -> None:
    shown = []
    for gap in (0.089, 0.091):
        face = mean_face()
        face[[103, 102, 101], 1] = face[[97, 98, 99], 1] + gap
        shown.append(gap - softened_lips(face, 0.75, 0.09)[1])
    assert 0 < shown[1] - shown[0] <= 0.002 + 1e-6


@pytest.mark.parametrize("weights", [np.zeros(8), 0.5 * np.eye(8)[1]])
def test_both_lips_take_back_what_an_emotion_without_opening_asks_for(weights: np.ndarray) -> None:
    assert taken_from_below(weights) == 0.5


def test_a_mix_takes_back_from_below_by_its_shares() -> None:
    happy, fearful = np.eye(8)[[1, 4]]
    assert taken_from_below(0.2 * happy + 0.6 * fearful) == pytest.approx(
        0.25 * FROM_BELOW[1] + 0.75 * FROM_BELOW[4]
    )


@pytest.mark.parametrize("rate", [24, 30, 60, 120])
def test_lips_rest_at_any_frame_rate_though_landmarks_tremble(rate: int) -> None:
    rests, rng = RestingLips(), np.random.default_rng(2)
    at_rest = []
    for frame in range(4 * rate):
        rests(0.03 + float(rng.normal(0, 0.0015)), frame / rate)
        at_rest.append(rests.at_rest)
    assert np.mean(at_rest) > 0.8


def test_lips_that_may_not_open_are_hardly_narrowed_and_widened_as_asked() -> None:
    face, narrow = mean_face(), np.zeros((106, 2), np.float32)
    narrow[84], narrow[90] = (0.03, 0.01), (-0.03, 0.01)
    for unopened, left in ((0.0, 1.0), (1.0, NARROWER)):
        kept = spoken_width(narrow, face, unopened)
        np.testing.assert_allclose(kept[[84, 90], 0], [0.03 * left, -0.03 * left], atol=1e-7)
        np.testing.assert_allclose(kept[[84, 90], 1], 0.01)
        np.testing.assert_array_equal(spoken_width(-narrow, face, unopened), -narrow)


def test_a_jaw_that_drops_is_held_with_the_lips() -> None:
    asked = np.zeros((106, 2), np.float32)
    asked[16, 1] = 0.05
    assert keep_lips(asked)[16, 1] == pytest.approx(0)
    assert keep_lips(asked, 1.0)[16, 1] == pytest.approx(0.05)


def with_eyes(share: float) -> np.ndarray:
    face = mean_face()
    for eye in LID_COLUMNS:
        for upper, lower in eye:
            middle, height = face[[upper, lower], 1].mean(), face[lower, 1] - face[upper, 1]
            face[[upper, lower], 1] = middle - share * height / 2, middle + share * height / 2
    return face


def test_a_blink_survives_narrowed_and_widened_eyes() -> None:
    open_eyes = lids_opening(mean_face())
    for change in (-0.02, 0.02):
        asked = np.zeros((106, 2), np.float32)
        for eye in LID_COLUMNS:
            for _, lower in eye:
                asked[lower, 1] = change
        shown = []
        for share in np.linspace(0, 1, 9):
            face = with_eyes(float(share))
            shown.append(
                lids_opening(face + keep_blinks(face, asked, lid_heights(face), open_eyes)).mean()
            )
        assert shown[0] == pytest.approx(0, abs=1e-6)
        assert np.corrcoef(shown, np.linspace(0, 1, 9))[0, 1] > 0.999
        assert np.sign(shown[-1] - lids_opening(mean_face()).mean()) == np.sign(change)


def test_lids_that_tremble_are_held_steady_and_a_blink_is_followed_at_once() -> None:
    open_eyes, lids = lids_opening(mean_face()), SteadyLids()
    rng = np.random.default_rng(1)
    told, held = [], []
    for frame in range(120):
        share = 0.1 if 60 <= frame < 63 else 1 + float(rng.uniform(-0.08, 0.08))
        face = with_eyes(share)
        told.append(lids_opening(face)[0])
        held.append(lids(face, open_eyes, frame / 30).mean(1)[0])
    calm = slice(0, 60)
    assert np.diff(held[calm]).std() < 0.35 * np.diff(told[calm]).std()
    np.testing.assert_allclose(held[60:63], told[60:63], atol=1e-9)
    np.testing.assert_allclose(held[63], told[63], atol=1e-9)


def test_open_eyes_are_not_learnt_from_blinks() -> None:
    eyes = OpenEyes()
    for frame in range(90):
        learnt = eyes(with_eyes(0.1 if frame % 30 < 4 else 1.0), frame / 30)
    np.testing.assert_allclose(learnt, lids_opening(mean_face()), rtol=0.1)


def test_lips_rest_at_first_are_taken_back_at_a_word_and_rest_again_later() -> None:
    rests = RestingLips()
    assert rests(0.0, 0.0) == 1.0
    assert rests(0.0, 0.1) == 1.0
    for step in range(12):
        said = rests(0.04 * (step % 2), 0.1 + (step + 1) / 30)
    assert said == 0.0
    for step in range(90):
        later = rests(0.0, 1.0 + step / 30)
    assert later == pytest.approx(1.0, abs=1e-4)


def test_how_far_resting_lips_are_opened_does_not_show_the_noise_of_their_gap() -> None:
    rests, rng = RestingLips(), np.random.default_rng(2)
    shown = [rests(0.01 + float(rng.uniform(-0.003, 0.003)), frame / 30) for frame in range(90)]
    assert shown[-1] == pytest.approx(1 - 0.01 / RestingLips.OPEN_ALREADY, abs=0.05)
    assert np.abs(np.diff(shown)).max() < 0.02  # the gap alone would make it 0.15


def test_bared_teeth_are_not_opened_where_a_dark_mouth_is() -> None:
    dark, bright = (RestingLips()(0.035, 0.0, bared) for bared in (0.0, 1.0))
    assert dark > 0.5
    assert bright < 0.2
