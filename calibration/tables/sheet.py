"""Contact sheets: a row a face, a column an emotion, pixels as they are.

`rgb_picture` makes frames RGB pictures, for classifiers and sheets; the filter never needs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame, PixelLayout
from mien.runtime.whole_file import write_whole

# Kr and Kb of the YUV matrices (ITU-R BT.601, BT.709, BT.2020).
_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


def rgb_picture(frame: Frame) -> np.ndarray:
    """`frame` as stored, uint8 (H, W, 3) RGB; chroma is enlarged by area-aligned bilinear steps."""
    layout = frame.layout
    planes = [_eight_bit(plane.samples, layout) for plane in frame.planes]
    if layout.kind == "gray":
        return cv2.cvtColor(_stretched(planes[0], layout), cv2.COLOR_GRAY2RGB)
    if layout.kind == "rgb":
        channels = planes[0] if planes[0].ndim == 3 else np.dstack(planes[:3])
        return np.ascontiguousarray(channels[:, :, list(layout.rgb_order)])
    size_wh = (frame.width, frame.height)
    chroma = [planes[1][..., 0], planes[1][..., 1]] if planes[1].ndim == 3 else planes[1:3]
    u, v = (cv2.resize(np.ascontiguousarray(c), size_wh) for c in chroma)
    return cv2.transform(np.dstack([planes[0], u, v]), _rgb_from_yuv(layout))


def _eight_bit(samples: np.ndarray, layout: PixelLayout) -> np.ndarray:
    if samples.dtype == np.uint8:
        return samples
    values: np.ndarray = (samples >> layout.shift) >> (layout.depth - 8)
    return values.astype(np.uint8)


def _stretched(luma: np.ndarray, layout: PixelLayout) -> np.ndarray:
    if layout.full_range:
        return luma
    scaled = (luma.astype(np.float32) - 16) * (255 / 219)
    stretched: np.ndarray = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return stretched


def _rgb_from_yuv(layout: PixelLayout) -> np.ndarray:
    """float32 (3, 4): R, G, B of 8-bit Y, U, V and one."""
    kr, kb = _WEIGHTS[layout.matrix]
    kg = 1 - kr - kb
    matrix = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    black = 0.0
    if not layout.full_range:
        matrix *= [255 / 219, 255 / 224, 255 / 224]
        black = 16.0
    offset = matrix @ np.array([-black, -128, -128])
    return np.hstack([matrix, offset[:, None]]).astype(np.float32)


GAP_PX = 6
HEADER_PX = 22
LARGEST_PX = 480  # a larger face is shown reduced


@dataclass(frozen=True, slots=True)
class SheetRow:
    """Crops of one face, uint8 (h, w, 3) RGB of one size, by the name of their column."""

    pictures: Mapping[str, np.ndarray]

    @classmethod
    def around(cls, points: np.ndarray, pictures: Mapping[str, np.ndarray]) -> SheetRow:
        """The crops of `pictures` around a face at `points` (n, 2 or more), in pixels."""
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        half = float((high - low).max()) * 0.75
        centre = (low + high) / 2
        height, width = next(iter(pictures.values())).shape[:2]
        x0, y0 = (int(max(0, c - half)) for c in centre)
        x1, y1 = (int(min(side, c + half)) for c, side in zip(centre, (width, height), strict=True))
        return cls({name: _within(p[y0:y1, x0:x1]) for name, p in pictures.items()})


def draw_sheet(rows: Sequence[SheetRow]) -> np.ndarray:
    """All rows on white, with the names of the columns above: uint8 (H, W, 3) RGB."""
    names = list(dict.fromkeys(name for row in rows for name in row.pictures))
    widths = [
        max(row.pictures[name].shape[1] for row in rows if name in row.pictures) for name in names
    ]
    heights = [max(picture.shape[0] for picture in row.pictures.values()) for row in rows]
    width = sum(widths) + GAP_PX * (len(names) + 1)
    height = HEADER_PX + sum(heights) + GAP_PX * (len(rows) + 1)
    sheet = np.full((height, width, 3), 255, np.uint8)
    x = GAP_PX
    for name, column in zip(names, widths, strict=True):
        cv2.putText(sheet, name, (x, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        y = HEADER_PX + GAP_PX
        for row, line in zip(rows, heights, strict=True):
            picture = row.pictures.get(name)
            if picture is not None:
                sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            y += line + GAP_PX
        x += column + GAP_PX
    return sheet


def write_sheet(path: Path, rows: Sequence[SheetRow]) -> None:
    """Write the sheet of `rows` as the picture `path`; no file where there are no rows."""
    if not rows:
        return
    write_picture(path, draw_sheet(rows))


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB as the picture `path`. Raises VideoError."""
    try:
        data = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
    except cv2.error as error:
        raise VideoError(f"cannot write the picture {path}; check the suffix") from error
    write_whole(path, data.tobytes(), overwrite=True)


def _within(picture: np.ndarray) -> np.ndarray:
    longest = max(picture.shape[:2])
    if longest <= LARGEST_PX:
        return picture
    factor = LARGEST_PX / longest
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
