import cv2
import numpy as np
import pytest

from mien.calibration.smile.pictures import held_out_pictures
from mien.engines import UsageError
from tests.calibration.smile.data import HELD_OUT, TRAINED_ON, write_faces160, write_fer2013


def grey(level: int, size_wh: tuple[int, int] = (48, 48)) -> np.ndarray:
    return np.full(size_wh[::-1], level, np.uint8)


def levels(pictures: list[np.ndarray]) -> list[int]:
    return sorted(int(picture[0, 0]) for picture in pictures)


def test_only_people_and_splits_that_no_training_saw_are_taken(tmp_path):
    write_faces160(
        tmp_path,
        [
            ("neutral", HELD_OUT, grey(10)),
            ("neutral", TRAINED_ON, grey(20)),
            ("happiness", HELD_OUT, grey(30)),
            ("surprise", HELD_OUT, grey(40)),
        ],
    )
    write_fer2013(
        tmp_path,
        [
            ("neutral", "train", grey(50)),
            ("neutral", "public", grey(60)),
            ("happy", "private", grey(70)),
            ("sad", "private", grey(80)),
        ],
    )
    found = held_out_pictures(tmp_path, ["neutral", "happy"])
    assert {emotion: levels(p) for emotion, p in found.items()} == {
        "neutral": [10, 60],
        "happy": [30, 70],
    }


def test_sheets_of_fer_are_read_in_the_order_of_their_names(tmp_path):
    rows = [("happy", "train", grey(1))] * 99
    rows += [("happy", "public", grey(level)) for level in (101, 102, 103)]
    rows += [("happy", "train", grey(2))] * 120
    rows += [("happy", "private", grey(104))]
    write_fer2013(tmp_path, rows)
    assert levels(held_out_pictures(tmp_path, ["happy"])["happy"]) == [101, 102, 103, 104]


def test_a_tile_of_a_sheet_is_the_picture_of_its_row(tmp_path):
    ramp = (np.arange(48)[:, None] * 3 + np.arange(48)[None] * 2).astype(np.uint8)
    rows = [("happy", "train", grey(1))] * 37 + [("happy", "public", ramp)]
    write_fer2013(tmp_path, rows)
    (picture,) = held_out_pictures(tmp_path, ["happy"])["happy"]
    # twice as large, and as much again around it
    assert picture.shape == (192, 192)
    face = picture[48:144, 48:144]
    np.testing.assert_allclose(
        cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA), ramp, atol=1
    )
    assert (picture[:48, 48:144] == face[0]).all()


def test_pictures_of_the_papers_size_and_above_are_not_enlarged(tmp_path):
    write_faces160(tmp_path, [("sadness", HELD_OUT, grey(9, size_wh=(80, 64)))])
    (picture,) = held_out_pictures(tmp_path, ["sad"])["sad"]
    assert picture.shape == (128, 160)


def test_the_order_is_mixed_and_always_the_same(tmp_path):
    write_fer2013(tmp_path, [("happy", "public", grey(level)) for level in range(60)])
    first, second = (
        [int(p[0, 0]) for p in held_out_pictures(tmp_path, ["happy"])["happy"]] for _ in range(2)
    )
    assert first == second
    assert first != sorted(first)


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds neither faces160\.csv nor fer2013\.csv"):
        held_out_pictures(tmp_path, ["happy"])


def test_data_without_a_held_out_face_of_an_emotion_is_refused(tmp_path):
    write_fer2013(tmp_path, [("happy", "public", grey(1))])
    with pytest.raises(UsageError, match="no picture of a sad face that is held out"):
        held_out_pictures(tmp_path, ["happy", "sad"])


def test_a_damaged_archive_is_refused_in_one_line(tmp_path):
    write_fer2013(tmp_path, [("happy", "public", grey(1))])
    (tmp_path / "fer2013.tar").write_bytes(b"no archive" * 60)
    with pytest.raises(UsageError, match=r"cannot read .*fer2013\.tar"):
        held_out_pictures(tmp_path, ["happy"])


def test_an_archive_with_too_few_sheets_is_refused(tmp_path):
    write_fer2013(tmp_path, [("happy", "public", grey(1))])
    with (tmp_path / "fer2013.csv").open("a") as file:
        file.write("happy,public\n" * 150)
    with pytest.raises(UsageError, match="1 sheets, too few"):
        held_out_pictures(tmp_path, ["happy"])
