from __future__ import annotations

import itertools

import numpy as np
import pytest

from mien.runtime.faces.detection import overlaps
from mien.runtime.faces.track import LandmarkFilter, box_of
from mien.runtime.faces.tracking import Face, SearchEffort
from tests.runtime.faces.fake_faces import DIM, World, draw, face_shape, grey_frame

STEP_S = 0.04


def centre_x(face: Face) -> float:
    return float(face.landmarks[:, 0].min() + face.landmarks[:, 0].max()) / 2


def test_a_face_of_the_first_frame_is_there_at_once_and_in_full() -> None:
    (face,) = World().show(0.0, (160, 90, 40))
    assert face.track_id == 1
    assert face.landmarks.shape == (106, 2)
    assert face.landmarks.dtype == np.float32
    assert face.presence == 1.0
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    np.testing.assert_allclose((low + high) / 2, (160, 93), atol=6)


def test_a_frame_without_a_face_gives_none() -> None:
    assert World().show(0.0) == []


def test_a_face_that_enters_late_is_found_soon_and_rises() -> None:
    world = World()
    for i in range(10):
        assert world.show(i * STEP_S) == []
    presences, first = [], None
    for i in range(10, 30):
        faces = world.show(i * STEP_S, (160, 90, 20))
        if faces and first is None:
            first = i
        presences += [face.presence for face in faces]
    assert first is not None
    assert first <= 14
    assert presences[0] < 0.2
    assert presences == sorted(presences)
    assert presences[-1] == 1.0


def test_detection_is_rare_while_all_is_well() -> None:
    world = World()
    for i in range(50):
        world.show(i * STEP_S, (160, 90, 40))
    assert world.detect.calls <= 4
    assert world.landmark.calls <= 50 + 2


def test_detection_can_be_spaced_out_while_the_video_runs() -> None:
    usual, spaced = World(), World()
    spaced.tracker.spacing = 3.0
    for world in (usual, spaced):
        for i in range(120):
            world.show(i / 30, (160, 90, 40))
    assert spaced.detect.calls <= 2
    assert usual.detect.calls >= 4


def test_detection_is_more_frequent_without_faces_but_not_on_every_frame() -> None:
    world = World()
    for i in range(50):
        world.show(i * STEP_S)
    assert 10 <= world.detect.calls <= 15


def test_a_moving_face_keeps_its_number_and_is_followed() -> None:
    world = World()
    for i in range(40):
        x = 60 + 5.0 * i
        (face,) = world.show(i * STEP_S, (x, 90, 30))
        assert face.track_id == 1
        if i > 5:
            assert abs(centre_x(face) - x) < 3.0


def test_a_cut_between_two_people_begins_again() -> None:
    world = World()
    for i in range(10):
        (before,) = world.show(i * STEP_S, (90, 90, 40))
    rng = np.random.default_rng(1)
    scene = np.kron(rng.integers(0, 90, (9, 16)), np.ones((20, 20))).astype(np.uint8)
    other = np.where(draw((230, 80, 30)) == 200, 200, scene).astype(np.uint8)
    (after,) = world.tracker(grey_frame(other), 10 * STEP_S)
    assert after.track_id != before.track_id
    assert after.presence == 1.0
    assert abs(centre_x(after) - 230) < 3


def test_a_flash_is_no_cut() -> None:
    world = World()
    for i in range(12):
        luma = draw((160, 90, 40))
        if i == 6:
            luma = np.clip(luma.astype(int) + 50, 0, 255).astype(np.uint8)
        if i == 8:
            luma[:] = 255
        faces = world.tracker(grey_frame(luma), i * STEP_S)
    assert [face.track_id for face in faces] == [1]


def test_two_faces_that_cross_stay_two_and_never_share_a_number() -> None:
    world = World()
    sides = []
    for i in range(60):
        a, b = 60 + 3.4 * i, 260 - 3.4 * i
        faces = world.show(i * STEP_S, (a, 85, 26), (b, 100, 26))
        ids = [face.track_id for face in faces]
        assert len(set(ids)) == len(ids)
        boxes = [box_of(face.landmarks) for face in faces]
        for k, box in enumerate(boxes):
            others = np.array(boxes[k + 1 :]).reshape(-1, 4)
            assert not (overlaps(box, others) > 0.5).any()
        sides.append(len(ids))
    assert sides[0] == sides[-1] == 2
    assert sorted(ids) == [1, 2]


def test_a_low_score_brings_a_new_look_for_faces() -> None:
    world = World()
    for i in range(5):
        world.show(i * STEP_S, (80, 90, 30))
    looks = world.detect.calls
    faces = world.show(5 * STEP_S, (240, 90, 30))
    assert world.detect.calls == looks + 1
    assert any(abs(centre_x(face) - 240) < 3 for face in faces)


def test_a_lost_face_fades_and_then_is_gone() -> None:
    world = World()
    for i in range(10):
        world.show(i * STEP_S, (160, 90, 20))
    presences = [[face.presence for face in world.show(i * STEP_S)] for i in range(10, 20)]
    assert 0 < presences[0][0] < 1
    assert presences[1][0] < presences[0][0]
    assert presences[-1] == []
    assert all(a >= b for a, b in itertools.pairwise(presences) if b)


def test_a_covered_face_fades_and_comes_back_under_its_number() -> None:
    world = World()
    for i in range(10):
        world.show(i * STEP_S, (160, 90, 40))
    for i in range(10, 25):
        world.show(i * STEP_S, (160, 90, 40, DIM))
    for i in range(25, 45):
        faces = world.show(i * STEP_S, (160, 90, 40))
    assert [face.track_id for face in faces] == [1]
    assert faces[0].presence == 1.0


def test_uneven_timestamps_are_followed() -> None:
    world = World()
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.uniform(0.005, 0.12, 60))
    for time_s in times:
        x = 60 + 60 * time_s
        (face,) = world.show(float(time_s), (x % 300, 90, 30))
        assert face.track_id == 1
        assert abs(centre_x(face) - x) < 4


@pytest.mark.parametrize("jump_s", [-3.0, 30.0])
def test_a_jump_in_time_starts_the_smoothing_again(jump_s: float) -> None:
    world = World()
    for i in range(5):
        world.show(i * STEP_S, (100, 90, 30))
    looks = world.detect.calls
    (face,) = world.show(4 * STEP_S + jump_s, (112, 90, 30))
    assert world.detect.calls > looks
    assert abs(centre_x(face) - 112) < 1.0
    assert face.presence == 1.0


def test_a_face_that_enters_a_clip_of_few_frames_is_edited() -> None:
    world = World()
    first = (90, 90, 50)
    world.show(0.0, first)
    # two seconds a frame: every step is a break
    faces = [world.show(2.0 * i, first, (250, 90, 25)) for i in range(1, 4)]
    assert [[face.presence for face in each] for each in faces] == [[1, 0], [1, 1], [1, 1]]


def test_no_more_faces_than_asked_for() -> None:
    world = World(effort=SearchEffort(scene_looks=0, looks=0, max_faces=2))
    assert len(world.show(0.0, (50, 90, 30), (150, 90, 30), (250, 90, 30))) == 2


def test_faces_beyond_those_followed_are_counted() -> None:
    world = World(effort=SearchEffort(scene_looks=0, looks=0, max_faces=1))
    assert len(world.show(0.0, (50, 90, 30), (150, 90, 30), (250, 90, 30))) == 1
    assert world.tracker.unfollowed == 2


def test_a_face_too_small_for_one_look_is_found_and_kept() -> None:
    picture = grey_frame(draw((1900, 900, 12), size_wh=(2560, 1440)))
    assert World().tracker(picture, 0.0) == []
    thorough = World(effort=SearchEffort(scene_looks=80, looks=4, max_faces=8))
    for i in range(100):
        (face,) = thorough.tracker(picture, i * STEP_S)
        assert face.track_id == 1
    looks = thorough.detect.calls
    assert looks <= 81 + 6 * (1 + 4 + 1), "whole, in turn, and one close look each time"


def people(*faces: tuple[int, float, float]) -> np.ndarray:
    """Luma with discs (who, x, y), each person lit from a side of their own."""
    luma = draw(size_wh=(640, 180))
    y, x = np.mgrid[0:180, 0:640]
    for who, centre_x, centre_y in faces:
        inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 <= 32**2
        lit = (x - centre_x, centre_x - x, y - centre_y)[who] >= -4
        luma[inside] = np.where(lit, 250, 106)[inside]
    return luma


def follow(world: World, scenes: list[list[tuple[int, float, float]]]) -> list[dict[int, int]]:
    """Who had which number in each scene, a frame every 40 ms."""
    told = []
    for i, scene in enumerate(scenes):
        faces = world.tracker(grey_frame(people(*scene)), i * STEP_S)
        numbers = {}
        for face in faces:
            middle = face.landmarks.mean(0)
            near = [who for who, x, y in scene if np.hypot(middle[0] - x, middle[1] - y) < 20]
            numbers |= dict.fromkeys(near, face.track_id) if face.presence > 0 else {}
        told.append(numbers)
    return told


def test_a_face_that_comes_back_elsewhere_after_seconds_is_the_same() -> None:
    scenes = [[(0, 100, 90), (1, 300, 90)]] * 25 + [[(1, 300, 90)]] * 100
    scenes += [[(1, 300, 90), (0, 550, 90)]] * 25
    numbers = follow(World(), scenes)
    assert numbers[-1] == numbers[0] == {0: 1, 1: 2}


def test_who_comes_back_first_does_not_matter() -> None:
    scenes = [[(0, 100, 90), (1, 300, 90), (2, 500, 90)]] * 25 + [[(2, 500, 90)]] * 60
    scenes += [[(2, 500, 90), (1, 100, 90)]] * 25 + [
        [(2, 500, 90), (1, 100, 90), (0, 300, 90)]
    ] * 25
    numbers = follow(World(), scenes)
    assert numbers[0] == {0: 1, 1: 2, 2: 3}
    assert numbers[-1] == numbers[0]


def test_a_stranger_in_the_place_of_one_who_left_is_a_stranger() -> None:
    scenes = [[(0, 100, 90), (1, 300, 90)]] * 25 + [[(1, 300, 90)]] * 50
    scenes += [[(1, 300, 90), (2, 104, 90)]] * 25
    assert follow(World(), scenes)[-1] == {1: 2, 2: 3}


@pytest.mark.parametrize("height", [0, 24])
def test_faces_that_cross_keep_their_numbers(height: float) -> None:
    way = [90 + 4 * i for i in range(105)]
    crossing = [[(0, x, 80), (1, 600 - x, 80 + height)] for x in way]
    still = [[(0, 90, 80), (1, 510, 80 + height)]] * 20
    numbers = follow(World(), still + crossing + [crossing[-1]] * 30)
    assert numbers[0] == {0: 1, 1: 2}
    assert numbers[-1] == numbers[0]


def test_reset_forgets_everything() -> None:
    world = World()
    first = world.show(0.0, (160, 90, 40))
    world.show(0.04, (165, 90, 40))
    world.tracker.reset()
    again = world.show(0.0, (160, 90, 40))
    assert again[0].track_id == first[0].track_id
    np.testing.assert_array_equal(again[0].landmarks, first[0].landmarks)


def test_a_turned_frame_is_tracked_in_its_stored_pixels() -> None:
    world = World()
    upright = draw((120, 60, 30))
    (plain,) = world.tracker(grey_frame(upright), 0.0)
    world.tracker.reset()
    (turned,) = world.tracker(grey_frame(np.ascontiguousarray(np.rot90(upright)), 1), 0.0)
    # displayed (x, y) is stored (y, width - 1 - x) where a clockwise turn shows it upright
    stored = np.stack([plain.landmarks[:, 1], 319 - plain.landmarks[:, 0]], -1)
    np.testing.assert_allclose(turned.landmarks, stored, atol=0.7)


def test_landmarks_of_a_still_face_are_calmed() -> None:
    rng = np.random.default_rng(0)
    still = face_shape() * 300 + 50
    calm = LandmarkFilter()
    noisy = [still + rng.normal(0, 0.8, still.shape).astype(np.float32) for _ in range(100)]
    smooth = [calm(points, i * STEP_S) for i, points in enumerate(noisy)]

    def shake(frames: list[np.ndarray]) -> float:
        return float(np.abs(np.diff(frames[20:], 2, axis=0)).mean())

    assert shake(smooth) < 0.35 * shake(noisy)
    assert np.abs(np.mean(smooth[20:], axis=0) - still).max() < 0.5


def test_landmarks_of_a_fast_face_do_not_lag() -> None:
    still = face_shape() * 300
    calm = LandmarkFilter()
    for i in range(50):
        moved = still + np.array([20.0, 0.0], np.float32) * i  # six eye distances a second
        shown = calm(moved, i * STEP_S)
        assert np.abs(shown - moved).max() < (0.06 if i < 4 else 0.03) * 84


def test_a_mouth_that_opens_quickly_is_followed() -> None:
    still = face_shape() * 300
    calm = LandmarkFilter()
    for i in range(20):
        calm(still, i * STEP_S)
    open_mouth = still.copy()
    open_mouth[84:96, 1] += 30
    for i in range(20, 24):
        shown = calm(open_mouth, i * STEP_S)
    assert np.abs(shown - open_mouth).max() < 3.0
