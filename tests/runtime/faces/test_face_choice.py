from __future__ import annotations

import numpy as np
import pytest

from mien.engines.errors import UsageError
from mien.runtime.faces.choice import FaceChoice
from mien.runtime.faces.tracking import Face
from mien.runtime.frame import Frame
from tests.runtime.faces.fake_faces import draw, face_shape, grey_frame


def face(track_id: int, x: float, size: float = 100.0, y: float = 60.0) -> Face:
    points = (face_shape() - 0.5) * size + np.array([x, y], np.float32)
    return Face(track_id, points.astype(np.float32), 0.9, 1.0)


@pytest.fixture
def frame() -> Frame:
    return grey_frame(draw())


def ids(faces: list[Face]) -> list[int]:
    return [each.track_id for each in faces]


def test_all_takes_every_face(frame: Frame) -> None:
    assert ids(FaceChoice("all")([face(1, 50), face(2, 200)], frame)) == [1, 2]
    assert FaceChoice()([], frame) == []


def test_numbers_run_from_left_to_right_at_first_appearance(frame: Frame) -> None:
    first, second, third = FaceChoice("1"), FaceChoice("2"), FaceChoice("3")
    start = [face(1, 250), face(2, 50)]
    assert ids(first(start, frame)) == [2]
    assert ids(second(start, frame)) == [1]
    assert third(start, frame) == []
    later = [face(1, 30), face(2, 250), face(7, 5)]
    assert ids(first(later, frame)) == [2]
    third(start, frame)
    assert ids(third(later, frame)) == [7]


def test_a_number_that_is_not_among_the_faces_is_missing(frame: Frame) -> None:
    second = FaceChoice("2")
    second([face(1, 50), face(2, 250)], frame)
    assert not second.is_missing
    assert second([face(1, 50)], frame) == []
    assert second.is_missing
    second([], frame)
    assert not second.is_missing, "nobody is there to be taken for it"


def test_left_and_right_are_those_of_the_displayed_picture() -> None:
    turned = grey_frame(draw(size_wh=(180, 320)), rotation=1)
    choice = FaceChoice("1")  # shown turned clockwise: what is lower in store is further left
    assert ids(choice([face(1, 90, y=60), face(2, 90, y=260)], turned)) == [2]


def test_the_largest_changes_only_for_a_clearly_larger_one(frame: Frame) -> None:
    choice = FaceChoice("largest")
    assert choice([], frame) == []
    assert ids(choice([face(1, 50, 100), face(2, 200, 90)], frame)) == [1]
    assert ids(choice([face(1, 50, 100), face(2, 200, 115)], frame)) == [1]
    assert ids(choice([face(1, 50, 100), face(2, 200, 140)], frame)) == [2]
    assert ids(choice([face(1, 50, 100)], frame)) == [1]


def test_numbers_begin_again_when_nobody_is_left_and_after_a_reset(frame: Frame) -> None:
    choice = FaceChoice("1")
    assert ids(choice([face(4, 50)], frame)) == [4]
    assert ids(choice([face(4, 50), face(5, 10)], frame)) == [4]
    assert choice([face(5, 10)], frame) == []
    assert choice([], frame) == []
    assert ids(choice([face(7, 90), face(6, 20)], frame)) == [6]
    choice.reset()
    assert ids(choice([face(8, 50)], frame)) == [8]


@pytest.mark.parametrize("text", ["", "0", "-1", "biggest", "1.5", "²"])
def test_any_other_choice_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="largest"):
        FaceChoice(text)


def test_another_choice_keeps_the_numbers(frame: Frame) -> None:
    choice = FaceChoice("all")
    shown = [face(1, 250), face(2, 50)]
    choice(shown, frame)
    assert choice.numbers == {2: 1, 1: 2}
    choice.text = "2"
    assert ids(choice(shown, frame)) == [1]
    with pytest.raises(UsageError, match="cannot choose"):
        choice.text = "0"
    assert choice.text == "2"
