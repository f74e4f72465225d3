from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mien.runtime.avatar.adapters.reading import FaceReader, FaceReading
from mien.runtime.avatar.avatar import Avatar, StillFace
from mien.runtime.avatar.speech import Mouth
from mien.runtime.live.values import NOTHING_APPLIED
from mien.runtime.target import EMOTIONS, parse_target
from tests.runtime.avatar.adapters.faces import live_frame, portrait, still_avatar


@pytest.fixture(scope="module")
def still() -> StillFace:
    return portrait()


@pytest.fixture
def avatar(still: StillFace) -> Iterator[Avatar]:
    made = still_avatar(still)
    yield made
    made.close()


def read(reader: FaceReader, avatar: Avatar, time_s: float) -> FaceReading:
    found = reader(live_frame(avatar, time_s))
    assert found is not None
    return found


def test_an_avatars_expression_is_read_as_far_as_it_has_been_reached(avatar: Avatar) -> None:
    reader = FaceReader()
    read(reader, avatar, 0.0)
    avatar.express(parse_target("sad:0.8"), ease_s=0.4)
    happy = EMOTIONS.index("sad")
    half, whole = (read(reader, avatar, t).weights[happy] for t in (0.15, 3.0))
    assert 0.1 < half < 0.7
    assert whole == pytest.approx(0.8, abs=0.01)


def test_lids_mouth_and_gaze_are_read_from_the_landmarks_shown(avatar: Avatar) -> None:
    reader = FaceReader()
    rest = read(reader, avatar, 0.0)
    assert max(rest.closed) < 0.1
    avatar.blink(0.1)
    shut = read(reader, avatar, 0.2)
    assert min(shut.closed) > 0.9
    avatar.look((1.0, 0.0), 1.0)
    assert read(reader, avatar, 2.0).gaze[0] > rest.gaze[0] + 0.5
    for n in range(40):
        avatar.lips.put(3 + 0.02 * n, Mouth(1.0, 0.0))
    read(reader, avatar, 3.0)
    assert read(reader, avatar, 3.6).opening > rest.opening + 0.5


def test_without_an_edit_the_landmarks_say_which_expression(avatar: Avatar) -> None:
    reader = FaceReader()
    avatar.express(parse_target("happy"), ease_s=0.1)
    live_frame(avatar, 0.0)
    edited = live_frame(avatar, 2.0)
    camera = reader(replace(edited, applied=NOTHING_APPLIED))
    assert camera is not None
    assert max(zip(camera.weights, EMOTIONS, strict=True))[1] == "happy"


def test_no_face_is_no_reading(avatar: Avatar) -> None:
    assert FaceReader()(replace(live_frame(avatar, 0.0), faces=())) is None
