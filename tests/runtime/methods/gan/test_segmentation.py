from __future__ import annotations

import numpy as np
import pytest

from mien.engines.networks import IMAGENET_MEAN, IMAGENET_STD, SHIPPED_CLASSES
from mien.runtime.faces.topology import CONTOUR, OUTER_LIPS
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods.gan.parts import PARTS
from mien.runtime.methods.gan.segmentation import (
    MOVED,
    MOVED_S,
    OLD_S,
    ClassMap,
    FaceParser,
    Segmenter,
    face_region_of,
)
from mien.runtime.methods.gan.squares import WideFace
from tests.runtime.methods.gan.networks import CountedParser, class_map, wide_landmarks

SIDE = 200
WIDE_FROM_FRAME = np.array([[1 / SIDE, 0, 0.5 / SIDE], [0, 1 / SIDE, 0.5 / SIDE]])


def face(landmarks: np.ndarray | None = None, colour: bool = False) -> WideFace:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    red = ((x + y) // 2).astype(np.uint8)
    if colour:
        layout = PixelLayout("rgb", full_range=True)
        frame = Frame((Plane(np.dstack([red, red // 2, 255 - red]), (1, 1)),), layout, SIDE, SIDE)
    else:
        layout = PixelLayout("gray", full_range=True)
        frame = Frame((Plane(red, (1, 1)),), layout, SIDE, SIDE)
    points = wide_landmarks() if landmarks is None else landmarks
    return WideFace(frame, WIDE_FROM_FRAME, points.astype(np.float32))


def test_the_parser_sees_luma_three_times_normalised() -> None:
    parser = CountedParser(size=64)
    found = FaceParser(parser.engine())(face())
    (seen,) = parser.seen
    assert seen.shape == (1, 3, 64, 64)
    back = seen[0] * np.array(IMAGENET_STD)[:, None, None] + np.array(IMAGENET_MEAN)[:, None, None]
    np.testing.assert_allclose(back[0], back[2], atol=1e-6)
    assert back[0, 0, 0] < 0.05
    assert back[0, -1, -1] > 0.7
    np.testing.assert_array_equal(found.indices, parser.indices)


def test_a_parser_of_colour_pictures_sees_colour_and_its_own_scale() -> None:
    parser = CountedParser(size=64)
    FaceParser(parser.engine(colour="rgb", mean="0,0,0", std="1,1,0.5"))(face(colour=True))
    red, green, blue = parser.seen[0][0]
    np.testing.assert_allclose(green, red / 2, atol=0.01)
    np.testing.assert_allclose(blue, 2 * (1 - red), atol=0.01)


def test_a_class_map_is_the_largest_logit_of_each_pixel() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, len(SHIPPED_CLASSES), 64, 64)).astype(np.float32)
    parser = CountedParser(size=64)
    engine = parser.engine()
    engine._function = lambda _: {"logits": logits}  # type: ignore[attr-defined]
    found = FaceParser(engine)(face())
    np.testing.assert_array_equal(found.indices, logits[0].argmax(0))


def test_a_class_map_is_kept_until_it_is_old() -> None:
    parser = CountedParser()
    segment = Segmenter(FaceParser(parser.engine()))
    assert segment(face(), 0.0).is_fresh
    for time_s in np.arange(0.03, OLD_S, 0.03):
        assert not segment(face(), float(time_s)).is_fresh
    assert parser.calls == 1
    assert segment(face(), OLD_S).is_fresh
    assert parser.calls == 2


def test_a_face_that_moves_in_its_crop_is_parsed_sooner_but_not_in_every_frame() -> None:
    parser = CountedParser()
    segment = Segmenter(FaceParser(parser.engine()))
    segment(face(), 0.0)
    segment(face(wide_landmarks() + 2 * MOVED), 0.5 * MOVED_S)
    assert parser.calls == 1
    segment(face(wide_landmarks() + 2 * MOVED), MOVED_S)
    assert parser.calls == 2
    segment(face(wide_landmarks() + 2 * MOVED), 2 * MOVED_S)
    assert parser.calls == 2


def test_time_that_goes_back_parses_again() -> None:
    parser = CountedParser()
    segment = Segmenter(FaceParser(parser.engine()))
    segment(face(), 5.0)
    assert segment(face(), 1.0).is_fresh


def test_reset_forgets_the_class_map() -> None:
    parser = CountedParser()
    segment = Segmenter(FaceParser(parser.engine()))
    segment(face(), 0.0)
    segment.reset()
    assert segment(face(), 0.01).is_fresh


def test_a_square_follows_its_part_between_two_class_maps() -> None:
    parser = CountedParser()
    segment = Segmenter(FaceParser(parser.engine()))
    first = segment(face(), 0.0)
    moved = wide_landmarks()
    moved[list(OUTER_LIPS), 1] += 0.05
    for time_s in np.linspace(0.01, 0.09, 5):
        last = segment(face(moved), float(time_s))
    assert parser.calls == 1
    assert last.boxes["mouth"].y - first.boxes["mouth"].y == pytest.approx(0.05, abs=0.02)
    assert last.boxes["nose"].y == pytest.approx(first.boxes["nose"].y, abs=1e-6)


def test_squares_jitter_less_than_the_class_maps() -> None:
    rng = np.random.default_rng(2)
    parser = CountedParser()
    segment = Segmenter(FaceParser(parser.engine()))
    sides, raw = [], []
    for index in range(30):
        landmarks = wide_landmarks() + np.float32(rng.normal(0, 0.004, (1, 2)))
        parser.indices = class_map(landmarks=landmarks)
        found = segment(face(), index * OLD_S)  # parsed every time
        sides.append(found.boxes["mouth"].x)
        raw.append(float(landmarks[list(OUTER_LIPS), 0].mean()))
    assert parser.calls == 30
    assert np.diff(sides).std() < 0.85 * np.diff(raw).std()


def test_parts_that_are_not_seen_are_named() -> None:
    parser = CountedParser()
    parser.indices[parser.indices == SHIPPED_CLASSES.index("r_eye")] = 0
    found = Segmenter(FaceParser(parser.engine()))(face(), 0.0)
    assert found.missing == ("right_eye",)
    assert tuple(found.boxes) == ("left_eye", "nose", "mouth")
    assert found.face is None


def test_all_parts_make_a_face() -> None:
    found = Segmenter(FaceParser(CountedParser().engine()))(face(), 0.0)
    assert tuple(found.boxes) == PARTS
    assert found.face is not None
    assert found.missing == ()


def test_the_region_is_the_face_without_what_is_around_it() -> None:
    classes = (*SHIPPED_CLASSES, "hair")
    indices = class_map(classes=classes)
    chin = wide_landmarks()[list(CONTOUR)][16]
    indices[:90] = classes.index("hair")
    region = face_region_of(ClassMap(indices, classes))
    assert region[round(0.55 * 256), 128] == pytest.approx(1, abs=1e-3)
    assert region[int(chin[1] * 256) + 25, 128] < 1e-3
    assert region[60, 128] < 1e-3
    assert not region[0].any()
    assert not region[:, -1].any()


def test_single_pixels_of_another_class_do_not_pierce_the_region() -> None:
    indices = class_map()
    plain = face_region_of(ClassMap(indices, SHIPPED_CLASSES))
    indices[150:153, 100:103] = 0
    pierced = face_region_of(ClassMap(indices, SHIPPED_CLASSES))
    np.testing.assert_allclose(pierced, plain, atol=1e-3)
