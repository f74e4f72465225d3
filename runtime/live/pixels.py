"""Live frames as the decoder's pictures and as arrays, in whatever format an output wants."""

from __future__ import annotations

from typing import Any, Final

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.video.formats import format_layout
from mien.runtime.video.planes import frame_from_av, plane_views

_SUBSAMPLED: Final = {
    (1, 1): "444",
    (2, 1): "422",
    (2, 2): "420",
    (1, 2): "440",
    (4, 1): "411",
    (4, 4): "410",
}
_SEMI_PLANAR: Final = {(2, 2): "nv12", (2, 1): "nv16", (1, 1): "nv24"}
_PACKED_RGB: Final = {
    (3, (0, 1, 2)): "rgb24",
    (3, (2, 1, 0)): "bgr24",
    (4, (0, 1, 2)): "rgb0",
    (4, (2, 1, 0)): "bgr0",
    (4, (1, 2, 3)): "0rgb",
    (4, (3, 2, 1)): "0bgr",
}
# FFmpeg's numbers; the enumeration of PyAV 17 does not have them all.
_COLORSPACE: Final = {
    "bt601": 5,
    "bt709": 1,
    "bt2020": 9,
}


def live_frame(picture: av.VideoFrame) -> Frame:
    """`picture` as live video takes frames: eight bits a sample, upright, its planes views.

    What has more bits, transparency or an unusual format is converted to 4:2:0.
    """
    layout = format_layout(picture.format.name)
    if layout is None or layout.depth > 8 or layout.alpha:
        picture = picture.reformat(format="yuv420p", threads=1)
    frame = frame_from_av(picture)
    return upright(frame)


def upright(frame: Frame) -> Frame:
    """`frame` as a player shows it, neither turned nor mirrored; copies where it has to be."""
    turns, mirrored = frame.rotation, frame.mirrored
    if not turns and not mirrored:
        return frame
    if frame.layout.kind == "yuv" and any(
        plane.subsampling_xy not in ((1, 1), (2, 2)) for plane in frame.planes
    ):
        frame = frame_from_av(converted(frame, "yuv420p"))
    turned = [np.rot90(plane.samples, -turns) for plane in frame.planes]
    planes = tuple(
        Plane(np.ascontiguousarray(samples[:, ::-1] if mirrored else samples), plane.subsampling_xy)
        for samples, plane in zip(turned, frame.planes, strict=True)
    )
    width, height = frame.width, frame.height
    if turns % 2:
        width, height = height, width
    return Frame(planes, frame.layout, width, height, frame.pts, frame.time_base)


def format_name(frame: Frame) -> str:
    """FFmpeg's name of the format the frame's planes are in. Raises: VideoError."""
    layout, planes = frame.layout, frame.planes
    name = _eight_bit_name(layout, planes) if layout.depth == 8 else None
    if name is None:
        shapes = [plane.samples.shape for plane in planes]
        raise VideoError(
            f"live video has no name for frames of {layout.kind}, {layout.depth} bits, {shapes}"
        )
    return name


def _eight_bit_name(layout: PixelLayout, planes: tuple[Plane, ...]) -> str | None:
    if layout.kind == "gray" or (len(planes) == 1 and planes[0].samples.ndim == 2):
        return "gray"
    if layout.kind == "rgb":
        if planes[0].samples.ndim == 2:
            return "gbrp" if len(planes) == 3 else None
        return _PACKED_RGB.get((planes[0].samples.shape[2], layout.rgb_order))
    step = planes[1].subsampling_xy
    if len(planes) == 2:
        return _SEMI_PLANAR.get(step)
    return f"yuv{_SUBSAMPLED[step]}p" if len(planes) == 3 and step in _SUBSAMPLED else None


def picture_of(frame: Frame) -> av.VideoFrame:
    """The frame as a picture for FFmpeg: its planes copied once, range, matrix and time told.

    Raises: VideoError.
    """
    name = format_name(frame)
    picture = av.VideoFrame(frame.width, frame.height, name)
    layout = format_layout(name)
    assert layout is not None
    for view, plane in zip(plane_views(picture, layout, writable=True), frame.planes, strict=True):
        view[...] = plane.samples
    if frame.layout.kind != "rgb":
        picture.color_range = int(_range(frame.layout))
        picture.colorspace = _COLORSPACE[frame.layout.matrix]
    if frame.pts is not None:
        picture.pts, picture.time_base = frame.pts, frame.time_base
    return picture


def converted(
    frame: Frame, name: str, *, size_wh: tuple[int, int] | None = None, full_range: bool = False
) -> av.VideoFrame:
    """The frame as a picture in FFmpeg's format `name`, scaled to `size_wh`, with its time.

    full_range: for YUV, whether luma uses 0..255 rather than 16..235. The matrix stays.
    Raises: VideoError.
    """
    picture = picture_of(frame)
    width, height = size_wh or (frame.width, frame.height)
    target = format_layout(name)
    is_yuv = target is not None and target.kind == "yuv"
    wanted = ColorRange.JPEG if full_range or not is_yuv else ColorRange.MPEG
    # A reformatter of its own: the one inside a picture is made again for each frame as well.
    options: dict[str, Any] = {"interpolation": Interpolation.BILINEAR, "threads": 1}
    shown: av.VideoFrame = VideoReformatter().reformat(
        picture,
        width=width,
        height=height,
        format=name,
        src_colorspace=_COLORSPACE[frame.layout.matrix],
        dst_colorspace=_COLORSPACE[frame.layout.matrix],
        src_color_range=_range(frame.layout),
        dst_color_range=wanted,
        **options,
    )
    return shown


def pixels(frame: Frame, name: str = "rgb24", *, size_wh: tuple[int, int] | None = None) -> Any:
    """The frame as an array for the screen: uint8 (H, W, 3) for `rgb24` or `bgr24`.

    Other formats come as PyAV's `to_ndarray` lays them out. size_wh: scales to this size.
    Raises: VideoError.
    """
    return converted(frame, name, size_wh=size_wh).to_ndarray()


def _range(layout: PixelLayout) -> ColorRange:
    full = layout.full_range or layout.kind == "rgb"
    return ColorRange.JPEG if full else ColorRange.MPEG
