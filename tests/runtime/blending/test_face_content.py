"""What an edit draws and what it leaves: folds, the inside of a mouth, covers, one's own smile."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mien.engines import OCCLUSION, FakeEngine
from mien.runtime.faces.action_units import OUTER_EYES, action_unit
from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.own_expression import ACTIONS, SMILE, OwnExpression, actions_of
from mien.runtime.faces.topology import OUTER_LIPS
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods.warp.flow import folds
from mien.runtime.methods.warp.mouth import (
    MouthBank,
    draw_interior,
    drawn_box,
    lips_around,
    lips_opening,
    mouth_box,
)
from mien.runtime.methods.warp.occlusion import Occlusion, on_the_face
from tests.runtime.faces.shapes import mean_face


def moved(number: str, amount: float) -> np.ndarray:
    return (action_unit(number) * amount * OUTER_EYES).astype(np.float32)


def test_a_smile_folds_beside_the_nose_and_keeps_the_brightness_of_the_cheek() -> None:
    smile = moved("12", 0.12)
    light = folds(mean_face() + smile, smile)
    assert light is not None
    assert light.min() < -0.02
    blurred = cv2.GaussianBlur(light, (0, 0), 128 * 0.075)
    assert np.abs(blurred).max() < 0.012
    assert not light[0].any()
    assert not light[:, -1].any()


def test_what_does_not_move_does_not_fold() -> None:
    assert folds(mean_face(), np.zeros((106, 2), np.float32)) is None


def test_folds_grow_with_the_movement() -> None:
    depths = []
    for amount in (0.03, 0.06, 0.12):
        frown = moved("4", amount)
        light = folds(mean_face() + frown, frown)
        depths.append(0.0 if light is None else -float(light.min()))
    assert depths[0] < depths[1] < depths[2]


def open_mouth(gap: float) -> np.ndarray:
    face = mean_face()
    face[[103, 102, 101], 1] = face[[97, 98, 99], 1] + gap
    return face


def test_the_inside_of_a_mouth_is_dark_with_teeth_above_and_a_tongue_below() -> None:
    face = open_mouth(0.11)
    box = mouth_box(face)
    drawn = draw_interior(face, box, 240, 0.6)
    column = drawn.luma[:, drawn.luma.shape[1] // 2]
    inside = drawn.alpha[:, drawn.alpha.shape[1] // 2] > 0.9
    teeth, depth, tongue = (
        column[inside][round(start * inside.sum()) : round(end * inside.sum())]
        for start, end in ((0, 0.25), (0.35, 0.45), (0.8, 1))
    )
    assert depth.max() < 0.25 * teeth.max()
    assert 2 * depth.max() < tongue.max() < 0.75 * teeth.max()
    assert drawn.alpha.max() == pytest.approx(1)
    assert not drawn.alpha[0].any()
    assert not drawn.alpha[:, -1].any()


def test_a_wide_opening_has_round_corners_and_a_narrow_one_points() -> None:
    share = []
    for gap in (0.02, 0.11):
        face = open_mouth(gap)
        box = mouth_box(face)
        shown = draw_interior(face, box, 240, 0.6).alpha > 0.5
        across = shown.any(0).nonzero()[0]
        near = across[0] + (across[-1] - across[0]) // 12
        share.append(shown[:, near].sum() / shown.sum(0).max())
    assert share[1] > 0.5
    assert share[1] > 1.3 * share[0]


def test_the_colour_of_a_mouth_is_that_of_the_lips_around_it() -> None:
    face = open_mouth(0.05)
    box = mouth_box(face)
    around = lips_around(face, box, (120, 240)) > 0
    inside = draw_interior(face, box, 240, 0.6).alpha > 0.4  # its soft edge lies on theirs
    assert around.sum() > 500
    assert not (around & inside).any()
    rows, columns = around.nonzero()
    x, y = (columns + 0.5) / 240 * (box[2] - box[0]), (rows + 0.5) / 120 * (box[3] - box[1])
    outer = face[list(OUTER_LIPS)] - box[:2]
    assert np.all((x > outer[:, 0].min()) & (x < outer[:, 0].max()))
    assert np.all((y > outer[:, 1].min()) & (y < outer[:, 1].max()))


def test_closed_lips_show_nothing_of_the_mouth() -> None:
    face = open_mouth(0.0)
    assert draw_interior(face, mouth_box(face), 200, 0.6).alpha.max() < 0.6


def test_the_mouth_is_drawn_as_fine_as_it_is_shown() -> None:
    face = open_mouth(0.08)
    assert draw_interior(face, mouth_box(face), 300, 0.5).luma.shape[1] == 300
    assert draw_interior(face, mouth_box(face), 9000, 0.5).luma.shape[1] == 320


def talking(gap: float, teeth: int) -> tuple[Frame, AlignedFace]:
    """A grey face of 300 pixels whose mouth is open, with a band of teeth below the upper lip."""
    face, side = open_mouth(gap), 300
    luma = np.full((side, side), 150, np.uint8)
    lips = np.round(face[[96, 97, 98, 99, 100, 101, 102, 103]] * side).astype(np.int32)
    cv2.fillPoly(luma, [lips], 20)
    band = lips.copy()
    band[5:] = lips[[3, 2, 1]] + [0, round(0.03 * side)]
    cv2.fillPoly(luma, [band], teeth)
    frame = Frame((Plane(luma, (1, 1)),), PixelLayout("gray", full_range=True), side, side)
    matrix = np.array([[64 / side, 0, -0.4], [0, 64 / side, -0.4]], np.float32)
    pixels = cv2.resize(luma, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return frame, AlignedFace(pixels, matrix, face.astype(np.float32))


def test_teeth_are_the_persons_own_where_they_were_seen() -> None:
    bank = MouthBank()
    bank.see(*talking(0.1, 230), 150 / 255, 0.0)
    assert bank.best is not None
    face = open_mouth(0.1)
    box = mouth_box(face)
    own = draw_interior(face, box, 200, 150 / 255, bank.best)
    drawn = draw_interior(face, box, 200, 150 / 255)
    middle = own.luma.shape[1] // 2
    inside = np.flatnonzero(own.alpha[:, middle] > 0.9)
    band = inside[len(inside) // 6 : len(inside) // 4]
    assert own.luma[band, middle].min() > 0.75
    assert own.luma[inside[len(inside) // 2], middle] < 0.2
    assert drawn.luma[band, middle].max() < 0.6


def test_darker_light_darkens_the_teeth_that_were_kept() -> None:
    bank = MouthBank()
    bank.see(*talking(0.1, 230), 150 / 255, 0.0)
    face = open_mouth(0.1)
    box = mouth_box(face)
    bright, dark = (draw_interior(face, box, 200, s, bank.best).luma.max() for s in (0.6, 0.3))
    assert dark == pytest.approx(bright / 2, rel=0.1)


def test_closed_lips_are_no_view_of_a_mouth() -> None:
    bank = MouthBank()
    bank.see(*talking(0.01, 230), 0.6, 0.0)
    assert bank.best is None


def share_at(rows: slice, columns: slice) -> np.ndarray:
    share = np.zeros((128, 128), np.float32)
    share[rows, columns] = 1
    return share


def test_the_background_beside_a_face_is_no_cover() -> None:
    beyond = np.ones((128, 128), np.float32)
    face = np.zeros((128, 128), np.uint8)
    cv2.fillPoly(face, [np.round(mean_face()[:33] * 128).astype(np.int32)], 1)
    beyond[cv2.dilate(face, np.ones((5, 5), np.uint8)) > 0] = 0
    beyond[:50] = 0
    assert not on_the_face(beyond, mean_face()).any()


def test_a_hand_on_a_cheek_is_a_cover_as_far_as_beyond_the_outline() -> None:
    hand = share_at(slice(70, 100), slice(0, 50))
    front = on_the_face(hand, mean_face())
    assert front[85, 40] == pytest.approx(1)
    assert front[85, 15] > 0.9


def occlusion(*answers: np.ndarray) -> Occlusion:
    turns = iter(answers)
    return Occlusion(FakeEngine(OCCLUSION, lambda _: {"covered": next(turns)[None]}))


def face_in_frame() -> tuple[Frame, np.ndarray]:
    luma = np.full((200, 200), 120, np.uint8)
    layout = PixelLayout("gray", full_range=True)
    return Frame((Plane(luma, (1, 1)),), layout, 200, 200), mean_face() * 200


def test_a_mouth_that_is_higher_than_wide_is_drawn_whole() -> None:
    face = mean_face()
    assert drawn_box(face) == mouth_box(face)
    lips = np.array([*range(84, 104)])
    face[lips, 0] = 0.5 + 0.4 * (face[lips, 0] - 0.5)
    lower = [*range(91, 96), 101, 102, 103]
    face[lower, 1] += 0.16
    box = drawn_box(face)
    assert box[1] < face[lips, 1].min() < face[lips, 1].max() < box[3]
    assert (box[2] - box[0]) == pytest.approx(2 * (box[3] - box[1]))
    alpha = draw_interior(face, box, 300, 0.6).alpha
    assert alpha.max() > 0.95
    assert not alpha[[1, -2]].any()  # it ends within the box, not at its edge


def wide_open_mouth() -> np.ndarray:
    face = mean_face()
    lower = [*range(91, 96), 101, 102, 103]
    face[lower, 1] += 0.12
    return face


@pytest.mark.parametrize(("grown", "is_cover"), [(1, False), (41, True)])
def test_the_dark_of_an_open_mouth_is_no_cover_and_a_cup_before_it_is_one(
    grown: int, is_cover: bool
) -> None:
    face = wide_open_mouth()
    inside = (lips_opening(face, 128) > 0).astype(np.uint8)
    assert inside.sum() > 120
    seen = cv2.dilate(inside, np.ones((grown, grown), np.uint8)).astype(np.float32)
    assert on_the_face(seen, face).any() == is_cover


def test_rims_are_covers_and_stay_calm_over_time() -> None:
    rim = np.stack([share_at(slice(40, 44), slice(20, 110)), np.zeros((128, 128), np.float32)])
    none = np.zeros((2, 128, 128), np.float32)
    seen = occlusion(rim, none, none)
    frame, landmarks = face_in_frame()
    first = seen(frame, landmarks, 0.0)
    assert first is not None
    assert first[42, 60] == pytest.approx(1)
    later = seen(frame, landmarks, 0.21)
    assert later is not None  # one look without them is not enough
    assert later[42, 60] > 0.2


def test_what_is_doubted_of_a_rim_is_covered_beside_what_is_sure_and_not_alone() -> None:
    faint = share_at(slice(40, 44), slice(64, 110)) * np.float32(0.4)
    sure = share_at(slice(40, 44), slice(20, 64))
    frame, landmarks = face_in_frame()
    none = np.zeros((128, 128), np.float32)
    assert occlusion(np.stack([faint, none]))(frame, landmarks, 0.0) is None
    seen = occlusion(np.stack([faint + sure, none]))(frame, landmarks, 0.0)
    assert seen is not None
    assert seen[42, 85] > 0.5


def test_a_face_that_nothing_covers_costs_no_cover() -> None:
    frame, landmarks = face_in_frame()
    assert occlusion(np.zeros((2, 128, 128), np.float32))(frame, landmarks, 0.0) is None


def frames_looked_at(begin: int) -> list[int]:
    """The frames of 4 s at 30 a second that the network sees, of who begins with that one."""
    frame, landmarks = face_in_frame()
    looks = []

    def see(_: object) -> dict[str, np.ndarray]:
        looks.append(index)
        return {"covered": np.zeros((1, 2, 128, 128), np.float32)}

    follower = Occlusion(FakeEngine(OCCLUSION, see))
    for index in range(begin, 120):
        follower(frame, landmarks, index / 30)
    return looks


def test_who_begins_in_the_middle_looks_at_the_same_frames() -> None:
    """So that the pieces of a clip are those of one run."""
    whole = [index for index in frames_looked_at(0) if index > 41]
    assert 12 <= len(whole) <= 14
    for begin in (31, 34, 41):
        assert [index for index in frames_looked_at(begin) if index > 41] == whole


NEUTRAL = np.array([action.neutral for action in ACTIONS])


def smiling_face() -> np.ndarray:
    """The mean face with a smile as press pictures show it: its lift and its width."""
    face = mean_face()
    eyes = float(np.hypot(*(face[61] - face[52])))
    corners, others = [84, 90], [i for i in range(84, 104) if i not in (84, 90)]
    face[corners] += np.float32([[-SMILE[1] / 2, -SMILE[0]], [SMILE[1] / 2, -SMILE[0]]]) * eyes
    face[others, 0] += 0.2 * (face[others, 0] - face[others, 0].mean())
    return face


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.5])
def test_a_smile_of_a_face_that_is_not_known_is_scaled_as_asked(scale: float) -> None:
    face = smiling_face()
    shown = face + OwnExpression()(face, scale, 0.0)
    before, after = actions_of(face) - NEUTRAL, actions_of(shown) - NEUTRAL
    assert before[0] > 0.02
    np.testing.assert_allclose(after[:2], before[:2] * scale, atol=0.016)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.5])
def test_whatever_a_known_face_does_is_scaled_as_asked(scale: float) -> None:
    own = OwnExpression()
    for frame in range(900):
        own(mean_face(), 1.0, frame / 30)
    face = mean_face() + moved("12", 0.1)
    for frame in range(900, 910):
        moves = own(face, scale, frame / 30)
    before, after = (actions_of(f) - actions_of(mean_face()) for f in (face, face + moves))
    np.testing.assert_allclose(after, before * scale, atol=0.014)


def test_all_of_ones_own_moves_nothing() -> None:
    face = mean_face() + moved("12", 0.1)
    assert not OwnExpression()(face, 1.0, 0.0).any()


def test_the_neutral_face_is_learnt_slowly_and_within_bounds() -> None:
    own, face = OwnExpression(), mean_face() + moved("12", 0.2)
    last = None
    for frame in range(600):
        moves = own(face, 0.5, frame / 30)
        if last is not None:
            assert np.abs(moves - last).max() < 0.004
        last = moves
    assert last is not None
    assert last[84, 1] > 0.01  # who smiles all the time is still softened


def lifted(face: np.ndarray, moves: np.ndarray) -> float:
    """How far a displacement lifts the corners of the mouth, outer-eye distances."""
    return float(-moves[[84, 90], 1].mean() / np.hypot(*(face[61] - face[52])))


def test_a_wide_smile_of_hanging_corners_is_softened_downwards() -> None:
    face = mean_face()
    for corner, side in ((84, -1), (90, 1)):
        face[corner] += np.float32([side * 0.04, 0.012])
    assert actions_of(face)[0] < NEUTRAL[0]
    assert lifted(face, OwnExpression()(face, 0.25, 0.0)) < -0.02
    assert lifted(face, OwnExpression()(face, 1.5, 0.0)) > 0.01


def test_corners_that_hang_alone_are_taken_for_the_face_until_it_is_known() -> None:
    hanging = mean_face()
    hanging[[84, 90], 1] += np.float32(0.012)
    unknown = abs(lifted(hanging, OwnExpression()(hanging, 0.25, 0.0)))
    own = OwnExpression()
    for frame in range(600):
        own(mean_face(), 1.0, frame / 30)
    for frame in range(600, 606):  # somebody known lets them hang
        moves = own(hanging, 0.25, frame / 30)
    assert lifted(hanging, moves) > max(0.015, 2 * unknown)
