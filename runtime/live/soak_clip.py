"""A long clip for soak tests: one face, two, one that leaves and returns, with cuts between."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np

RATE: Final = 30
SCENE_S: Final = 20  # between two cuts
SCENES: Final = 3
_AWAY: Final = (6.0, 11.0)  # of the scene in which the face leaves, seconds without it
_SLIDE_S: Final = 1.5


def write_soak_clip(sample: Path, destination: Path, size_wh: tuple[int, int]) -> None:
    """Write a minute of H.264 made of `sample`, a clip of one face."""
    pictures = _read(sample)
    with av.open(str(destination), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "21", "preset": "ultrafast", "tune": "fastdecode"}
        stream.codec_context.time_base = Fraction(1, RATE)
        for index, pixels in enumerate(_pictures(pictures, size_wh)):
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(
                format="yuv420p", threads=1
            )
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _read(sample: Path) -> list[np.ndarray]:
    with av.open(str(sample)) as container:
        return [frame.to_ndarray(format="bgr24", threads=1) for frame in container.decode(video=0)]


def _pictures(sample: list[np.ndarray], size_wh: tuple[int, int]) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3), BGR, scene after scene."""
    to_and_fro = [*range(len(sample)), *range(len(sample) - 2, 0, -1)]  # without a cut of its own
    for scene in range(SCENES):
        for step in range(SCENE_S * RATE):
            pixels = sample[to_and_fro[step % len(to_and_fro)]]
            yield _SCENES[scene](pixels, step / RATE, size_wh)


def _alone(pixels: np.ndarray, time_s: float, size_wh: tuple[int, int]) -> np.ndarray:
    """One face, swaying."""
    return _placed(pixels, size_wh, scale=1.0, x=0.5 + 0.06 * np.sin(1.3 * time_s), ground=30)


def _leaving(pixels: np.ndarray, time_s: float, size_wh: tuple[int, int]) -> np.ndarray:
    """A face that slides out of the picture and returns."""
    out = np.clip((time_s - _AWAY[0] + _SLIDE_S) / _SLIDE_S, 0, 1)
    back = np.clip((time_s - _AWAY[1]) / _SLIDE_S, 0, 1)
    return _placed(pixels, size_wh, scale=0.9, x=0.4 + 1.1 * float(out - back), ground=120)


def _two(pixels: np.ndarray, time_s: float, size_wh: tuple[int, int]) -> np.ndarray:
    """Two faces side by side, one of them mirrored."""
    sway = 0.02 * float(np.sin(1.7 * time_s))
    half_wh = (size_wh[0] // 2, size_wh[1])
    left = _placed(pixels, half_wh, scale=0.66, x=0.5 + sway, ground=70)
    right = _placed(pixels[:, ::-1], half_wh, scale=0.66, x=0.5 - sway, ground=70)
    both = np.full((size_wh[1], size_wh[0], 3), 70, np.uint8)
    both[:, : half_wh[0]] = left
    both[:, half_wh[0] : 2 * half_wh[0]] = right
    return both


_SCENES: Final = (_alone, _leaving, _two)


def _placed(
    pixels: np.ndarray, size_wh: tuple[int, int], *, scale: float, x: float, ground: int
) -> np.ndarray:
    """The picture at `scale` of the height, its middle at `x` of the width, on a plain ground."""
    zoom = scale * size_wh[1] / pixels.shape[0]
    left = x * size_wh[0] - zoom * pixels.shape[1] / 2
    top = (size_wh[1] - zoom * pixels.shape[0]) / 2
    matrix = np.array([[zoom, 0, left], [0, zoom, top]], np.float32)
    shown = cv2.warpAffine(
        np.ascontiguousarray(pixels), matrix, size_wh, borderValue=(ground, ground, ground)
    )
    return shown.astype(np.uint8)
