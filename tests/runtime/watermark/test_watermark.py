"""The watermark: what it writes, and what is read back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mien.engines.errors import UsageError
from mien.runtime.blending.edit import Delta, Edit, Patch
from mien.runtime.faces.alignment import crop_matrix, sample_crop
from mien.runtime.frame import PixelLayout
from mien.runtime.watermark.payload import CODED_BITS, Payload, encoded, likeliest, payload_in
from mien.runtime.watermark.reader import LEAST_DATA, LEAST_PILOT, Piece, View, pieces, read_piece
from mien.runtime.watermark.watermark import (
    CROP_PX,
    ChipPlan,
    Watermark,
    edit_region,
)
from tests.runtime.faces.shapes import mean_face

SIZE, SIDE = 240, 160
PAYLOAD = Payload(0xABCDEF)
LUMA = PixelLayout("yuv")
RATE = 25


def _texture(seed: int = 0) -> np.ndarray:
    """Something between skin and noise: uint8 (240, 240)."""
    noise = np.random.default_rng(seed).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    soft, fine = cv2.GaussianBlur(noise, (0, 0), 9), cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip(130 + 300 * soft + 12 * fine, 20, 235).astype(np.uint8)


def _landmarks(shift_px: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    middle = (SIZE - SIDE) / 2
    return (mean_face() * SIDE + middle + shift_px).astype(np.float32)


def _region() -> np.ndarray:
    region = np.zeros((64, 64), np.float32)
    region[4:-4, 4:-4] = 1
    return region


def _piece(
    payload: Payload | None, *, seconds: float = 3.0, start_s: float = 7.3, off: float = 0.0
) -> Piece:
    """A face that wanders a little, with noise; its landmarks are off by a share of the crop."""
    rng, still = np.random.default_rng(1), _texture()
    watermark = None if payload is None else Watermark(payload)
    times_s = start_s + np.arange(round(seconds * RATE)) / RATE
    crops = []
    for time_s in times_s:
        shift = (3 * np.sin(time_s), 2 * np.cos(1.7 * time_s))
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        luma = cv2.warpAffine(still, move, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
        if watermark is not None:
            watermark.paint_into(luma, _landmarks(shift), _region(), time_s=time_s, layout=LUMA)
        seen = luma + rng.normal(0, 2, luma.shape)
        luma = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
        wrong = (shift[0] + off * SIDE, shift[1] - off * SIDE)
        crops.append(sample_crop(luma, crop_matrix(_landmarks(wrong), CROP_PX), CROP_PX))
    return Piece(1, np.stack(crops), times_s - start_s)


def test_code_corrects_what_noise_turns_over() -> None:
    rng = np.random.default_rng(3)
    for number in (0, 1, 0xFFFFFFF, 0x1234567):
        bits = Payload(number).bits()
        sent = encoded(bits)
        assert sent.shape == (CODED_BITS,)
        noisy = sent + rng.normal(0, 0.8, sent.shape)
        assert ((noisy > 0) != (sent > 0)).sum() > 5
        assert np.array_equal(likeliest(noisy)[0][0], bits)


def test_right_message_is_found_among_the_likeliest_where_the_first_is_wrong() -> None:
    rng = np.random.default_rng(4)
    firsts = rights = 0
    for _ in range(20):
        sent = encoded(PAYLOAD.bits())
        soft = sent * 9.8 / np.sqrt(CODED_BITS) + rng.normal(0, 1, CODED_BITS)
        bits, scores = likeliest(soft, 64)
        assert np.allclose((encoded(bits[0]) * soft).sum(), scores[0])
        assert (np.diff(scores) <= 0).all()
        assert len(np.unique(bits, axis=0)) == 64
        firsts += np.array_equal(bits[0], PAYLOAD.bits())
        rights += payload_in(soft, 0.0, 64)[0] == PAYLOAD
    assert firsts <= 15
    assert rights >= 18


def test_what_noise_says_is_too_faint_to_count() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        soft = rng.normal(0, 1, CODED_BITS) / np.sqrt(CODED_BITS)
        assert payload_in(soft, LEAST_DATA, 64)[0] is None


@pytest.mark.parametrize("place", [0, 3, 20, 47])
def test_one_wrong_bit_is_no_payload(place: int) -> None:
    bits = PAYLOAD.bits()
    assert Payload.of_bits(bits) == PAYLOAD
    bits[place] ^= 1
    assert Payload.of_bits(bits) is None


@pytest.mark.parametrize("number", [-1, 1 << 28])
def test_numbers_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(UsageError, match="number of 0"):
        Payload(number)


def test_plan_is_the_same_for_writer_and_reader_and_another_for_another_seed() -> None:
    first, again, other = ChipPlan(), ChipPlan(), ChipPlan(99)
    assert np.array_equal(first.signs, again.signs)
    assert np.array_equal(first.bits, again.bits)
    assert 0.45 < (first.signs == other.signs).mean() < 0.55
    counts = np.bincount(first.bits[first.bits >= 0], minlength=CODED_BITS)
    assert counts.min() >= counts.max() - 1  # every coded bit has as many chips


@pytest.mark.parametrize(
    ("dtype", "layout", "shape"),
    [
        (np.uint8, LUMA, (SIZE, SIZE)),
        (np.uint16, PixelLayout("yuv", depth=10), (SIZE, SIZE)),
        (np.uint16, PixelLayout("yuv", depth=10, shift=6), (SIZE, SIZE)),
        (np.uint8, PixelLayout("rgb", rgb_order=(2, 1, 0)), (SIZE, SIZE, 3)),
        (np.uint8, PixelLayout("rgb", rgb_order=(0, 1, 2)), (SIZE, SIZE, 4)),
    ],
)
def test_mark_is_faint_and_stays_in_the_region(
    dtype: type, layout: PixelLayout, shape: tuple[int, ...]
) -> None:
    unit = 1 << (layout.depth + layout.shift - 8)
    grey = _texture().astype(dtype) * dtype(unit)
    before = grey if len(shape) == 2 else np.repeat(grey[..., None], shape[2], 2)
    after, region = before.copy(), np.zeros((64, 64), np.float32)
    region[20:50, 16:40] = 1
    Watermark(PAYLOAD).paint_into(after, _landmarks(), region, time_s=0.4, layout=layout)
    change = (after.astype(np.float64) - before) / unit
    matrix = crop_matrix(_landmarks(), 64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpAffine(region, matrix, (SIZE, SIZE), flags=flags)
    assert not change[shown == 0].any()
    inside = change[shown == 1][..., :3] if len(shape) == 3 else change[shown == 1]
    assert 0.3 < np.sqrt(np.square(inside).mean()) < 2.02  # 42 dB
    if len(shape) == 3 and shape[2] == 4:
        assert not change[..., 3].any()
    if layout.shift:
        assert not (after & ((1 << layout.shift) - 1)).any()


def test_samples_saturate_at_white_and_at_black() -> None:
    for value in (0, 255):
        luma = np.full((SIZE, SIZE), value, np.uint8)
        Watermark(PAYLOAD).paint_into(luma, _landmarks(), _region(), time_s=0.1, layout=LUMA)
        assert np.abs(luma.astype(int) - value).max() < 8


def test_face_outside_the_frame_is_left_alone() -> None:
    luma = _texture()
    before = luma.copy()
    Watermark(PAYLOAD).paint_into(luma, _landmarks((900, 0)), _region(), time_s=0, layout=LUMA)
    assert np.array_equal(luma, before)


@pytest.mark.parametrize("start_s", [0.0, 7.3, 1e6 + 0.41])
def test_payload_is_read_whenever_a_piece_begins(start_s: float) -> None:
    reading = read_piece(_piece(PAYLOAD, start_s=start_s), ChipPlan())
    assert reading.payload == PAYLOAD
    assert reading.pilot > LEAST_PILOT


def test_payload_is_read_with_landmarks_that_are_off() -> None:
    assert read_piece(_piece(PAYLOAD, off=0.02), ChipPlan()).payload == PAYLOAD


def test_payload_is_read_from_a_mirrored_picture() -> None:
    piece = _piece(PAYLOAD)
    mirrored = Piece(1, np.ascontiguousarray(piece.crops[:, :, ::-1]), piece.times_s)
    assert read_piece(mirrored, ChipPlan()).payload == PAYLOAD


def test_nothing_is_read_where_nothing_was_written() -> None:
    reading = read_piece(_piece(None), ChipPlan())
    assert reading.payload is None
    assert reading.pilot < LEAST_PILOT


def test_another_seed_reads_nothing() -> None:
    assert read_piece(_piece(PAYLOAD), ChipPlan(77)).payload is None


def test_pieces_are_three_seconds_of_one_face() -> None:
    crop = np.zeros((CROP_PX, CROP_PX), np.uint8)
    times = np.arange(200) / RATE
    seen = [
        [View(1, float(time_s), crop)] + ([View(2, float(time_s), crop)] if time_s < 2 else [])
        for time_s in times
    ]
    found = [(piece.track_id, round(float(np.ptp(piece.times_s)), 2)) for piece in pieces(seen)]
    assert found == [(2, 1.96), (1, 3.0), (1, 3.0), (1, 1.88)]


def test_region_is_where_an_edit_does_something() -> None:
    flow = np.zeros((2, 64, 64), np.float32)
    flow[0, 20:40, 20:40] = 0.01
    region = edit_region(Edit(flow=flow))
    assert set(np.unique(region)) == {0.0, 1.0}
    assert region[30, 30] == 1
    assert not region[:19].any()
    covered = np.zeros((64, 64), np.float32)
    covered[25:35, 25:35] = 1
    assert edit_region(Edit(flow=flow, covered=covered))[30, 30] == 0


def test_region_holds_overlays_in_their_place() -> None:
    alpha = np.ones((8, 8), np.float32)
    box = (0.25, 0.5, 0.75, 1.0)
    mouth = Patch(alpha, alpha, alpha, alpha, box)
    for edit in (Edit(patch=mouth), Edit(delta=Delta(np.ones((1, 8, 8), np.float32), alpha, box))):
        region = edit_region(edit)
        assert region[48, 32] == 1
        assert not region[:31].any()
        assert not region[:, :15].any()
    assert not edit_region(Edit()).any()
