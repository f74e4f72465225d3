import numpy as np
import pytest

from mien.engines import OCCLUSION, WARP, FakeEngine
from mien.runtime.blending.blending import blend, crop_units_matrix
from mien.runtime.faces.action_units import OUTER_EYES, action_unit
from mien.runtime.faces.alignment import AlignedFace, invert_similarity, transform_points
from mien.runtime.faces.topology import CONTOUR
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods.base import Goal
from mien.runtime.methods.warp import editor as editor_module
from mien.runtime.methods.warp.editor import (
    ADDED,
    BELOW_EYES,
    CROP,
    DEEPEST,
    GLEAM,
    WarpMethod,
    ask,
    creased,
    painted_share,
    with_outline,
)
from mien.runtime.methods.warp.mouth import LOWER_LIP, UPPER_LIP, hold_lips
from mien.runtime.methods.warp.speech import JAW
from mien.runtime.target import EMOTIONS
from tests.runtime.faces.shapes import mean_face

CROP_FROM_FRAME = np.array([[0.4, 0.0, -8.0], [0.0, 0.4, -4.0]], np.float32)
HAPPY, SURPRISED = np.eye(8, dtype=np.float32)[[1, 3]]


def closed_mouth() -> np.ndarray:
    face = mean_face()
    face[[103, 102, 101]] = face[[97, 98, 99]] + [0, 0.001]
    return face.astype(np.float32)


def fold(light: float) -> np.ndarray:
    """A short line as fine as folds are: float32 (64, 64), `light` on it."""
    picture = np.zeros((64, 64), np.float32)
    picture[20:45, 31:33] = light
    return picture


def frame_and_face(landmarks: np.ndarray) -> tuple[Frame, AlignedFace]:
    y, x = np.mgrid[0:200, 0:220]
    luma = (110 + 40 * np.sin(x / 9) + 40 * np.cos(y / 7)).astype(np.uint8)
    frame = Frame((Plane(luma, (1, 1)),), PixelLayout("gray", full_range=True), 220, 200)
    pixels = np.full((CROP.size, CROP.size), 0.5, np.float32)
    return frame, AlignedFace(pixels, CROP_FROM_FRAME, landmarks)


def method(
    opening: float, covered: np.ndarray | None = None, light: float = 0.0, narrower: float = 0.0
) -> WarpMethod:
    """A method whose network lowers the lower lip by `opening`, in a face covered like that.

    narrower: by how much it moves the corners inwards.
    light: the relative change of brightness that it asks for along a fold.
    """

    def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        displacement = np.zeros((1, 106, 2), np.float32)
        displacement[0, [101, 102, 103, 92, 93, 94], 1] = opening
        displacement[0, [84, 90, 96, 100], 1] = -0.02
        displacement[0, [84, 90], 0] = narrower, -narrower
        return {
            "displacement": displacement,
            "light": fold(light)[None, None],
        }

    def see(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shares = np.zeros((1, 2, 128, 128), np.float32)
        if covered is not None:
            shares[0] = covered
        return {"covered": shares}

    return WarpMethod(FakeEngine(WARP, answer), FakeEngine(OCCLUSION, see))


def pixel(point: np.ndarray) -> tuple[int, int]:
    """The frame's pixel, x and y, at a point in crop units."""
    frame_from_crop = invert_similarity(CROP_FROM_FRAME)
    x, y = np.round(transform_points(frame_from_crop, point * CROP.size - 0.5)).astype(int)
    return int(x), int(y)


def edited(landmarks: np.ndarray, weights: np.ndarray, opening: float, **more) -> np.ndarray:  # type: ignore[no-untyped-def]
    frame, face = frame_and_face(landmarks)
    edit = method(opening, **more).new_face()(frame, face, Goal(weights), 0.0)
    return blend(frame, crop_units_matrix(CROP_FROM_FRAME, CROP.size), edit).planes[0].samples


def answered(weights: np.ndarray, light: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """What is asked of a face whose network moves nothing: displacement and light."""

    def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            "displacement": np.zeros((1, 106, 2), np.float32),
            "light": fold(light)[None, None],
        }

    _, face = frame_and_face(closed_mouth())
    found = ask(FakeEngine(WARP, answer), face, weights)
    return found.displacement, found.light


def test_fear_opens_the_eyes_draws_the_lips_aside_and_knits_the_brows_beyond_the_network() -> None:
    moved, _ = answered(np.eye(8, dtype=np.float32)[EMOTIONS.index("fearful")])
    assert (moved[[72, 75], 1] < -0.01).all()
    assert moved[84, 0] < -0.01 < 0.01 < moved[90, 0]
    assert moved[37, 0] > 0 > moved[38, 0]


def test_an_emotion_that_lacks_nothing_is_the_network_s_alone() -> None:
    assert "surprised" not in ADDED
    moved, light = answered(SURPRISED, light=0.1)
    assert not moved.any()
    np.testing.assert_array_equal(light, creased(fold(0.1), SURPRISED))


def test_a_fold_is_shaded_and_a_stain_is_not() -> None:
    flat = np.full((64, 64), -0.3, np.float32)
    assert np.abs(creased(flat, HAPPY)).max() < 1e-6
    dark, bright = (creased(fold(light), HAPPY)[32, 32] for light in (-0.02, 0.02))
    assert -0.02 < dark < -0.01
    assert bright == pytest.approx(-GLEAM * dark, rel=0.02)


def test_light_never_exceeds_the_deepest_fold() -> None:
    anger = np.eye(8, dtype=np.float32)[EMOTIONS.index("angry")]
    shown = creased(fold(-0.45), anger)
    assert -DEEPEST <= shown.min() < -0.95 * DEEPEST


def test_fear_is_shaded_less_below_the_eyes() -> None:
    fear = np.eye(8, dtype=np.float32)[EMOTIONS.index("fearful")]
    shown = creased(fold(-1e-4), fear)
    assert shown[40, 32] == pytest.approx(BELOW_EYES[4] * shown[24, 32], rel=0.05)


def test_a_mix_adds_the_share_of_each_emotion_in_movement_and_light() -> None:
    fear, anger = np.eye(8, dtype=np.float32)[[4, 6]]
    mixed, light = answered(0.25 * fear + 0.5 * anger, light=0.1)
    whole = [answered(weights)[0] for weights in (fear, anger)]
    inner = np.setdiff1d(np.arange(106), CONTOUR)  # the jaw only ever drops
    wanted = 0.25 * whole[0] + 0.5 * whole[1]
    np.testing.assert_allclose(mixed[inner], wanted[inner], atol=1e-6)
    share = (fear + 2 * anger) / 3
    np.testing.assert_allclose(light, creased(fold(0.1), share), atol=1e-6)


def test_a_smile_never_parts_closed_lips() -> None:
    frame, face = frame_and_face(closed_mouth())
    edit = method(opening=0.04).new_face()(frame, face, Goal(HAPPY, 1.5), 0.0)
    assert edit.patch is None
    assert edit.flow is not None
    at = [round(float(v) * 64 - 0.5) for v in closed_mouth()[98]]
    assert abs(float(edit.flow[1, at[1] - 1, at[0]] - edit.flow[1, at[1] + 1, at[0]])) < 0.012


def test_surprise_opens_a_resting_mouth_onto_its_dark() -> None:
    landmarks = closed_mouth()
    frame, face = frame_and_face(landmarks)
    edit = method(opening=0.06).new_face()(frame, face, Goal(SURPRISED), 0.0)
    assert edit.patch is not None
    shown = edited(landmarks, SURPRISED, 0.06)
    x, y = pixel((landmarks[98] + landmarks[102]) / 2 + [0, 0.045])
    assert shown[y, x] < 0.3 * np.median(frame.planes[0].samples)


def test_surprise_closes_with_the_lips_that_speak() -> None:
    editor = method(opening=0.06).new_face()
    frame, face = frame_and_face(closed_mouth())
    assert editor(frame, face, Goal(SURPRISED), 0.0).patch is not None
    for step in range(1, 20):  # they speak: open and shut, five times a second
        landmarks = closed_mouth()
        if step % 6 < 3:
            landmarks[[101, 102, 103, 92, 93, 94], 1] += 0.05
        _, face = frame_and_face(landmarks)
        edit = editor(frame, face, Goal(SURPRISED), step / 30)
    assert edit.patch is None


def test_the_teeth_of_an_open_mouth_move_as_one_body() -> None:
    landmarks = mean_face()
    landmarks[[101, 102, 103, 92, 93, 94], 1] += 0.1
    frame, face = frame_and_face(landmarks)
    for weights in (SURPRISED, HAPPY):
        edit = method(opening=0.035).new_face()(frame, face, Goal(weights), 0.0)
        assert edit.patch is None
        assert edit.flow is not None
        x, y = np.round((landmarks[98] + landmarks[102]) / 2 * 64 - 0.5).astype(int)
        inside = edit.flow[:, y - 1 : y + 2, x - 2 : x + 3].reshape(2, -1)
        assert np.ptp(inside, axis=1).max() < 0.001


def test_what_covers_the_mouth_keeps_every_sample() -> None:
    cover = np.zeros((2, 128, 128), np.float32)
    cover[1, 75:115, 35:95] = 1  # a cup
    frame, _ = frame_and_face(closed_mouth())
    shown = edited(closed_mouth(), SURPRISED, 0.06, covered=cover)
    free = edited(closed_mouth(), SURPRISED, 0.06)
    x0, y0 = pixel(np.array([40 / 128, 80 / 128]))
    x1, y1 = pixel(np.array([90 / 128, 110 / 128]))
    before = frame.planes[0].samples
    assert (free[y0:y1, x0:x1] != before[y0:y1, x0:x1]).any()
    assert np.array_equal(shown[y0:y1, x0:x1], before[y0:y1, x0:x1])


def test_half_the_strength_moves_half_as_far() -> None:
    frame, face = frame_and_face(closed_mouth())
    whole = method(opening=0.04).new_face()(frame, face, Goal(HAPPY), 0.0).flow
    half = method(opening=0.04).new_face()(frame, face, Goal(HAPPY, 0.5), 0.0).flow
    assert whole is not None
    assert half is not None
    assert 0.4 < np.abs(half).max() / np.abs(whole).max() < 0.6


def test_the_outline_of_the_face_stays_but_for_a_jaw_that_drops() -> None:
    asked = np.full((106, 2), 0.02, np.float32)
    down, up = with_outline(asked), with_outline(-asked)
    rest = [point for point in range(106) if point not in CONTOUR]
    np.testing.assert_array_equal(down[rest], asked[rest])
    assert not down[list(CONTOUR), 0].any()
    assert not up[list(CONTOUR)].any()
    np.testing.assert_array_equal(down[list(JAW), 1], asked[list(JAW), 1])
    assert not down[[point for point in CONTOUR if point not in JAW]].any()


def test_light_changes_with_the_strength_and_never_beyond_its_most() -> None:
    frame, face = frame_and_face(closed_mouth())
    gains = [
        method(0.0, light=light).new_face()(frame, face, Goal(HAPPY, strength), 0.0).gain
        for light, strength in ((0.02, 1.0), (0.02, 0.5), (0.02, 1.5), (-0.9, 1.0))
    ]
    whole, half, more, bounded = (gain[32, 32] for gain in gains if gain is not None)
    assert more == whole
    assert half == pytest.approx(whole / 2)
    assert -DEEPEST <= bounded < -0.75 * DEEPEST
    for gain in gains:  # the crop has no edge
        assert gain is not None
        assert not gain[[0, -1]].any()
        assert not gain[:, [0, -1]].any()


def test_light_follows_a_change_of_the_answer_slowly() -> None:
    frame, face = frame_and_face(closed_mouth())
    shown = iter([0.01, 0.03])
    answers = method(0.0)
    run = answers._warp.infer

    def brighter(feeds):  # type: ignore[no-untyped-def]
        return run(feeds) | {"light": fold(next(shown))[None, None]}

    answers._warp.infer = brighter  # type: ignore[method-assign]
    editor = answers.new_face()
    first, second = (editor(frame, face, Goal(HAPPY), t).gain for t in (0.0, 0.07))
    assert first is not None
    assert second is not None
    assert first[32, 32] < second[32, 32] < 0.75 * 3 * first[32, 32]


def test_a_scaled_own_expression_is_lit_by_its_folds_alone() -> None:
    frame, face = frame_and_face(closed_mouth())
    editor = method(0.0, light=0.2).new_face()
    edit = editor(frame, face, Goal(np.zeros(8, np.float32), 0.0), 0.0)
    assert edit.gain is None


def smile(gap: float) -> np.ndarray:
    """A broad smile whose lips are that far apart, crop units."""
    face = mean_face() + action_unit("12") * 0.15 * OUTER_EYES
    opened = gap - (face[[101, 102, 103], 1] - face[[99, 98, 97], 1])
    face[[101, 102, 103], 1] += opened
    face[[92, 93, 94], 1] += opened
    return face.astype(np.float32)


def shown_gap(flow: np.ndarray, landmarks: np.ndarray) -> float:
    """How far apart the outer edges of the lips are shown under a flow (2, n, n), crop units."""
    size = flow.shape[-1]
    column = round(float(landmarks[87, 0]) * size - 0.5)
    places = (np.arange(size) + 0.5) / size
    source = places + flow[1, :, column]
    upper, lower = (np.interp(landmarks[point, 1], source, places) for point in (87, 93))
    return float(lower - upper)


def test_a_softened_smile_closes_lips_that_rest_and_none_that_speak() -> None:
    softer = Goal(np.zeros(8, np.float32), 0.0, own=0.25)
    resting, speaking = smile(0.05), method(0.0).new_face()
    frame, face = frame_and_face(resting)
    edit = method(0.0).new_face()(frame, face, softer, 0.0)
    assert edit.flow is not None
    assert shown_gap(edit.flow, resting) < np.ptp(resting[[87, 93], 1]) - 0.025
    for index in range(30):
        now = smile(0.05 - 0.03 * (index % 2))
        edit = speaking(frame, frame_and_face(now)[1], softer, index / 30)
    assert edit.flow is not None
    assert shown_gap(edit.flow, now) == pytest.approx(np.ptp(now[[87, 93], 1]), abs=0.01)


def moved_lips(emotion: str, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """How far a speaker's upper lip sinks and a corner comes in, by the network's movement."""
    monkeypatch.setattr(editor_module, "ADDED_MOVES", np.zeros((8, 106, 2), np.float32))
    shown: list[np.ndarray] = []
    keep = editor_module.keep_blinks

    def note(landmarks, moved, *more):  # type: ignore[no-untyped-def]
        shown.append(moved)
        return keep(landmarks, moved, *more)

    monkeypatch.setattr(editor_module, "keep_blinks", note)
    weights = np.eye(8, dtype=np.float32)[EMOTIONS.index(emotion)]
    editor = method(opening=0.02, narrower=0.01).new_face()
    for index in range(30):
        frame, face = frame_and_face(smile(0.05 - 0.03 * (index % 2)))
        editor(frame, face, Goal(weights), index / 30)
    return float(shown[-1][87, 1]), float(shown[-1][84, 0])


def test_lips_that_speak_stay_up_in_fear_and_wide_in_surprise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fear, anger, surprise = (
        moved_lips(emotion, monkeypatch) for emotion in ("fearful", "angry", "surprised")
    )
    assert 0 < fear[0] < 0.6 * anger[0]
    assert 0 < surprise[1] < 0.6 * anger[1]


def test_an_own_frown_does_not_jump_when_an_emotion_begins() -> None:
    frown = (mean_face() + action_unit("4") * 0.08 * OUTER_EYES).astype(np.float32)
    frame, face = frame_and_face(frown)
    flows = []
    for strength in (0.0, 0.01):
        edit = method(0.0).new_face()(frame, face, Goal(HAPPY, strength, own=1.5), 0.0)
        assert edit.flow is not None
        flows.append(edit.flow)
    assert np.abs(flows[0]).max() > 0.005
    assert np.abs(flows[1] - flows[0]).max() < 0.002


def test_the_painted_share_grows_with_the_stretch() -> None:
    assert painted_share(0.002, 0.003) == 0.0
    assert painted_share(0.02, 0.03) == 0.0
    assert 0 < painted_share(0.02, 0.045) < 1
    assert painted_share(0.002, 0.05) == 1.0


def test_networks_are_asked_again_only_when_their_answers_are_old() -> None:
    asked: list[str] = []
    counted = method(opening=0.05)
    for engine in (counted._warp, counted._occlusion):
        run = engine.infer

        def note(feeds, run=run, name=engine.network.name):  # type: ignore[no-untyped-def]
            asked.append(name)
            return run(feeds)

        engine.infer = note  # type: ignore[method-assign]
    frame, face = frame_and_face(closed_mouth())
    editor = counted.new_face()
    for index in range(30):
        assert editor(frame, face, Goal(HAPPY), index / 30).flow is not None
    assert asked.count("warp") == 15
    assert 4 <= asked.count("occlusion") <= 6


def test_a_lip_keeps_most_of_its_thickness() -> None:
    landmarks = mean_face()
    displacement = np.zeros((106, 2), np.float32)
    displacement[[97, 98, 99], 1] = -0.08
    displacement[[101, 102, 103], 1] = 0.08
    after = landmarks + hold_lips(landmarks, displacement)
    for outer, inner in UPPER_LIP + LOWER_LIP:
        before_px = abs(landmarks[inner, 1] - landmarks[outer, 1])
        kept = (after[inner, 1] - after[outer, 1]) * np.sign(
            landmarks[inner, 1] - landmarks[outer, 1]
        )
        assert kept >= 0.59 * before_px


def test_lips_that_move_together_are_left_unchanged() -> None:
    displacement = np.full((106, 2), 0.03, np.float32)
    assert np.allclose(hold_lips(mean_face(), displacement), displacement)
