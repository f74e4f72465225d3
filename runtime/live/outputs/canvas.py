"""Frames of any layout, size and turn as pictures of one size, for consumers that need that."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import av
import numpy as np

from mien.runtime.frame import Frame
from mien.runtime.live.pixels import converted, format_name, upright
from mien.runtime.video.formats import FormatLayout, format_layout
from mien.runtime.video.planes import frame_from_av, plane_views

CanvasFormat = Literal["yuv420p", "rgb24", "bgr24"]
BLACK: Final = {"yuv420p": (16, 128, 128), "rgb24": (0,), "bgr24": (0,)}


class Canvas:
    """Pictures of one size and pixel format: upright, whole, with black borders where needed.

    size_wh: as displayed; an odd side becomes even, as chroma is shared by two pixels.
    pixel_format: `yuv420p` is 8-bit limited range with the frame's own matrix, which is what call
        programs take a camera's picture for; `rgb24` and `bgr24` are full range.
    """

    def __init__(self, size_wh: tuple[int, int], pixel_format: CanvasFormat = "yuv420p") -> None:
        self.size_wh = width, height = even_size(size_wh)
        self.pixel_format = pixel_format
        self._layout = _layout_of(pixel_format)
        is_yuv = pixel_format == "yuv420p"
        shape = (height * 3 // 2, width) if is_yuv else (height, width, 3)
        self._pixels = np.zeros(shape, np.uint8)
        self._planes = yuv_planes(self._pixels) if is_yuv else [self._pixels]
        self._place = (0, 0, 0, 0)
        self.clear()

    def clear(self) -> np.ndarray:
        """The black picture, in the memory that `draw` gives."""
        for plane, value in zip(self._planes, BLACK[self.pixel_format], strict=True):
            plane[...] = value
        return self._pixels

    def draw(self, frame: Frame) -> np.ndarray:
        """The frame on this canvas, valid until the next call.

        uint8 (H, W, 3); of `yuv420p` (H * 3 / 2, W), Y, U and V one after the other.
        Raises: VideoError.
        """
        frame = upright(frame)
        left, top, width, height = place = fitted((frame.width, frame.height), self.size_wh)
        if place != self._place:
            self.clear()
            self._place = place
        for plane, samples in zip(self._planes, self._samples(frame, (width, height)), strict=True):
            step = self.size_wh[0] // plane.shape[1]
            rows = slice(top // step, (top + height) // step)
            plane[rows, left // step : (left + width) // step] = samples
        return self._pixels

    def _samples(self, frame: Frame, size_wh: tuple[int, int]) -> list[np.ndarray]:
        """The planes of the frame at a size in the canvas's format, converted only if need be."""
        straight = self.pixel_format == "yuv420p" and not frame.layout.full_range
        if straight and size_wh == (frame.width, frame.height):
            name, planes = format_name(frame), [plane.samples for plane in frame.planes]
            if name == "yuv420p":
                return planes
            if name == "nv12":
                return [planes[0], planes[1][..., 0], planes[1][..., 1]]
        if frame.layout.kind == "rgb":  # what pyvirtualcam and call programs take RGB to
            frame = replace(frame, layout=replace(frame.layout, matrix="bt601"))
        return plane_views(converted(frame, self.pixel_format, size_wh=size_wh), self._layout)


def even_size(size_wh: tuple[int, int]) -> tuple[int, int]:
    """The size with odd sides made one smaller, and at least 2 by 2."""
    width, height = (max(2, side - side % 2) for side in size_wh)
    return width, height


def fitted(size_wh: tuple[int, int], room_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where a picture lies in a room of even sides, whole and as large as can be.

    Left, top, width and height, all even.
    """
    if even_size(size_wh) == room_wh:
        return (0, 0, *room_wh)
    scale = min(room / side for room, side in zip(room_wh, size_wh, strict=True))
    width, height = (
        min(room, max(2, 2 * round(side * scale / 2)))
        for room, side in zip(room_wh, size_wh, strict=True)
    )
    return (room_wh[0] - width) // 4 * 2, (room_wh[1] - height) // 4 * 2, width, height


def scaled_into(room_wh: tuple[int, int], frame: Frame) -> Frame:
    """`frame` as large as fits in there, in 4:2:0, itself where it is. Raises: VideoError."""
    *_, width, height = fitted((frame.width, frame.height), even_size(room_wh))
    if (width, height) == (frame.width, frame.height):
        return frame
    full_range = frame.layout.full_range
    picture = converted(frame, "yuv420p", size_wh=(width, height), full_range=full_range)
    scaled = frame_from_av(picture)
    layout = replace(scaled.layout, full_range=full_range, matrix=frame.layout.matrix)
    return replace(scaled, layout=layout, pts=frame.pts, time_base=frame.time_base)


def yuv_planes(pixels: np.ndarray) -> list[np.ndarray]:
    """Y, U and V as views of a picture uint8 (H * 3 / 2, W)."""
    rows, width = pixels.shape
    height = rows * 2 // 3
    flat = pixels.reshape(-1)
    luma, quarter = width * height, width * height // 4
    chroma = [flat[luma + i * quarter : luma + (i + 1) * quarter] for i in range(2)]
    return [
        flat[:luma].reshape(height, width),
        *(plane.reshape(height // 2, width // 2) for plane in chroma),
    ]


def yuv_picture(pixels: np.ndarray) -> av.VideoFrame:
    """A picture of FFmpeg's with the samples of a `yuv420p` canvas, copied."""
    rows, width = pixels.shape
    picture = av.VideoFrame(width, rows * 2 // 3, "yuv420p")
    views = plane_views(picture, _layout_of("yuv420p"), writable=True)
    for view, plane in zip(views, yuv_planes(pixels), strict=True):
        view[...] = plane
    return picture


def _layout_of(pixel_format: CanvasFormat) -> FormatLayout:
    layout = format_layout(pixel_format)
    assert layout is not None
    return layout
