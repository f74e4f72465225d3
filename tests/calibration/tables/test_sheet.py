import cv2
import numpy as np
import pytest

from mien.calibration.tables.sheet import LARGEST_PX, SheetRow, draw_sheet, write_sheet
from mien.engines import VideoError


def test_faces_are_shown_at_their_own_size():
    chance = np.random.default_rng(1)
    picture = chance.integers(0, 256, (300, 400, 3), np.uint8)
    points = np.array([[150, 100], [230, 190]])
    row = SheetRow.around(points, {"source": picture, "happy": picture})
    crop = row.pictures["happy"]
    assert crop.shape[0] == crop.shape[1] == 135
    np.testing.assert_array_equal(crop, picture[77:212, 122:257])
    sheet = draw_sheet([row, row])
    assert sheet.shape[0] > 2 * 135
    assert sheet.shape[1] > 2 * 135


def test_a_face_at_the_border_is_cut_and_a_huge_one_reduced():
    picture = np.zeros((2000, 2000, 3), np.uint8)
    row = SheetRow.around(np.array([[-50, 0], [1900, 1900]]), {"source": picture})
    assert max(row.pictures["source"].shape) == LARGEST_PX


def test_a_sheet_is_written_as_a_picture(tmp_path):
    row = SheetRow({"source": np.full((20, 30, 3), (200, 10, 10), np.uint8)})
    write_sheet(tmp_path / "sheet.png", [row])
    assert (cv2.imread(str(tmp_path / "sheet.png")) == (10, 10, 200)).all(2).sum() == 600
    write_sheet(tmp_path / "none.png", [])
    assert not (tmp_path / "none.png").exists()
    with pytest.raises(VideoError):
        write_sheet(tmp_path / "no folder" / "sheet.png", [row])
