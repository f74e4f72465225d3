"""Frames seen as arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from mien.runtime.video.formats import format_layout, readable_format
from mien.runtime.video.planes import frame_from_av, plane_views, reinterpreted

SHAPES = {
    "yuv420p": [(31, 33), (16, 17), (16, 17)],
    "yuv422p10le": [(31, 33), (31, 17), (31, 17)],
    "yuva444p": [(31, 33)] * 4,
    "nv12": [(31, 33), (16, 17, 2)],
    "p010le": [(31, 33), (16, 17, 2)],
    "gray": [(31, 33)],
    "rgb24": [(31, 33, 3)],
    "bgra": [(31, 33, 4)],
    "gbrp": [(31, 33)] * 3,
    "gbrp10le": [(31, 33)] * 3,
    "yuv410p": [(31, 33), (8, 9), (8, 9)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_planes_have_the_shape_of_the_format_at_odd_sizes(name: str) -> None:
    picture = av.VideoFrame(33, 31, name)
    frame = frame_from_av(picture)
    assert [plane.samples.shape for plane in frame.planes] == SHAPES[name]
    dtype = np.uint16 if frame.layout.depth > 8 else np.uint8
    assert {plane.samples.dtype for plane in frame.planes} == {np.dtype(dtype)}


def test_planes_are_views_that_cannot_be_written() -> None:
    picture = av.VideoFrame(32, 32, "yuv420p")
    frame = frame_from_av(picture)
    layout = format_layout("yuv420p")
    assert layout is not None
    plane_views(picture, layout, writable=True)[0][3, 4] = 77
    assert frame.planes[0].samples[3, 4] == 77
    with pytest.raises(ValueError, match="read-only"):
        frame.planes[0].samples[0, 0] = 1


def test_p010_keeps_its_bits_on_top() -> None:
    source = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")
    high = frame_from_av(source.reformat(format="p010le", threads=1))
    plain = frame_from_av(source.reformat(format="yuv420p10le", threads=1))
    assert (high.layout.shift, plain.layout.shift) == (6, 0)
    assert np.array_equal(high.planes[0].samples >> 6, plain.planes[0].samples)


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "bgra", "argb", "gbrp"])
def test_rgb_order_finds_red_green_and_blue(name: str) -> None:
    colour = (200, 100, 50)
    pixels = np.broadcast_to(np.array(colour, np.uint8), (4, 6, 3)).copy()
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=name, threads=1)
    frame = frame_from_av(picture)
    if len(frame.planes) == 1:
        found = [frame.planes[0].samples[0, 0, i] for i in frame.layout.rgb_order]
    else:
        found = [frame.planes[i].samples[0, 0] for i in frame.layout.rgb_order]
    assert tuple(map(int, found)) == colour


@pytest.mark.parametrize("name", ["yuyv422", "pal8", "rgb48be", "yuv420p10be", "nv21"])
def test_what_cannot_be_seen_as_arrays_has_a_format_that_can(name: str) -> None:
    readable = readable_format(name)
    assert readable is not None
    assert format_layout(readable) is not None


def test_another_name_for_the_same_planes_changes_no_sample() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuvj420p", threads=1
    )
    plain = reinterpreted(picture, "yuv420p")
    assert plain.format.name == "yuv420p"
    pairs = zip(frame_from_av(picture).planes, frame_from_av(plain).planes, strict=True)
    assert all(np.array_equal(a.samples, b.samples) for a, b in pairs)


def test_frames_outlive_their_file(clip: Callable[..., Path]) -> None:
    from mien.runtime.video import read_frames

    source = clip("in.mp4", frames=12)
    kept = list(read_frames(source))
    for old, new in zip(kept, read_frames(source), strict=True):
        assert np.array_equal(old.planes[0].samples, new.planes[0].samples)
