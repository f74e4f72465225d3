"""The clip that `mien bench` measures on when it is given none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SIZE_WH = (1280, 720)
# The sample loops, and is too short to be timed once.
LOOPS = 3


def write_bench_clip(sample: Path, destination: Path) -> None:
    """Write `sample` at 1280x720, black at its sides, several times over (H.264)."""
    with av.open(str(destination), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, 30)
        index = 0
        for _ in range(LOOPS):
            with av.open(str(sample)) as source:
                for picture in source.decode(video=0):
                    planes = picture.reformat(format="yuv420p").to_ndarray()
                    frame = av.VideoFrame.from_ndarray(_scaled(planes), format="yuv420p")
                    frame.pts, frame.time_base = index, Fraction(1, 30)
                    container.mux(stream.encode(frame))
                    index += 1
        container.mux(stream.encode(None))


def _scaled(planes: np.ndarray) -> np.ndarray:
    """Packed 4:2:0 planes, uint8 (H * 3 / 2, W), at 1280x720 in the middle of black."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    scaled = [_fitted(planes[:height], SIZE_WH, 16)]
    half_wh = (SIZE_WH[0] // 2, SIZE_WH[1] // 2)
    scaled += [_fitted(plane, half_wh, 128) for plane in chroma]
    return np.concatenate([plane.reshape(-1, SIZE_WH[0]) for plane in scaled])


def _fitted(plane: np.ndarray, size_wh: tuple[int, int], black: int) -> np.ndarray:
    width = plane.shape[1] * size_wh[1] // plane.shape[0]
    resized = cv2.resize(plane, (width, size_wh[1]), interpolation=cv2.INTER_CUBIC)
    left = (size_wh[0] - width) // 2
    right = size_wh[0] - width - left
    padded: np.ndarray = cv2.copyMakeBorder(
        resized, 0, 0, left, right, cv2.BORDER_CONSTANT, value=black
    )
    return padded
