import numpy as np

from mien.engines import MOUTH, WARP, FakeEngine
from mien.runtime.alignment import AlignedFace, invert_similarity, transform_points
from mien.runtime.blending import blend, crop_units_matrix
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods.warp import AMOUNTS, CROP_SIZE, WarpMethod, moved_mouth, painted_share
from mien.runtime.mouth import (
    LOWER_LIP,
    SIZE_HW,
    UPPER_LIP,
    hold_lips,
    lips_gap,
    lips_hole,
    mouth_box,
)
from tests.runtime.faces import mean_face

CROP_FROM_FRAME = np.array([[0.4, 0.0, -8.0], [0.0, 0.4, -4.0]], np.float32)
HAPPY = np.eye(8, dtype=np.float32)[1]


def closed_mouth() -> np.ndarray:
    face = mean_face()
    face[[103, 102, 101]] = face[[97, 98, 99]] + [0, 0.001]
    return face.astype(np.float32)


def frame_and_face(landmarks: np.ndarray) -> tuple[Frame, AlignedFace]:
    y, x = np.mgrid[0:200, 0:220]
    luma = (110 + 40 * np.sin(x / 9) + 40 * np.cos(y / 7)).astype(np.uint8)
    frame = Frame((Plane(luma, (1, 1)),), PixelLayout("gray", full_range=True), 220, 200)
    pixels = np.full((CROP_SIZE, CROP_SIZE), 0.5, np.float32)
    return frame, AlignedFace(pixels, CROP_FROM_FRAME, landmarks)


def method(opening: float, gain: float = 0.0, content: float = 0.9) -> WarpMethod:
    def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        displacement = np.zeros((1, 106, 2), np.float32)
        displacement[0, [101, 102, 103, 92, 93, 94], 1] = opening
        return {"displacement": displacement, "gain": np.full((1, 1, 16, 16), gain, np.float32)}

    def paint(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"content": np.full((1, 1, *SIZE_HW), content, np.float32)}

    return WarpMethod(FakeEngine(WARP, answer), FakeEngine(MOUTH, paint))


def test_lips_that_stay_closed_are_not_painted() -> None:
    frame, face = frame_and_face(closed_mouth())
    edit = method(opening=0.0).new_face()(frame, face, HAPPY, 1.0, 0.0)
    assert edit.patch is None


def test_parted_lips_show_what_the_mouth_network_paints() -> None:
    landmarks = closed_mouth()
    frame, face = frame_and_face(landmarks)
    edit = method(opening=0.05).new_face()(frame, face, HAPPY, 1.0, 0.0)
    assert edit.patch is not None
    shown = blend(frame, crop_units_matrix(CROP_FROM_FRAME, CROP_SIZE), edit).planes[0].samples
    middle = (landmarks[98] + landmarks[102]) / 2 + [0, 0.025]
    frame_from_crop = invert_similarity(CROP_FROM_FRAME)
    x, y = np.round(transform_points(frame_from_crop, middle * CROP_SIZE - 0.5)).astype(int)
    assert abs(int(shown[y, x]) - round(0.9 * 255)) <= 3


def test_a_mouth_that_was_open_keeps_its_own_inside() -> None:
    landmarks = mean_face()
    landmarks[[101, 102, 103], 1] += 0.06
    frame, face = frame_and_face(landmarks)
    edit = method(opening=0.02).new_face()(frame, face, HAPPY, 1.0, 0.0)
    assert edit.patch is None


def test_half_the_strength_moves_half_as_far() -> None:
    frame, face = frame_and_face(closed_mouth())
    whole = method(opening=0.04).new_face()(frame, face, HAPPY, 1.0, 0.0).flow
    half = method(opening=0.04).new_face()(frame, face, HAPPY, 0.5, 0.0).flow
    assert whole is not None
    assert half is not None
    assert 0.4 < np.abs(half).max() / np.abs(whole).max() < 0.6


def test_light_changes_on_the_face_alone() -> None:
    frame, face = frame_and_face(closed_mouth())
    edit = method(opening=0.0, gain=0.2).new_face()(frame, face, HAPPY, 1.0, 0.0)
    assert edit.gain is not None
    assert edit.gain[32, 32] > 0.15
    assert not edit.gain[0].any()
    assert not edit.gain[:, 0].any()
    assert abs(float(edit.gain[60, 6])) < 0.01


def test_the_mouth_is_seen_where_the_flow_has_moved_it() -> None:
    landmarks = mean_face()
    frame, face = frame_and_face(landmarks)
    box = mouth_box(landmarks)
    flow = np.zeros((2, 64, 64), np.float32)
    still = moved_mouth(frame, face, flow, box)
    scale = SIZE_HW[1] / (box[2] - box[0])
    flow[1] = 4 / scale
    moved = moved_mouth(frame, face, flow, box)
    assert np.abs(moved[8:-8] - still[12:-4])[:, 8:-8].max() < 0.03


def test_the_painted_share_grows_with_the_stretch() -> None:
    assert painted_share(0.002, 0.003) == 0.0
    assert painted_share(0.02, 0.03) == 0.0
    assert 0 < painted_share(0.02, 0.045) < 1
    assert painted_share(0.002, 0.05) == 1.0


def test_the_hole_is_as_high_as_the_gap() -> None:
    landmarks = closed_mouth()
    landmarks[[101, 102, 103], 1] += 0.05
    box = mouth_box(landmarks)
    hole = lips_hole(landmarks, box)
    column = hole[:, SIZE_HW[1] // 2]
    height = float(column.sum()) / SIZE_HW[0] * (box[3] - box[1])
    assert abs(height - (landmarks[102, 1] - landmarks[98, 1])) < 0.01
    assert lips_gap(landmarks) > 0.04


def test_networks_are_asked_again_only_when_their_answers_are_old() -> None:
    asked: list[str] = []
    counted = method(opening=0.05)
    for engine in (counted._warp, counted._mouth):
        run = engine.infer

        def note(feeds, run=run, name=engine.network.name):  # type: ignore[no-untyped-def]
            asked.append(name)
            return run(feeds)

        engine.infer = note  # type: ignore[method-assign]
    frame, face = frame_and_face(closed_mouth())
    editor = counted.new_face()
    for index in range(30):
        before = len(asked)
        assert editor(frame, face, HAPPY, 1.0, index / 30).flow is not None
        assert index == 0 or len(asked) - before <= 1
    assert asked.count("warp") == 15
    assert 13 <= asked.count("mouth") <= 16


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


def test_lips_that_move_together_are_left_alone() -> None:
    displacement = np.full((106, 2), 0.03, np.float32)
    assert np.allclose(hold_lips(mean_face(), displacement), displacement)


def test_an_emotion_shows_its_own_amount_of_the_answer() -> None:
    frame, face = frame_and_face(closed_mouth())
    reach = {}
    for index, emotion in ((2, "sad"), (3, "surprised")):
        weights = np.eye(8, dtype=np.float32)[index]
        flow = method(opening=0.03).new_face()(frame, face, weights, 1.0, 0.0).flow
        assert flow is not None
        reach[emotion] = float(np.abs(flow).max())
    assert abs(reach["surprised"] / reach["sad"] - AMOUNTS[3] / AMOUNTS[2]) < 0.08
    assert AMOUNTS[3] < AMOUNTS[2]
