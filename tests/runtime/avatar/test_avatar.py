from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.engines import Catalog
from mien.engines.errors import UsageError
from mien.runtime.avatar.avatar import Avatar, StillFace, read_still
from mien.runtime.avatar.cover import StillCover
from mien.runtime.avatar.eyes import Eye
from mien.runtime.avatar.motion import Idle, IdleSettings
from mien.runtime.avatar.speech import Mouth
from mien.runtime.blending.blending import blend_faces
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods.warp.mouth import mouth_box
from mien.runtime.pictures.picture import Picture, read_picture
from mien.runtime.target import parse_target

PORTRAIT = Path(__file__).parents[3] / "apps" / "sample" / "portrait.jpg"
AT_REST = IdleSettings(sway=0, breath=0, gaze=0, blinks=0)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.bundled()


@pytest.fixture(scope="module")
def still(catalog: Catalog) -> StillFace:
    return read_still(read_picture(PORTRAIT), (256, 256), catalog)


@pytest.fixture
def avatar(still: StillFace, catalog: Catalog) -> Iterator[Avatar]:
    made = Avatar(still, catalog, idle=AT_REST)
    yield made
    made.close()


def luma(frame: Frame) -> np.ndarray:
    return frame.planes[0].samples.astype(np.int16)


def changed(before: Frame, after: Frame) -> np.ndarray:
    """Where a frame is another one: bool (H, W)."""
    return np.abs(luma(before) - luma(after)) > 3


def centre_y(where: np.ndarray) -> float:
    return float(np.nonzero(where)[0].mean())


def test_an_avatar_without_motion_is_the_picture_itself(still: StillFace, avatar: Avatar) -> None:
    shown = avatar.frame_at(1.0)
    assert (shown.width, shown.height) == (218, 256)
    assert not changed(still.frame, shown).any()


def test_an_expression_is_eased_to_and_left_again(still: StillFace, avatar: Avatar) -> None:
    avatar.frame_at(0.0)
    avatar.express(parse_target("happy"), ease_s=0.4)
    amounts = [int(changed(still.frame, avatar.frame_at(t)).sum()) for t in (0.04, 0.15, 0.6)]
    assert 0 <= amounts[0] < amounts[1] < amounts[2]
    avatar.express(None, ease_s=0.2)
    avatar.frame_at(0.65)
    assert not changed(still.frame, avatar.frame_at(3.0)).any()


@pytest.mark.parametrize("emotion", ["happy", "sad", "surprised", "angry", "disgusted", "fearful"])
def test_the_first_frame_after_a_command_shows_it(
    still: StillFace, avatar: Avatar, emotion: str
) -> None:
    avatar.frame_at(0.0)
    avatar.express(parse_target(emotion))
    assert np.abs(luma(avatar.frame_at(1 / 30)) - luma(still.frame)).max() >= 3


def test_a_blink_closes_the_eyes_and_nothing_else(still: StillFace, avatar: Avatar) -> None:
    avatar.frame_at(0.0)
    avatar.blink(0.1)
    shut = changed(still.frame, avatar.frame_at(0.2))
    eyes = still.face.landmarks[52:64]
    low, high = eyes.min(0) - 12, eyes.max(0) + 12
    rows, columns = np.nonzero(shut)
    assert len(rows) > 20
    assert rows.min() > low[1]
    assert rows.max() < high[1]
    assert columns.min() > low[0]
    assert columns.max() < high[0]
    assert not changed(still.frame, avatar.frame_at(1.0)).any()


def test_lids_close_behind_the_rims_of_glasses() -> None:
    height, width = 160, 320
    picture = np.full((height, width), 150, np.uint8)
    picture[60:66] = 10  # a dark rim from one side to the other, above the eye
    picture[86:95, 108:132] = 60  # the eye
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    layout = PixelLayout("yuv", matrix="bt601")
    planes = (Plane(picture, (1, 1)), Plane(chroma, (2, 2)), Plane(chroma, (2, 2)))
    frame = Frame(planes, layout, width, height)
    points = np.zeros((106, 2), np.float32)
    points[[52, 53, 72, 54, 55]] = [(100, 90), (110, 84), (120, 82), (130, 84), (140, 90)]
    points[[57, 73, 56]] = [(110, 94), (120, 96), (130, 94)]
    points[64:68] = [(105, 52), (115, 50), (125, 50), (135, 52)]
    points[104] = (120, 89)
    covered = np.zeros((height, width), np.float32)
    covered[58:68] = 1
    units = np.array([[1 / width, 0, 0.5 / width], [0, 1 / height, 0.5 / height]], np.float32)
    for cover, rim_stays in ((None, False), (covered, True)):
        still = StillCover(frame, cover, units)
        assert not changed(frame, still.laid_on(still.bare)).any()
        edit = Eye(points, 0).edit(1.0, (0.0, 0.0))
        assert edit is not None
        where = changed(frame, still.laid_on(blend_faces(still.bare, [edit])))
        assert where[75:90].any()  # the lid closes
        assert (not where[60:66].any()) == rim_stays


def test_the_iris_goes_where_the_gaze_goes() -> None:
    points = np.zeros((106, 2), np.float32)
    points[[52, 53, 72, 54, 55]] = [(0, 0), (10, -6), (20, -8), (30, -6), (40, 0)]
    points[[57, 73, 56]] = [(10, 4), (20, 6), (30, 4)]
    points[64:68] = [(5, -25), (15, -28), (25, -28), (35, -25)]
    points[104] = (20, -1)
    points += 100
    eye = Eye(points, 0)
    found = eye.edit(0.0, (1.0, 0.0))
    assert found is not None
    assert found.edit.flow is not None
    flow = found.edit.flow
    assert flow[0].min() < -0.05  # what is shown comes from the left: the iris went right
    assert not np.any(flow[:, [0, -1]])
    assert eye.edit(0.0, (0.0, 0.0)) is None


def test_speech_opens_the_mouth_and_shows_its_dark_inside(still: StillFace, avatar: Avatar) -> None:
    avatar.frame_at(0.0)
    for n in range(20):
        avatar.lips.put(0.02 * n, Mouth(1.0, 0.0))
    spoken = avatar.frame_at(0.4)
    where = changed(still.frame, spoken)
    x0, _, x1, y1 = mouth_box(still.face.landmarks)
    assert centre_y(where) > still.face.landmarks[46, 1]  # below the nose
    part = (slice(int(still.face.landmarks[98, 1]), int(y1)), slice(int(x0), int(x1)))
    assert luma(spoken)[part].min() < luma(still.frame)[part].min()
    assert not changed(still.frame, avatar.frame_at(3.0)).any()  # no more sound: closed


def test_a_frame_in_which_nothing_has_changed_is_the_one_before(
    still: StillFace, avatar: Avatar
) -> None:
    avatar.express(parse_target("happy"), ease_s=0.1)
    avatar.look((0.5, 0.0), 0.0)
    for n in range(10):
        avatar.lips.put(0.1 * n, Mouth(0.8, 0.3))
    frames = [avatar.frame_at(0.1 * n) for n in range(10)]
    assert frames[1] is not frames[2]
    at_rest = [avatar.frame_at(3.0 + 0.1 * n) for n in range(3)]
    assert at_rest[1] is at_rest[2]
    again = Avatar(still, Catalog.bundled(), idle=AT_REST)  # the same, without a past
    again.express(parse_target("happy"), ease_s=1e-3)
    again.look((0.5, 0.0), 0.0)
    again.frame_at(0.0)
    assert np.abs(luma(again.frame_at(3.2)) - luma(at_rest[2])).max() <= 1
    again.close()


def test_sway_moves_the_head_and_leaves_the_edges_of_the_picture(
    still: StillFace, catalog: Catalog
) -> None:
    made = Avatar(still, catalog, idle=IdleSettings(blinks=0, gaze=0))
    moved = [changed(still.frame, made.frame_at(t)) for t in (0.5, 2.0, 3.5)]
    made.close()
    for where in moved:
        assert where.any()
        assert not where[:2].any()
        assert not where[-2:].any()
        assert not where[:, :2].any()


def test_one_seed_gives_one_life() -> None:
    times = [0.05 * n for n in range(600)]
    first, second, other = (Idle(IdleSettings(seed=seed)) for seed in (3, 3, 4))
    lives = [[idle(t) for t in times] for idle in (first, second, other)]
    assert lives[0] == lives[1]
    assert lives[0] != lives[2]
    assert max(pose.closure for pose in lives[0]) == 1.0
    assert any(pose.gaze != (0.0, 0.0) for pose in lives[0])


@pytest.mark.parametrize(
    "wrong", [{"sway": -1.0}, {"blinks": 61.0}, {"breath": float("nan")}, {"seed": -1}]
)
def test_idle_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        IdleSettings(**wrong)  # type: ignore[arg-type]


def doubled(picture: Picture) -> Picture:
    samples = picture.frame.planes[0].samples
    pair = np.concatenate([samples, samples], 1)
    frame = replace(picture.frame, planes=(Plane(pair, (1, 1)),), width=pair.shape[1])
    return replace(picture, frame=frame)


def test_a_picture_of_two_faces_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="2 faces"):
        read_still(doubled(read_picture(PORTRAIT)), (512, 512), catalog)


def test_a_picture_without_a_face_is_refused(catalog: Catalog) -> None:
    picture = read_picture(PORTRAIT)
    grey = Plane(np.full_like(picture.frame.planes[0].samples, 128), (1, 1))
    empty = replace(picture, frame=replace(picture.frame, planes=(grey,)))
    with pytest.raises(UsageError, match="no face"):
        read_still(empty, (256, 256), catalog)
