"""Between the decoder's frames and ours, without a copy where none is needed.

Frames of other sizes and pixel formats are made those of the first: whole, with bars. The original
and the edit can be put side by side in one picture.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal, cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.sidedata.sidedata import Type as SideDataType

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame, PixelLayout, Plane, side_by_side_order
from mien.runtime.video.formats import FormatLayout, format_layout

FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_MATRIX: dict[int, Literal["bt601", "bt709", "bt2020"]] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",  # SMPTE 240M: closest to BT.709
    9: "bt2020",
    10: "bt2020",
}
# What an encoder writes into the stream from the frame itself: captions, timecode, HDR10+, views.
_FRAME_SIDE_DATA = frozenset(
    {
        SideDataType.A53_CC,
        SideDataType.AFD,
        SideDataType.S12M_TIMECODE,
        SideDataType.GOP_TIMECODE,
        SideDataType.DYNAMIC_HDR_PLUS,
        SideDataType.DOVI_METADATA,
        SideDataType.DOVI_RPU_BUFFER,
        SideDataType.STEREO3D,
    }
)


def _side_data_items(picture: av.VideoFrame) -> Iterator[SideData]:
    """The side data of a frame, by an own container.

    `picture.side_data` would tie a frame into a cycle with its container, and the memory of all
    frames would wait for the garbage collector: 300 MB more at 1080p.
    """
    container = cast("Any", SideDataContainer)(picture)  # the stubs know no arguments
    with contextlib.suppress(IndexError):  # PyAV 19 counts kinds, not items: length is no end
        for index in itertools.count():
            yield container[index]


def as_fraction(number: Fraction | None) -> Fraction | None:
    """The standard library's kind of fraction; PyAV 19 has its own."""
    return None if number is None else Fraction(number.numerator, number.denominator)


def side_data(picture: av.VideoFrame, kind: SideDataType) -> bytes | None:
    """The bytes of one kind of side data, None where the frame has none."""
    for item in _side_data_items(picture):
        if item.type == kind:
            return bytes(item)
    return None


def display_orientation(picture: av.VideoFrame) -> tuple[int, bool]:
    """Clockwise quarter turns (0..3) a player applies, and whether it then swaps left and right.

    Turns between are rounded. The angle that PyAV gives takes a mirrored picture for a turned one.
    """
    matrix = side_data(picture, SideDataType.DISPLAYMATRIX)
    if matrix is None or len(matrix) < 36:
        return 0, False
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    mirrored = a * d - b * c < 0
    x = -a if mirrored else a  # where the stored x axis points before the swap
    return round(math.degrees(math.atan2(b, x)) / 90) % 4, mirrored


def has_extras(picture: av.VideoFrame) -> bool:
    """Whether the frame has what only a copy of the frame itself would keep."""
    if picture.interlaced_frame:
        return True
    return any(item.type in _FRAME_SIDE_DATA for item in _side_data_items(picture))


def frame_from_av(picture: av.VideoFrame, *, copy: bool = False) -> Frame:
    """`picture` as a Frame whose planes are views of the decoder's memory.

    copy: give planes their own memory, for a frame whose own memory will be written to.
    Raises: VideoError where the pixel format's planes cannot be seen as arrays.
    """
    layout = format_layout(picture.format.name)
    if layout is None:
        raise VideoError(f"frames in the pixel format {picture.format.name} cannot be edited")
    views = plane_views(picture, layout)
    rotation, mirrored = display_orientation(picture)
    return Frame(
        planes=tuple(
            Plane(np.array(view) if copy else view, step)
            for view, (_, step) in zip(views, layout.planes, strict=True)
        ),
        layout=_pixel_layout(picture, layout),
        width=picture.width,
        height=picture.height,
        pts=picture.pts,
        time_base=as_fraction(picture.time_base) or Fraction(1, 1),
        rotation=rotation,
        mirrored=mirrored,
    )


def _pixel_layout(picture: av.VideoFrame, layout: FormatLayout) -> PixelLayout:
    tagged = int(picture.color_range)
    # Gray without a tag holds all values, as in JPEG.
    full = layout.full_range or tagged == FULL_RANGE or (layout.kind == "gray" and not tagged)
    # Untagged YUV is read as players read it: small pictures are standard definition.
    guess: Literal["bt601", "bt709"] = "bt601" if picture.height <= 576 else "bt709"
    return PixelLayout(
        kind=layout.kind,
        depth=layout.depth,
        shift=layout.shift,
        full_range=full,
        matrix=_MATRIX.get(int(picture.colorspace), guess),
        rgb_order=layout.rgb_order,
    )


def plane_views(
    picture: av.VideoFrame, layout: FormatLayout, *, writable: bool = False
) -> list[np.ndarray]:
    """Every plane of `picture` as (h, w) or (h, w, n), uint8 or little-endian uint16, no copy."""
    views = []
    for plane, (count, _) in zip(picture.planes, layout.planes, strict=True):
        stride = abs(plane.line_size)
        rows = np.frombuffer(cast("Any", plane), np.uint8).reshape(plane.height, stride)
        if plane.line_size < 0:
            rows = rows[::-1]
        used = rows[:, : plane.width * count * layout.item_size]
        view = used if layout.item_size == 1 else used.view("<u2")
        if count > 1:
            view = view.reshape(plane.height, plane.width, count)
        view.flags.writeable = writable
        views.append(view)
    return views


def av_from_frame(
    frame: Frame, original: av.VideoFrame, given: Frame, *, own: bool
) -> av.VideoFrame:
    """`original` with the planes of `frame` that are not those of `given`.

    given: what `original` looked like as a Frame; planes that are the same object are not new.
    own: whether the memory of `original` is ours to change (given's planes are copies); else a
        new picture is made, with the colour properties of the original.
    Raises: VideoError where `frame` is not of the size and format of the original.
    """
    layout = format_layout(original.format.name)
    assert layout is not None  # frame_from_av has checked it
    _check_same_shape(frame, given)
    if own:
        original.make_writable()
        target = original
    else:
        target = blank_like(original, original.width, original.height)
    views = plane_views(target, layout, writable=True)
    for view, new, old in zip(views, frame.planes, given.planes, strict=True):
        if not own or new.samples is not old.samples:
            view[...] = new.samples
    return target


def _check_same_shape(frame: Frame, given: Frame) -> None:
    shapes = [(plane.samples.shape, plane.samples.dtype) for plane in frame.planes]
    expected = [(plane.samples.shape, plane.samples.dtype) for plane in given.planes]
    if shapes != expected:
        raise VideoError(
            f"the edited frame has planes {shapes}, the original {expected}; "
            "an edit must keep size and pixel format"
        )


def blank_like(original: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """A new picture with the pixel format, time and colour properties of `original`."""
    picture = av.VideoFrame(width, height, original.format.name)
    copy_properties(original, picture)
    return picture


def copy_properties(original: av.VideoFrame, picture: av.VideoFrame) -> None:
    """Give `picture` the time and colour properties of `original`."""
    picture.pts = original.pts
    if original.time_base is not None:
        picture.time_base = original.time_base
    picture.duration = original.duration
    picture.color_range = original.color_range
    picture.colorspace = original.colorspace
    picture.color_trc = original.color_trc
    picture.color_primaries = original.color_primaries


def reinterpreted(picture: av.VideoFrame, name: str) -> av.VideoFrame:
    """`picture` with the same planes under another format name (yuvj420p as yuv420p)."""
    copy = av.VideoFrame(picture.width, picture.height, name)
    copy_properties(picture, copy)
    layout = format_layout(name)
    assert layout is not None
    sources = plane_views(picture, layout)
    for target, source in zip(plane_views(copy, layout, writable=True), sources, strict=True):
        target[...] = source
    return copy


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
        threads=1,  # three and more sometimes write wrong samples (swscale 9.5)
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


def side_by_side_size(frame: Frame) -> tuple[int, int]:
    """Width and height of the joined picture as stored: twice as wide when displayed.

    The second half starts where a chroma sample starts, so an odd size gains a column or row.
    """
    step_x = max(plane.subsampling_xy[0] for plane in frame.planes)
    step_y = max(plane.subsampling_xy[1] for plane in frame.planes)
    if frame.rotation % 2:
        return frame.width, 2 * _round_up(frame.height, step_y)
    return 2 * _round_up(frame.width, step_x), frame.height


def side_by_side(original: Frame, edited: Frame, like: av.VideoFrame) -> av.VideoFrame:
    """Both frames in one picture with the time and colours of `like`, the original first.

    First is left as displayed: a frame stored on its side has the two above each other.
    """
    joined = blank_like(like, *side_by_side_size(original))
    layout = format_layout(like.format.name)
    assert layout is not None  # the frames came from this format
    axis, is_first = side_by_side_order(original)
    first, second = (original, edited) if is_first else (edited, original)
    for index, view in enumerate(plane_views(joined, layout, writable=True)):
        halves = (first.planes[index].samples, second.planes[index].samples)
        _join_into(view, halves, axis=axis)
    return joined


def _join_into(out: np.ndarray, halves: tuple[np.ndarray, np.ndarray], *, axis: int) -> None:
    half = out.shape[axis] // 2
    for start, samples in zip((0, half), halves, strict=True):
        length = samples.shape[axis]
        target = out[start : start + half] if axis == 0 else out[:, start : start + half]
        if axis == 0:
            target[:length] = samples
            target[length:] = samples[-1:]
        else:
            target[:, :length] = samples
            target[:, length:] = samples[:, -1:]


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
