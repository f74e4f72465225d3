"""What is made of a generator's two pictures, and which emotion a face is taken to show."""

from __future__ import annotations

import numpy as np
import pytest

from mien.engines import FakeEngine
from mien.engines.face_space import latent_classifier_network
from mien.runtime.blending.edit import Delta, Edit
from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.topology import INNER_LIPS_LOWER, LEFT_EYE, OUTER_LIPS
from mien.runtime.methods.latent.editor import Shown
from mien.runtime.methods.latent.edits import OwnEmotion
from mien.runtime.methods.latent.field import Lids, Made, behind, field_edit, inside_patch, level
from mien.runtime.methods.warp.speech import LID_COLUMNS, lid_heights, lids_opening
from mien.runtime.target import EMOTIONS
from tests.runtime.faces.shapes import mean_face

SIZE = 64
STILL = np.zeros((106, 2), np.float32)


def face(luma: float = 0.5, landmarks: np.ndarray | None = None) -> AlignedFace:
    pixels = np.full((2 * SIZE, 2 * SIZE), luma, np.float32)
    points = mean_face() if landmarks is None else landmarks
    return AlignedFace(pixels, np.eye(2, 3, dtype=np.float32), points)


def picture(luma: float, spot: float = 0.0, at: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """A grey picture with a soft spot: float32 (1, 64, 64)."""
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    down, across = (np.exp(-0.5 * ((axis - place) / 0.05) ** 2) for place in (at[1], at[0]))
    return (luma + spot * down[:, None] * across[None])[None].astype(np.float32)


def eyes_of(landmarks: np.ndarray) -> Lids:
    return Lids(lid_heights(landmarks), lids_opening(landmarks))


def cell(at: tuple[float, float]) -> tuple[int, int]:
    return int(at[1] * SIZE), int(at[0] * SIZE)


def test_two_like_pictures_change_nothing() -> None:
    made = Made(picture(0.4), picture(0.4), STILL)
    edit = field_edit(face(), made, eyes_of(mean_face()))
    assert edit.flow is not None
    assert not edit.flow.any()
    assert edit.delta is not None
    assert np.abs(edit.delta.values).max() < 1e-6
    assert edit.gain is not None
    assert np.abs(edit.gain).max() < 1e-6
    assert edit.patch is None


def test_what_differs_is_shaded_and_the_light_of_the_whole_is_not() -> None:
    cheek = (0.3, 0.5)
    made = Made(picture(0.4), picture(0.6, spot=0.2, at=cheek), STILL)
    edit = field_edit(face(0.5), made, eyes_of(mean_face()))
    assert edit.gain is not None
    assert 0.3 < edit.gain[cell(cheek)] < 0.45  # of 0.5
    assert abs(edit.gain[cell((0.7, 0.5))]) < 0.06
    assert not edit.gain[0].any()
    assert not edit.gain[:, -1].any()


def test_pictures_in_colour_are_added_in_colour() -> None:
    cheek = (0.3, 0.5)
    tint = np.array([1.0, 0.2, 0.0], np.float32)[:, None, None]
    before, spot = np.repeat(picture(0.4), 3, 0), picture(0.0, spot=0.2, at=cheek)
    seen = face()
    coloured = AlignedFace(np.repeat(seen.pixels[None], 3, 0), seen.crop_from_frame, seen.landmarks)
    edit = field_edit(coloured, Made(before, before + spot * tint, STILL), eyes_of(mean_face()))
    assert edit.gain is None
    assert edit.delta is not None
    red, green, blue = (float(channel[cell(cheek)]) for channel in edit.delta.values)
    assert red > 0.15
    assert green == pytest.approx(0.2 * red, abs=0.01)
    assert blue == pytest.approx(0, abs=0.01)


def test_a_mouth_that_is_redrawn_loses_what_was_there() -> None:
    lips = tuple(mean_face()[list(OUTER_LIPS)].mean(0))
    made = Made(picture(0.5), picture(0.5, spot=-0.4, at=lips), STILL)
    kept = field_edit(face(0.5), made, eyes_of(mean_face()))
    lit = field_edit(face(0.8), made, eyes_of(mean_face()))  # as with teeth that are not redrawn
    assert kept.delta is not None
    assert lit.delta is not None
    seen = [0.5 + kept.delta.values[0][cell(lips)], 0.8 + lit.delta.values[0][cell(lips)]]
    assert seen[1] == pytest.approx(seen[0], abs=0.02)


def test_light_stays_off_lids_that_are_shut_and_off_eyes() -> None:
    x, y = mean_face()[list(LEFT_EYE)].mean(0)
    eye = (x, y + 0.06)  # beneath the lower lid
    open_eyes = eyes_of(mean_face())
    shut = mean_face()
    for upper, lower in LID_COLUMNS[0]:
        shut[[upper, lower], 1] = shut[[upper, lower], 1].mean()
    right = (1 - eye[0], eye[1])
    both = picture(0.5, spot=0.3, at=eye) + picture(0.0, spot=0.3, at=right)
    gains = []
    for points in (mean_face(), shut):
        edit = field_edit(face(landmarks=points), Made(picture(0.5), both, STILL), open_eyes)
        assert edit.gain is not None
        gains.append(edit.gain)
    assert gains[0][cell(eye)] > 0.4
    assert gains[1][cell(eye)] < 0.4 * gains[0][cell(eye)]
    assert gains[1][cell(right)] > 0.4
    assert abs(gains[0][cell((x, y))]) < 0.05


def test_hair_is_darkened_and_never_lit() -> None:
    cheek = (0.3, 0.62)
    for spot in (0.3, -0.3):
        made = Made(picture(0.5), picture(0.5, spot=spot, at=cheek), STILL)
        bearded = face(0.5)
        x, y = (round(share * bearded.size) for share in cheek)
        bearded.pixels[y - 6 : y + 7, x - 6 : x + 7] = 0.15
        gain = field_edit(bearded, made, eyes_of(mean_face())).gain
        assert gain is not None
        if spot > 0:
            assert abs(gain[cell(cheek)]) < 0.02
        else:
            assert gain[cell(cheek)] < -0.3


def test_landmarks_move_the_pixels_of_the_frame() -> None:
    moves = STILL.copy()
    moves[84:104, 1] = -0.02  # the lips as one
    made = Made(picture(0.5), picture(0.5), moves)
    x, y = mean_face()[list(OUTER_LIPS)].mean(0)
    shown = []
    for amount in (1.0, 1.5):
        edit = field_edit(face(), made, eyes_of(mean_face()), amount)
        assert edit.flow is not None
        shown.append(float(edit.flow[1][cell((x, y - 0.02 * amount))]))
    assert shown[0] == pytest.approx(0.02, abs=0.005)
    assert shown[1] == pytest.approx(0.03, abs=0.007)


def opened_mouth(by: float = 0.05) -> np.ndarray:
    landmarks = mean_face()
    landmarks[list(INNER_LIPS_LOWER[1:-1]), 1] += by
    return landmarks


def lit_face(mouth: float) -> np.ndarray:
    """Skin of 0.6 and the inside of a mouth: float32 (64, 64)."""
    luma = np.full((SIZE, SIZE), 0.6, np.float32)
    luma[int(0.66 * SIZE) : int(0.82 * SIZE), int(0.34 * SIZE) : int(0.66 * SIZE)] = mouth
    return luma


def test_a_mouth_that_opens_is_off_the_colour_of_lips() -> None:
    none = np.zeros((SIZE, SIZE), np.float32)
    patch = inside_patch(lit_face(0.2), none, opened_mouth(), 1.0)
    assert patch is not None
    assert patch.alpha.max() > 0.9
    assert not patch.alpha[0].any()
    assert np.median(patch.luma[patch.alpha > 0.9]) == pytest.approx(0.2, abs=0.01)
    assert patch.saturation.max() < 1
    assert inside_patch(lit_face(0.2), none, opened_mouth(), 0.0) is None
    teeth = inside_patch(lit_face(0.9), none, opened_mouth(), 1.0)
    assert teeth is not None
    assert teeth.luma.max() < 0.7  # they do not glow
    assert teeth.saturation[teeth.alpha > 0.9].max() < patch.saturation[patch.alpha > 0.9].min()


def test_the_dark_of_a_mouth_has_of_the_lower_lips_colour_and_teeth_have_the_skins() -> None:
    none, mouth = np.zeros((SIZE, SIZE), np.float32), opened_mouth()
    dark, teeth = (inside_patch(lit_face(luma), none, mouth, 1.0) for luma in (0.02, 0.9))
    assert dark is not None
    assert teeth is not None
    (x0, y0, x1, y1), (height, width) = dark.box, dark.around.shape
    x, y = (mouth[[92, 93, 94]].mean(0) + mouth[[101, 102, 103]].mean(0)) / 2  # of the lower lip
    cell = int((y - y0) / (y1 - y0) * height), int((x - x0) / (x1 - x0) * width)
    for patch in (dark, teeth):
        assert patch.around.sum() == pytest.approx(1, abs=1e-4)
        assert not patch.around[height // 2, width // 2]  # not what is painted over
    assert dark.around[cell] > 5 * dark.around[0, 0]
    assert teeth.around[cell] < 0.5 * dark.around[cell]
    assert teeth.around[0].sum() > 1.1 * dark.around[0].sum()


def test_lips_too_thin_to_be_seen_leave_the_colour_to_the_skin() -> None:
    none, mouth = np.zeros((SIZE, SIZE), np.float32), opened_mouth()
    mouth[[91, 92, 93, 94, 95]] = mouth[[101, 101, 102, 103, 103]]
    patch = inside_patch(lit_face(0.02), none, mouth, 1.0)
    assert patch is not None
    assert patch.around.sum() == pytest.approx(1, abs=1e-4)
    assert patch.around.max() == pytest.approx(patch.around[0, 0], rel=0.5)


def test_a_mouth_that_is_drawn_otherwise_is_replaced_and_a_moved_one_is_not() -> None:
    luma, grey = np.full((SIZE, SIZE), 0.2, np.float32), np.ones((SIZE, SIZE), np.float32)
    patch = inside_patch(luma, -0.2 * grey, opened_mouth())
    assert patch is not None
    assert patch.alpha.max() > 0.9
    assert inside_patch(luma, -0.02 * grey, opened_mouth()) is None
    assert inside_patch(luma, 0.2 * grey, opened_mouth()) is None  # teeth that are there
    assert inside_patch(luma, -0.2 * grey, opened_mouth(-0.045), 1.0) is None  # it is closed


def test_the_level_is_that_under_the_mask() -> None:
    rest = picture(0.0)
    rest[:, :, :32] = 0.5
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[:, :32] = 1
    np.testing.assert_allclose(level(rest, mask), 0.5)


def test_the_faces_own_emotion_changes_only_for_a_surer_one() -> None:
    answer = np.zeros((1, 8), np.float32)
    classifier = FakeEngine(latent_classifier_network(2), lambda _: {"probabilities": answer})
    own = OwnEmotion(classifier)
    codes = np.zeros((2, 512), np.float32)
    answer[0, 0] = 0.5
    assert EMOTIONS[own(codes, 0.0)] == "neutral"
    answer[0, 1] = 0.6
    assert all(own(codes, t / 30) == 0 for t in range(1, 90))  # surer, by less than it takes
    answer[0, 1] = 0.9
    seen = [own(codes, 3 + t / 30) for t in range(60)]
    assert seen[0] == 0
    assert seen[-1] == 1
    answer[0, 0], answer[0, 1] = 0.95, 0.9
    assert own(codes, 60.0) == 0  # after a gap it begins again


def test_what_is_shown_follows_without_a_jump() -> None:
    shown = Shown()
    first, second = (Made(picture(v), picture(v), STILL) for v in (0.2, 0.6))
    assert shown(first, 0.0).after[0, 0, 0] == pytest.approx(0.2)
    steps = [float(shown(second, t / 30).after[0, 0, 0]) for t in range(1, 12)]
    assert steps == sorted(steps)
    assert 0.2 < steps[0] < 0.5
    assert steps[-1] == pytest.approx(0.6, abs=0.03)
    assert shown(first, 9.0).after[0, 0, 0] == pytest.approx(0.2)


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_what_lies_in_front_of_the_face_stays(scale: float) -> None:
    # A crop in which the face is smaller, as FFHQ's, sees the cover where the face has it.
    landmarks = ((mean_face() - 0.5) * scale + 0.5).astype(np.float32)
    whole = np.ones((SIZE, SIZE), np.float32)
    edit = Edit(delta=Delta(0.1 * whole[None], whole))
    covered = np.zeros((128, 128), np.float32)
    covered[40:60, 20:50] = 1  # about (0.27, 0.39) of the canonical crop
    shown = behind(edit, covered, landmarks)
    place = cell(((0.27 - 0.5) * scale + 0.5, (0.39 - 0.5) * scale + 0.5))
    assert edit.delta is not None
    assert shown.delta is not None
    assert shown.covered is not None
    assert edit.delta.mask[place] > 0.5
    assert shown.delta.mask[place] < 0.02
    assert shown.covered[2 * place[0], 2 * place[1]] > 0.98
    other = place[0], SIZE - 1 - place[1]
    assert shown.delta.mask[other] == pytest.approx(edit.delta.mask[other])
