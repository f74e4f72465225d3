from dataclasses import replace

import cv2
import numpy as np
import pytest

from mien.calibration.clips.shading import (
    FACE_SIDES,
    LEFT_CHEEK,
    RIGHT_CHEEK,
    UPPER_LIP_SKIN,
    Stain,
    low_frequency_change,
    native_luma,
    over_frames,
)
from mien.calibration.judges.classifier import still
from mien.runtime.frame import Frame, PixelLayout, Plane

SIDE = 320


def face_mesh() -> np.ndarray:
    """A mesh (478, 3) whose regions of skin are ellipses in a face 200 pixels wide."""
    mesh = np.full((478, 3), SIDE / 2.0)
    mesh[:, 2] = 0
    places = (
        (LEFT_CHEEK, 105, 170, 30),
        (RIGHT_CHEEK, 215, 170, 30),
        (UPPER_LIP_SKIN, 160, 210, 20),
    )
    for region, x, y, radius in places:
        angle = np.linspace(0, 2 * np.pi, len(region), endpoint=False)
        ring = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)
        mesh[list(region), :2] = ring
    mesh[list(FACE_SIDES), :2] = [(60, 160), (260, 160)]
    return mesh


def skin(value: float = 150.0) -> np.ndarray:
    luma = np.full((SIDE, SIDE), value, np.float32)
    luma += 20 * np.sin(np.arange(SIDE) / 40)[None]
    return luma


def frame_of(luma: np.ndarray) -> Frame:
    return still(np.clip(luma + 0.5, 0, 255).astype(np.uint8))


def stain_of(before: Frame, after: Frame) -> Stain:
    mesh = face_mesh()
    found = low_frequency_change(before, after, mesh_before=mesh, mesh_after=mesh)
    assert found is not None
    return found


def test_an_unedited_face_has_no_stain():
    assert stain_of(frame_of(skin()), frame_of(skin())) == Stain(0, 0)


def test_a_band_on_the_cheek_is_told_by_its_share_of_the_skin():
    darker = skin()
    darker[140:200, 60:150] *= 0.9
    found = stain_of(frame_of(skin()), frame_of(darker))
    assert found.largest == pytest.approx(0.1, abs=0.01)
    assert 0.01 < found.mean < 0.06


def test_fine_folds_are_no_stain():
    folded = skin()
    folded[:, ::8] += 25
    folded[:, 4::8] -= 25
    assert stain_of(frame_of(skin()), frame_of(folded)).largest < 0.015


def test_what_changes_off_the_skin_does_not_count():
    painted = skin()
    painted[:110] = 0
    painted[250:] = 255
    assert stain_of(frame_of(skin()), frame_of(painted)).largest < 0.005


def test_the_share_is_of_light_and_not_of_stored_samples():
    """Video range begins at 16: the same stain has the same share in either range."""
    full, video = PixelLayout("gray", full_range=True), PixelLayout("gray", full_range=False)
    before, after = skin(60), 0.9 * skin(60)
    shares = []
    for layout in (full, video):
        scale, black = (1.0, 0.0) if layout.full_range else (219 / 255, 16.0)
        frames = [
            replace(frame_of(luma * scale + black), layout=layout) for luma in (before, after)
        ]
        shares.append(stain_of(*frames).mean)
    assert shares == pytest.approx([0.1, 0.1], abs=0.005)


def test_deep_samples_are_read_as_they_are():
    layout = PixelLayout("yuv", depth=10, shift=6)
    samples = np.full((4, 4), 64 << 6, np.uint16)
    samples[0, 0] = 940 << 6
    chroma = Plane(np.full((2, 2), 512 << 6, np.uint16), (2, 2))
    frame = Frame((Plane(samples, (1, 1)), chroma, chroma), layout, 4, 4)
    luma = native_luma(frame)
    assert luma[0, 0] == pytest.approx(1)
    assert luma[1, 1] == pytest.approx(0)
    rgb = Frame(
        (Plane(np.full((4, 4, 3), 255, np.uint8), (1, 1)),),
        PixelLayout("rgb", full_range=True),
        4,
        4,
    )
    np.testing.assert_allclose(native_luma(rgb), 1)


def test_a_face_in_the_dark_or_of_no_size_says_nothing():
    mesh = face_mesh()
    dark = frame_of(np.zeros((SIDE, SIDE), np.float32))
    assert low_frequency_change(dark, dark, mesh_before=mesh, mesh_after=mesh) is None
    point = np.full((478, 3), 20.0)
    light = frame_of(skin())
    assert low_frequency_change(light, light, mesh_before=point, mesh_after=point) is None


def test_a_large_face_gives_the_same_share_as_a_small_one():
    darker = skin()
    darker[140:200, 60:150] *= 0.9
    small = stain_of(frame_of(skin()), frame_of(darker))
    large = [
        frame_of(cv2.resize(luma, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR))
        for luma in (skin(), darker)
    ]
    mesh = face_mesh() * 4
    found = low_frequency_change(*large, mesh_before=mesh, mesh_after=mesh)
    assert found is not None
    assert found.largest == pytest.approx(small.largest, abs=0.01)


def test_over_frames_one_bad_frame_does_not_hide():
    quiet, bad = Stain(0.01, 0.005), Stain(0.2, 0.1)
    found = over_frames([quiet] * 9 + [bad] * 2 + [None])
    assert found.frames == 11
    assert found.largest == pytest.approx(0.2)
    assert found.mean == pytest.approx(0.005)
    assert np.isnan(over_frames([None]).largest)
