"""Frames of other sizes and pixel formats, made those of the first: whole, with bars."""

from __future__ import annotations

import av

from mien.runtime.video.formats import FormatLayout, format_layout
from mien.runtime.video.planes import FULL_RANGE, copy_properties, plane_views


def fitted(picture: av.VideoFrame, size_wh: tuple[int, int], pixel_format: str) -> av.VideoFrame:
    """`picture` whole and as large as can be in a frame of that size and format, itself if it is.

    What it leaves free is black, or nothing where the format has transparency.
    """
    if (picture.width, picture.height, picture.format.name) == (*size_wh, pixel_format):
        return picture
    layout = format_layout(pixel_format)
    assert layout is not None  # the first frame was read in it
    left, top, width, height = _place((picture.width, picture.height), size_wh, layout)
    color_range = picture.color_range or None
    scaled = picture.reformat(
        width=width,
        height=height,
        format=pixel_format,
        src_color_range=color_range,
        dst_color_range=color_range,
    )
    framed = av.VideoFrame(*size_wh, pixel_format)
    copy_properties(picture, framed)
    target, source = plane_views(framed, layout, writable=True), plane_views(scaled, layout)
    for number, (plane, samples) in enumerate(zip(target, source, strict=True)):
        step_x, step_y = layout.planes[number][1]
        plane[...] = _black(layout, number, is_full=int(picture.color_range) == FULL_RANGE)
        rows, columns = samples.shape[:2]
        y, x = top // step_y, left // step_x
        plane[y : y + rows, x : x + columns] = samples
    return framed


def _place(
    size_wh: tuple[int, int], room_wh: tuple[int, int], layout: FormatLayout
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a picture in a room, on whole samples of colour."""
    scale = min(room / side for room, side in zip(room_wh, size_wh, strict=True))
    places = []
    for room, side, step in zip(room_wh, size_wh, layout.subsampling_xy, strict=True):
        length = room if room - side * scale < step else max(step, int(side * scale) // step * step)
        places.append(((room - length) // 2 // step * step, length))
    (left, width), (top, height) = places
    return left, top, width, height


def _black(layout: FormatLayout, plane: int, *, is_full: bool) -> int:
    """The sample of one plane that is black, or without colour."""
    if layout.kind == "yuv" and plane in (1, 2):
        return 1 << (layout.depth - 1 + layout.shift)
    is_luma = layout.kind == "yuv" and plane == 0
    if is_luma and not (is_full or layout.full_range):
        return 16 << (layout.depth - 8 + layout.shift)
    return 0
