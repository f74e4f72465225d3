import numpy as np
import pytest

from mien.calibration.clips.series import (
    CLOSED,
    find_blinks,
    lag,
    measure_closed_lift,
    measure_eyes,
    measure_linearity,
    measure_lips,
)

REST = 0.01


def speech(frames: int = 120) -> np.ndarray:
    """Lips that open and close twice a second, 30 frames each."""
    return REST + 0.15 * np.clip(np.sin(np.arange(frames) * 2 * np.pi / 15), 0, None)


def eyes(frames: int, blinks: tuple[int, ...]) -> np.ndarray:
    """Open eyes with blinks of five frames at these places."""
    opening = np.full(frames, 0.10) + 0.002 * np.sin(np.arange(frames))
    for at in blinks:
        opening[at : at + 5] = [0.07, 0.03, 0.02, 0.04, 0.08]
    return opening


def test_lips_left_unchanged_follow_in_full():
    found = measure_lips(speech(), speech())
    assert found.moves
    assert found.correlation == pytest.approx(1)
    assert (found.lag, found.kept, found.spoken_kept) == (0, 1, 1)
    assert found.closures == found.spoken == int((speech() < CLOSED).sum())


def test_lips_that_never_close_lose_every_closure_and_keep_their_correlation():
    found = measure_lips(speech(), speech() + 0.08)
    assert found.correlation == pytest.approx(1)
    assert found.kept == found.spoken_kept == 0


def test_a_lag_is_told_in_frames_and_with_its_sign():
    source = speech()
    late = np.concatenate([source[:1].repeat(2), source[:-2]])
    assert lag(source, late) == 2
    assert lag(late, source) == -2
    assert lag(source, source) == 0
    assert measure_lips(source, late).lag == 2


def test_noise_is_no_lag():
    chance = np.random.default_rng(1)
    source = speech()
    assert lag(source, source + chance.normal(0, 0.01, len(source))) == 0


def test_closures_at_rest_are_none_of_speech():
    source = np.concatenate([np.full(100, REST), speech(60)])
    edited = source.copy()
    edited[:80] = 0.1  # opened at rest, and closed in time for the first word
    found = measure_lips(source, edited)
    assert found.spoken < found.closures
    assert found.spoken_kept == 1
    assert found.kept < 0.5


def test_lips_that_rest_have_no_correlation_and_still_closures():
    still = REST + 0.001 * np.sin(np.arange(50.0))
    found = measure_lips(still, still + 0.002)
    assert not found.moves
    assert np.isnan(found.correlation)
    assert (found.closures, found.kept, found.spoken) == (50, 1, 0)


def test_frames_without_a_face_are_left_out():
    source, edited = speech(), speech()
    edited[10:30] = np.nan
    found = measure_lips(source, edited)
    assert found.correlation == pytest.approx(1)
    assert found.kept == 1
    nobody = measure_lips(np.full(9, np.nan), np.full(9, np.nan))
    assert nobody.closures == 0
    assert np.isnan(nobody.span)


def test_blinks_are_found_and_a_squint_is_none():
    assert [blink.start for blink in find_blinks(eyes(150, (40, 100)))] == [41, 101]
    squint = eyes(150, ())
    squint[60:] = 0.03
    assert find_blinks(squint) == []
    assert find_blinks(np.full(20, np.nan)) == []


def test_blinks_of_a_narrowed_eye_are_kept_and_the_slope_says_how_narrow():
    source = eyes(150, (40, 100))
    found = measure_eyes(source, 0.8 * source)
    assert (found.blinks, found.kept) == (2, 2)
    assert found.correlation == pytest.approx(1)
    assert found.slope == pytest.approx(0.8)


def test_a_blink_that_the_edit_does_not_show_is_lost():
    source = eyes(150, (40, 100))
    edited = source.copy()
    edited[38:48] = 0.10
    assert measure_eyes(source, edited).kept == 1
    shallow = 0.10 - 0.4 * (0.10 - source)
    assert measure_eyes(source, shallow).kept == 0


def test_the_lift_is_taken_from_closed_lips_alone():
    gaps = np.array([0.01, 0.01, 0.2, 0.01])
    corners = np.zeros(4)
    found = measure_closed_lift(
        gaps,
        corners,
        edited_gaps=np.array([0.01, 0.02, 0.2, 0.09]),
        edited_corners=np.array([0.05, 0.06, 0.9, 0.05]),
    )
    assert (found.frames, found.lift) == (3, pytest.approx(0.05))
    assert found.kept == pytest.approx(2 / 3)
    open_lips = np.full(4, 0.2)
    nothing = measure_closed_lift(open_lips, corners, edited_gaps=gaps, edited_corners=corners)
    assert nothing.frames == 0
    assert np.isnan(nothing.lift)


STEPS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@pytest.mark.parametrize(
    ("movements", "correlation", "reversal"),
    [
        ([0.1 * k for k in STEPS], 1.0, 0.0),
        ([0.1 * k for k in STEPS[:-1]] + [0.1], 0.94, 0.2),
        ([0, 0, 0, 0, 0, 0, 0], np.nan, np.nan),
    ],
    ids=["even", "a step back at the end", "nothing moves"],
)
def test_growth_with_intensity(movements, correlation, reversal):
    found = measure_linearity(STEPS, movements)
    assert found.correlation == pytest.approx(correlation, abs=0.02, nan_ok=True)
    assert found.reversal == pytest.approx(reversal, nan_ok=True)


def test_a_movement_the_wrong_way_has_a_negative_correlation():
    assert measure_linearity(STEPS, [-0.1 * k for k in STEPS]).correlation == pytest.approx(-1)
