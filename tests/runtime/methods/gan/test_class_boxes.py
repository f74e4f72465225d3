from __future__ import annotations

import numpy as np
import pytest

from mien.engines.networks import SHIPPED_CLASSES
from mien.runtime.methods.gan.parts import PARTS, face_box, part_boxes
from mien.runtime.methods.gan.segmentation import boxes_of, face_box_of, part_extents
from tests.runtime.methods.gan.networks import CELEBAMASK, class_map, wide_landmarks


@pytest.mark.parametrize("classes", [SHIPPED_CLASSES, CELEBAMASK], ids=["shipped", "celebamask"])
@pytest.mark.parametrize("side", [256, 512])
def test_squares_of_a_class_map_are_those_of_the_landmarks(
    side: int, classes: tuple[str, ...]
) -> None:
    extents = part_extents(class_map(side, classes), classes)
    found, wanted = boxes_of(extents), part_boxes(wide_landmarks())
    assert tuple(found) == PARTS
    pixel = 1.5 * 1.5 / side  # of a mask's edge, times the room
    for part in PARTS:
        assert found[part].x == pytest.approx(wanted[part].x, abs=pixel)
        assert found[part].y == pytest.approx(wanted[part].y, abs=pixel)
        assert found[part].side == pytest.approx(wanted[part].side, abs=2 * pixel)
    face, wide = face_box_of(extents), face_box(wide_landmarks())
    assert face is not None
    assert face.side == pytest.approx(wide.side, abs=2 * pixel)
    assert face.y == pytest.approx(wide.y, abs=pixel)


def test_left_and_right_are_told_apart_by_place_not_by_name() -> None:
    indices = class_map()
    swapped = indices.copy()
    for left, right in (("l_eye", "r_eye"), ("l_brow", "r_brow")):
        one, other = SHIPPED_CLASSES.index(left), SHIPPED_CLASSES.index(right)
        swapped[indices == one], swapped[indices == other] = other, one
    assert boxes_of(part_extents(swapped, SHIPPED_CLASSES)) == boxes_of(
        part_extents(indices, SHIPPED_CLASSES)
    )


def test_one_class_for_both_eyes_is_parted_in_the_middle() -> None:
    indices = class_map()
    for right, left in (("r_eye", "l_eye"), ("r_brow", "l_brow")):
        indices[indices == SHIPPED_CLASSES.index(right)] = SHIPPED_CLASSES.index(left)
    found = boxes_of(part_extents(indices, SHIPPED_CLASSES))
    assert found["left_eye"].x < 0.45
    assert found["right_eye"].x > 0.55


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        (("l_eye",), "left_eye"),
        (("r_eye", "r_brow"), "right_eye"),
        (("nose",), "nose"),
        (("u_lip", "mouth"), "mouth"),
    ],
)
def test_a_part_without_its_pixels_has_no_extent(gone: tuple[str, ...], missing: str) -> None:
    indices = class_map()
    for name in gone:
        indices[indices == SHIPPED_CLASSES.index(name)] = SHIPPED_CLASSES.index("skin")
    extents = part_extents(indices, SHIPPED_CLASSES)
    assert set(PARTS) - set(extents) == {missing}
    assert face_box_of(extents) is None


def test_an_eye_without_its_brow_is_still_an_eye() -> None:
    indices = class_map()
    for name in ("l_brow", "r_brow"):
        indices[indices == SHIPPED_CLASSES.index(name)] = SHIPPED_CLASSES.index("skin")
    assert set(part_extents(indices, SHIPPED_CLASSES)) == set(PARTS)


def test_specks_far_off_do_not_widen_a_part() -> None:
    indices = class_map()
    plain = part_extents(indices, SHIPPED_CLASSES)
    indices[250:253, 2:5] = SHIPPED_CLASSES.index("u_lip")
    indices[3:5, 3:5] = SHIPPED_CLASSES.index("nose")
    for part, extent in part_extents(indices, SHIPPED_CLASSES).items():
        np.testing.assert_array_equal(extent, plain[part])


def test_a_picture_of_nothing_has_no_parts() -> None:
    assert part_extents(np.zeros((64, 64), np.uint8), SHIPPED_CLASSES) == {}
