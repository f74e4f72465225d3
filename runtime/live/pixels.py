"""Live frames as the decoder's pictures and as arrays, in whatever format an output wants.

`Watermark` writes "AI-edited" into a corner of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import level_range
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


TEXT: Final = "AI-edited"
_FONT: Final = cv2.FONT_HERSHEY_DUPLEX  # strokes inside OpenCV, no font file
_HEIGHT_SHARE: Final = 0.05  # of the frame's shorter side
_GROUND: Final = 0.55  # how dark the ground under the letters is


@dataclass(frozen=True, slots=True)
class _Stamp:
    """The watermark for one size of plane: where it goes, and what is mixed in.

    keep: float32 (h, w), how much of the picture stays. white: float32 (h, w), how much of white
    comes to it; the rest is black.
    """

    x: int
    y: int
    keep: np.ndarray
    white: np.ndarray


class Watermark:
    """Draws `AI-edited` into the lower right corner, onto the frame's own planes."""

    def __init__(self) -> None:
        self._stamps: dict[tuple[int, int, tuple[int, int]], _Stamp] = {}
        self._size_wh = (0, 0)

    def __call__(self, frame: Frame) -> Frame:
        """The frame with the watermark; planes are copied, the frame given stays as it is."""
        if (frame.width, frame.height) != self._size_wh:
            self._size_wh = (frame.width, frame.height)
            self._stamps.clear()
        planes = tuple(self._watermarked(frame, index) for index in range(len(frame.planes)))
        return replace(frame, planes=planes)

    def _watermarked(self, frame: Frame, index: int) -> Plane:
        plane = frame.planes[index]
        is_chroma = frame.layout.kind == "yuv" and index > 0
        black, white = level_range(frame.layout)
        if is_chroma:
            black = white = 1 << (frame.layout.depth - 1)
        stamp = self._stamp(frame, plane.subsampling_xy)
        height, width = stamp.keep.shape
        samples = plane.samples.copy()
        corner = samples[stamp.y : stamp.y + height, stamp.x : stamp.x + width]
        is_deep = corner.ndim == 3
        keep = stamp.keep[..., None] if is_deep else stamp.keep
        share = stamp.white[..., None] if is_deep else stamp.white
        shift = frame.layout.shift
        values = (corner >> shift) * keep + black * (1 - keep) + (white - black) * share
        corner[...] = np.rint(values).astype(samples.dtype) << shift
        return replace(plane, samples=samples)

    def _stamp(self, frame: Frame, step_xy: tuple[int, int]) -> _Stamp:
        key = (frame.width, frame.height, step_xy)
        if key not in self._stamps:
            self._stamps[key] = _made(frame.width, frame.height, step_xy)
        return self._stamps[key]


def _made(width: int, height: int, step_xy: tuple[int, int]) -> _Stamp:
    letter_px = max(9.0, _HEIGHT_SHARE * min(width, height))
    scale = letter_px / cv2.getTextSize(TEXT, _FONT, 1.0, 1)[0][1]
    thickness = max(1, round(letter_px / 14))
    (text_w, text_h), below = cv2.getTextSize(TEXT, _FONT, scale, thickness)
    pad = max(2, round(0.4 * letter_px))
    # Whole blocks of 4, so that every subsampling has whole samples.
    box_w, box_h = (-(-side // 4) * 4 for side in (text_w + 2 * pad, text_h + below + 2 * pad))
    letters = np.zeros((box_h, box_w), np.uint8)
    cv2.putText(letters, TEXT, (pad, pad + text_h), _FONT, scale, 255, thickness, cv2.LINE_AA)
    box_w, box_h = min(box_w, width // 4 * 4), min(box_h, height // 4 * 4)
    alpha = letters[:box_h, :box_w].astype(np.float32) / 255
    x, y = ((side - box) // 4 * 4 for side, box in ((width, box_w), (height, box_h)))
    size = (box_w // step_xy[0], box_h // step_xy[1])
    white = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    keep = np.float32(1 - _GROUND) * (1 - white)
    return _Stamp(x // step_xy[0], y // step_xy[1], keep, white)
