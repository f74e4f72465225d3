from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from mien.engines import FakeEngine
from mien.engines.networks import SHIPPED_CLASSES, cyclegan_network, stargan_network
from mien.runtime.blending.blending import blend, crop_units_matrix
from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import AlignedFace, crop_matrix, transform_points
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.methods.base import Goal
from mien.runtime.methods.gan.editor import (
    FAITHFUL,
    FRESH_S,
    REDRAWN,
    Look,
    Looked,
    ShownEmotion,
    StyleEditor,
    faithful,
)
from mien.runtime.methods.gan.generator import Restyler
from mien.runtime.methods.gan.method import FaceLook, PartsLook, look_at_image
from mien.runtime.methods.gan.parts import IMAGE_BOX, PARTS, Box, part_boxes
from mien.runtime.methods.gan.segmentation import FaceParser
from mien.runtime.methods.gan.squares import GRID, WideFace, wide_face
from mien.runtime.target import parse_target
from tests.runtime.faces.shapes import mean_face
from tests.runtime.methods.gan.networks import (
    EMOTIONS,
    PART_LABELS,
    CountedGenerator,
    CountedParser,
    metadata,
    one_way_engine,
    wide_landmarks,
)

HAPPY = parse_target("happy").vector()
SAD = parse_target("sad").vector()
SQUARE = Box(0.5, 0.6, 0.4)


def sample() -> tuple[Frame, AlignedFace]:
    y, x = np.mgrid[0:300, 0:300]
    luma = (110 + 30 * np.sin(x / 9) + 30 * np.cos(y / 7)).astype(np.uint8)
    frame = Frame((Plane(luma, (1, 1)),), PixelLayout("gray", full_range=True), 300, 300)
    points = mean_face() * 200 + 40
    matrix = crop_matrix(points, 64)
    landmarks = (transform_points(matrix, points) + 0.5) / 64
    return frame, AlignedFace(np.zeros((64, 64), np.float32), matrix, landmarks)


class FixedLook:
    """Looks at given squares, wherever the face is."""

    def __init__(self, boxes: Mapping[str, Box], *, parsed: bool = False) -> None:
        self.boxes, self.parsed = boxes, parsed

    def __call__(self, face: WideFace, time_s: float, /) -> Looked:
        return Looked(self.boxes, np.ones((64, 64), np.float32), parsed=self.parsed)


def shown(edit: Edit) -> np.ndarray:
    """The luma of the edited sample, less that of the sample: float (300, 300)."""
    frame, face = sample()
    edited = blend(frame, crop_units_matrix(face.crop_from_frame, 64), edit)
    return edited.planes[0].samples.astype(float) - frame.planes[0].samples


def place(u: float, v: float) -> tuple[int, int]:
    """Row and column of the sample where a point of the wide crop lies."""
    frame, face = sample()
    matrix = wide_face(frame, face).wide_from_frame
    x, y = np.linalg.solve(matrix[:, :2], np.array([u, v]) - matrix[:, 2])
    return round(float(y)), round(float(x))


def editor(
    generator: CountedGenerator, look: Look | None = None, *, pastes: bool = False
) -> StyleEditor:
    look = look or FixedLook({"face": SQUARE})
    return StyleEditor(Restyler(generator.engine()), look, pastes=pastes)


def test_the_field_adds_what_the_label_changes() -> None:
    edit = editor(CountedGenerator())(*sample(), Goal(HAPPY, 1.0), 0.0)
    assert edit.paste is None
    change = shown(edit)
    assert change[place(SQUARE.x, SQUARE.y)] == pytest.approx(0.15 * 255, abs=1.5)
    assert change[place(0.5, 0.2)] == 0


def flattening(step: float) -> FakeEngine:
    """A generator that flattens a picture, `step` of [-1, 1] brighter where it is to be happy."""

    def infer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        steps = feeds["label"] @ np.array([0.0, step, -step], np.float32)
        flat = np.broadcast_to(feeds["image"].mean((2, 3), keepdims=True), feeds["image"].shape)
        return {"edited": (flat + steps[:, None, None, None]).astype(np.float32)}

    network = stargan_network("stargan_face", labels=3)
    return FakeEngine(network, infer, metadata({"labels": ",".join(EMOTIONS), "colour": "luma"}))


@pytest.mark.parametrize(("step", "is_kept"), [(REDRAWN * 1.8, True), (0.3, False)])
def test_the_field_keeps_what_the_generator_cannot_reproduce_until_it_redraws_the_place(
    step: float, is_kept: bool
) -> None:
    edit = StyleEditor(Restyler(flattening(step)), FixedLook({"face": SQUARE}), pastes=False)
    change = shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))
    y, x = place(SQUARE.x, SQUARE.y)
    around = np.s_[y - 15 : y + 16, x - 15 : x + 16]
    if is_kept:
        np.testing.assert_allclose(change[around], step / 2 * 255, atol=1.5)
    else:
        before = sample()[0].planes[0].samples[around].astype(float)
        assert (before + change[around]).std() < 0.2 * before.std()


def test_paste_shows_the_generators_picture_at_the_brightness_of_the_frame() -> None:
    edit = editor(CountedGenerator(), pastes=True)(*sample(), Goal(HAPPY, 1.0), 0.0)
    assert edit.delta is None
    # this generator changes brightness alone, which the paper's adjustment takes back
    assert np.abs(shown(edit)).max() < 6


def test_paste_and_field_show_the_same_change_of_shape() -> None:
    engine = one_way_engine(0.3)
    for pastes in (False, True):
        edit = StyleEditor(Restyler(engine), FixedLook({"face": SQUARE}), pastes=pastes)
        change = shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))
        upper = change[place(SQUARE.x, SQUARE.y - 0.1)]
        lower = change[place(SQUARE.x, SQUARE.y + 0.1)]
        assert lower - upper == pytest.approx(0.15 * 255, abs=5)


def test_a_one_way_network_that_relights_a_picture_changes_only_what_it_means() -> None:
    def relights(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        edited = 0.8 * feeds["image"] + 0.4
        edited[:, :, 26:38, 26:38] += 0.5
        return {"edited": edited}

    facts = metadata({"labels": "neutral->happy", "colour": "luma"})
    engine = FakeEngine(cyclegan_network("cyclegan_face"), relights, facts)
    edit = StyleEditor(Restyler(engine), FixedLook({"face": SQUARE}), pastes=False)
    change = shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))
    assert change[place(SQUARE.x, SQUARE.y)] > 40
    for u, v in ((-0.12, -0.12), (0.12, -0.12), (-0.12, 0.12), (0.12, 0.12)):
        assert abs(change[place(SQUARE.x + u, SQUARE.y + v)]) < 8


def test_strength_scales_the_field() -> None:
    changes = [
        shown(editor(CountedGenerator())(*sample(), Goal(HAPPY, strength), 0.0))[place(0.5, 0.6)]
        for strength in (0.5, 1.0, 1.5)
    ]
    np.testing.assert_allclose(changes, 255 * 0.15 * np.array([0.5, 1, 1.5]), atol=1.5)


def test_the_amount_that_a_graph_states_scales_the_field() -> None:
    network = stargan_network("stargan_face", labels=3)

    def change(**stated: str) -> float:
        facts = {"labels": ",".join(EMOTIONS), "colour": "luma"} | stated
        engine = FakeEngine(network, CountedGenerator(), metadata(facts))
        edit = StyleEditor(Restyler(engine), FixedLook({"face": SQUARE}), pastes=False)
        return float(shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))[place(0.5, 0.6)])

    assert change(amount="1.5") == pytest.approx(1.5 * change(), abs=1.5)


def test_strength_fades_a_paste_in_and_beyond_one_makes_it_say_more() -> None:
    def size(strength: float) -> float:
        edit = StyleEditor(Restyler(one_way_engine()), FixedLook({"face": SQUARE}), pastes=True)
        return float(np.abs(shown(edit(*sample(), Goal(HAPPY, strength), 0.0))).sum())

    assert 0.3 < size(0.5) / size(1.0) < 0.7
    assert size(1.5) > 1.3 * size(1.0)


def test_what_a_face_shows_already_changes_nothing() -> None:
    """A generator that reproduces best under `happy` was given a happy face."""

    def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        steps = feeds["label"] @ np.array([-0.3, 0.0, -0.6], np.float32)
        return {"edited": feeds["image"] + steps[:, None, None, None]}

    network = stargan_network("stargan_face", labels=3)
    engine = FakeEngine(network, answer, metadata({"labels": ",".join(EMOTIONS), "colour": "luma"}))
    edit = StyleEditor(Restyler(engine), FixedLook({"face": SQUARE}), pastes=False)
    assert np.abs(shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))).max() == 0
    assert shown(edit(*sample(), Goal(SAD, 1.0), 1.0))[place(0.5, 0.6)] < -60


def test_the_shown_emotion_is_compared_now_and_then_and_does_not_flip() -> None:
    generator = CountedGenerator()
    shows = ShownEmotion(Restyler(generator.engine()))
    squares = np.full((1, 1, 64, 64), 0.5, np.float32)
    assert shows(squares, ("face",))[0] == "neutral"
    assert generator.calls == 3
    for _ in range(8):
        emotion, reproduced = shows(squares, ("face",))
        assert emotion == "neutral"
        np.testing.assert_allclose(reproduced, squares, atol=1e-6)
    assert generator.calls == 3 + 8 + 2


def test_a_face_is_neutral_until_another_label_is_clearly_better() -> None:
    def reproduces(shares: tuple[float, float, float]) -> str:
        def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            steps = feeds["label"] @ np.array(shares, np.float32)
            return {"edited": feeds["image"] + steps[:, None, None, None]}

        network = stargan_network("stargan_face", labels=3)
        facts = metadata({"labels": ",".join(EMOTIONS), "colour": "luma"})
        shows = ShownEmotion(Restyler(FakeEngine(network, answer, facts)))
        return shows(np.full((1, 1, 64, 64), 0.5, np.float32), ("face",))[0]

    assert reproduces((0.20, 0.18, 0.4)) == "neutral"
    assert reproduces((0.20, 0.10, 0.4)) == "happy"


def test_without_a_neutral_label_the_best_one_counts() -> None:
    generator = CountedGenerator(("sad", "happy"))
    shows = ShownEmotion(Restyler(generator.engine()))
    squares = np.full((1, 1, 64, 64), 0.9, np.float32)  # where happy is too bright to be shown
    assert shows(squares, ("face",))[0] == "happy"


def test_the_generator_is_not_asked_for_every_frame() -> None:
    generator = CountedGenerator()
    edit = editor(generator)
    edit(*sample(), Goal(HAPPY, 1.0), 0.0)
    asked = generator.calls
    edit(*sample(), Goal(HAPPY, 1.0), 0.5 * FRESH_S)
    assert generator.calls == asked
    edit(*sample(), Goal(HAPPY, 1.0), 1.01 * FRESH_S)
    assert generator.calls > asked


def test_one_frame_does_not_pay_for_both_networks() -> None:
    generator = CountedGenerator()
    look = FixedLook({"face": SQUARE})
    edit = editor(generator, look)
    edit(*sample(), Goal(HAPPY, 1.0), 0.0)
    asked = generator.calls
    look.parsed = True
    edit(*sample(), Goal(HAPPY, 1.0), 1.1 * FRESH_S)
    assert generator.calls == asked
    edit(*sample(), Goal(HAPPY, 1.0), 2.1 * FRESH_S)
    assert generator.calls > asked


def test_answers_that_flicker_are_calmed() -> None:
    rng = np.random.default_rng(0)
    flicker: list[float] = []

    def answer(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        flicker.append(float(rng.normal(0.4, 0.1)))
        return {"edited": feeds["image"] + np.float32(flicker[-1])}

    engine = FakeEngine(
        one_way_engine().network, answer, metadata({"labels": "neutral->happy", "colour": "luma"})
    )
    edit = StyleEditor(Restyler(engine), FixedLook({"face": SQUARE}), pastes=False)
    sizes = [
        float(shown(edit(*sample(), Goal(HAPPY, 1.0), step / 15))[place(0.5, 0.6)])
        for step in range(24)
    ]
    assert len(flicker) == 24
    assert np.diff(sizes).std() < 0.7 * np.diff(np.array(flicker) * 127.5).std()


def test_a_part_comes_and_goes_without_a_jump() -> None:
    look = FixedLook({"nose": Box(0.5, 0.5, 0.2), "mouth": Box(0.5, 0.7, 0.2)})
    edit = editor(CountedGenerator(), look)

    def mouth(time_s: float) -> float:
        change = shown(edit(*sample(), Goal(HAPPY, 1.0), time_s))
        assert change[place(0.5, 0.5)] == pytest.approx(38, abs=2)
        return float(change[place(0.5, 0.7)])

    assert mouth(0.0) == pytest.approx(38, abs=2)
    both, look.boxes = look.boxes, {"nose": Box(0.5, 0.5, 0.2)}
    leaving = [mouth(0.033 * step) for step in range(1, 17)]
    assert max(-np.diff([38, *leaving])) < 15
    assert leaving[-1] == 0
    look.boxes = both
    coming = [mouth(0.56 + 0.033 * step) for step in range(16)]
    assert max(np.diff([0, *coming])) < 15
    assert coming[-1] == pytest.approx(38, abs=2)


def test_nothing_seen_is_an_empty_edit() -> None:
    generator = CountedGenerator()
    edit = editor(generator, FixedLook({}))(*sample(), Goal(HAPPY, 1.0), 0.0)
    assert edit.is_empty
    assert generator.calls == 0


def test_the_right_eye_is_shown_mirrored_and_comes_back_as_it_lies() -> None:
    given: list[np.ndarray] = []

    def brightens_the_left(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given.append(feeds["image"])
        edited = feeds["image"].copy()
        edited[..., :20] += 0.5 * feeds["label"][:, 1, None, None, None]
        return {"edited": edited}

    network = stargan_network("stargan_parts", labels=6, batch=4)
    facts = {"labels": ",".join(PART_LABELS), "colour": "luma"}
    engine = FakeEngine(network, brightens_the_left, metadata(facts))
    boxes = {"left_eye": Box(0.35, 0.4, 0.25), "right_eye": Box(0.65, 0.4, 0.25)}
    edit = StyleEditor(Restyler(engine), FixedLook(boxes), pastes=False)
    change = shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))
    frame, face = sample()
    wide = wide_face(frame, face)
    left, right = boxes["left_eye"], boxes["right_eye"]
    np.testing.assert_allclose(
        given[0][1, 0],
        2 * wide.look(right, 64, "luma")[0, :, ::-1] - 1,
        atol=1e-5,
    )
    assert change[place(left.x - 0.3 * left.side, left.y)] > 40
    assert change[place(left.x + 0.3 * left.side, left.y)] < 5
    assert change[place(right.x + 0.3 * right.side, right.y)] > 40
    assert change[place(right.x - 0.3 * right.side, right.y)] < 5


def test_parts_that_are_missing_are_left_unchanged_and_named() -> None:
    parser = CountedParser()
    parser.indices[parser.indices == SHIPPED_CLASSES.index("r_eye")] = 1
    generator = CountedGenerator(PART_LABELS, 4)
    look = PartsLook(FaceParser(parser.engine()))
    edit = StyleEditor(Restyler(generator.engine("stargan_parts")), look, pastes=False)
    change = shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))
    boxes = part_boxes(wide_landmarks())
    assert edit.unedited_parts == ("right_eye",)
    unseen = boxes["right_eye"]
    assert change[place(unseen.x + 0.2 * unseen.side, unseen.y)] == 0
    for part in ("left_eye", "nose", "mouth"):
        assert change[place(boxes[part].x, boxes[part].y)] > 30


def test_parts_are_labelled_by_their_kind() -> None:
    generator = CountedGenerator(PART_LABELS, 4)
    look = PartsLook(FaceParser(CountedParser().engine()))
    StyleEditor(Restyler(generator.engine("stargan_parts")), look, pastes=True)(
        *sample(), Goal(HAPPY), 0.0
    )
    (asked,) = generator.asked
    np.testing.assert_array_equal(
        asked,
        [[0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1]],
    )


def test_a_face_without_all_parts_is_left_unchanged_as_a_whole() -> None:
    parser = CountedParser()
    look = FaceLook(FaceParser(parser.engine()))
    edit = editor(CountedGenerator(), look)
    assert shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0))[place(0.5, 0.6)] > 30
    parser.indices[:] = 1
    edit = editor(CountedGenerator(), FaceLook(FaceParser(parser.engine())))
    assert edit(*sample(), Goal(HAPPY, 1.0), 0.0).is_empty
    assert edit.unedited_parts == PARTS


def test_the_whole_picture_is_edited_on_the_face_only() -> None:
    edit = editor(CountedGenerator(), look_at_image)(*sample(), Goal(HAPPY, 1.0), 0.0)
    change = shown(edit)
    assert change[place(0.5, 0.6)] == pytest.approx(38, abs=2)
    left = IMAGE_BOX.x - IMAGE_BOX.side / 2
    assert change[place(left + 0.02, 0.8)] == 0
    pasted = editor(CountedGenerator(), look_at_image, pastes=True)(
        *sample(), Goal(HAPPY, 1.0), 0.0
    )
    assert pasted.paste is not None
    row = round(IMAGE_BOX.y * GRID)
    assert pasted.paste.alpha[row, round((left + 0.15) * GRID)] == 1


def test_the_segmented_face_is_pasted_where_the_face_is() -> None:
    half = np.zeros((64, 64), np.float32)
    half[:, :32] = 1

    def look(_face: WideFace, _time_s: float) -> Looked:
        return Looked({"face": SQUARE}, half)

    edit = StyleEditor(Restyler(one_way_engine(0.3)), look, pastes=True)
    change = np.abs(shown(edit(*sample(), Goal(HAPPY, 1.0), 0.0)))
    assert change[place(SQUARE.x - 0.1, SQUARE.y + 0.1)] > 5
    assert not change[place(SQUARE.x + 0.05, SQUARE.y + 0.1)]


def test_only_changes_that_are_large_in_one_place_count_as_meant() -> None:
    rng = np.random.default_rng(0)
    small = rng.normal(0, 0.5 * FAITHFUL, (1, 1, 64, 64)).astype(np.float32)
    assert np.abs(faithful(small)).max() == 0
    meant = small.copy()
    meant[0, 0, 20:44, 20:44] += 0.3
    kept = faithful(meant)
    np.testing.assert_allclose(kept[0, 0, 26:38, 26:38], meant[0, 0, 26:38, 26:38])
    assert np.abs(kept[0, 0, :4]).max() == 0
