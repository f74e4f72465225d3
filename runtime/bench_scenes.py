"""Scenes to measure on: the sample at any frame size, and with more faces than one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from mien.engines.errors import UsageError
from mien.runtime.frame import Frame, Plane
from mien.runtime.video import read_frames

COLUMNS, ROWS = 4, 2  # eight faces, which is as many as are followed
MOST_FACES = COLUMNS * ROWS
SIZES_WH = {
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "2160p": (3840, 2160),
}
BLACK, NEUTRAL = 16, 128
RATE = 30


def scene_frames(
    sample: Path, size_wh: tuple[int, int], count: int, faces: int | None = None
) -> Iterator[Frame]:
    """`count` frames of a size made of `sample`, a clip of one face in 4:2:0 with 8 bits.

    faces: None is one as high as the frame. A number of them has the same size each, whatever the
    number, so that only the number changes.

    Raises UsageError, VideoError.
    """
    if faces is not None and not 1 <= faces <= MOST_FACES:
        raise UsageError(f"a scene has 1 to {MOST_FACES} faces, not {faces}")
    boxes = _boxes(size_wh, faces)
    pictures = list(read_frames(sample))
    to_and_fro = [*pictures, *pictures[-2:0:-1]]  # without a cut of its own
    for index, picture in enumerate(islice(cycle(to_and_fro), count)):
        yield replace(
            picture,
            planes=tuple(_scene_plane(plane, size_wh, boxes) for plane in picture.planes),
            width=size_wh[0],
            height=size_wh[1],
            pts=index,
            time_base=Fraction(1, RATE),
        )


def _boxes(size_wh: tuple[int, int], faces: int | None) -> list[tuple[int, int, int, int]]:
    """Where the sample lies: x, y, width, height in pixels, all even."""
    if faces is None:
        return [(0, 0, *size_wh)]
    width, height = size_wh[0] // COLUMNS // 2 * 2, size_wh[1] // ROWS // 2 * 2
    cells = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
    return [(column * width, row * height, width, height) for row, column in cells[:faces]]


def _scene_plane(
    plane: Plane, size_wh: tuple[int, int], boxes: list[tuple[int, int, int, int]]
) -> Plane:
    """The plane of a scene: the sample's in the middle of each box, without its borders."""
    across, down = plane.subsampling_xy
    black = BLACK if (across, down) == (1, 1) else NEUTRAL
    scene = np.full((-(-size_wh[1] // down), -(-size_wh[0] // across)), black, np.uint8)
    for x, y, width, height in boxes:
        shown = _fitted(plane.samples, width // across, height // down)
        left = x // across + (width // across - shown.shape[1]) // 2
        top = y // down
        scene[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    return Plane(scene, plane.subsampling_xy)


def _fitted(samples: np.ndarray, width: int, height: int) -> np.ndarray:
    """The samples as high as that, cut at both sides where they are too wide."""
    across = round(samples.shape[1] * height / samples.shape[0])
    scaled = cv2.resize(samples, (across, height), interpolation=cv2.INTER_AREA)
    left = max(0, (across - width) // 2)
    fitted: np.ndarray = scaled[:, left : left + width]
    return fitted
