"""How pale the inside of a mouth is beside its lips, measured on the training clips.

`python -m mien.training.mouth_colour CLIPS CACHE` prints the ratio of chroma that
`mien.runtime.methods.warp` uses; CACHE is the labelled clips' file of another recipe.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np

from mien.runtime.topology import INNER_LIPS, OUTER_LIPS
from mien.training.clips import Labelled, labelled_clips
from mien.training.mouth import OPEN, gap

STEP = 2  # every second frame, as the other recipes label them


def chroma_ratios(path: Path, labelled: Labelled) -> list[tuple[float, float]]:
    """Chroma inside over chroma of the lips, for the bright and for the dark half of a mouth."""
    marks = {
        number: faces[0]
        for (name, number), faces in zip(labelled.names, labelled.landmarks, strict=True)
        if name == path.stem and len(faces) == 1
    }
    ratios = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in marks and gap(marks[number]) > 2 * OPEN:
                ratios.append(_ratio(frame.to_ndarray(format="yuv444p"), marks[number]))
    return ratios


def _ratio(yuv: np.ndarray, landmarks: np.ndarray) -> tuple[float, float]:
    inside = _polygon(yuv.shape[1:], landmarks[list(INNER_LIPS)])
    lips = _polygon(yuv.shape[1:], landmarks[list(OUTER_LIPS)]) & ~cv2.dilate(inside, None)
    inside = cv2.erode(inside, None) > 0
    chroma = np.hypot(yuv[1].astype(np.float32) - 128, yuv[2].astype(np.float32) - 128)
    around = float(chroma[lips > 0].mean())
    luma = yuv[0][inside]
    bright = luma > np.median(luma)
    within = chroma[inside]
    return float(within[bright].mean()) / around, float(within[~bright].mean()) / around


def _polygon(shape: tuple[int, ...], points: np.ndarray) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return mask


if __name__ == "__main__":
    folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
    known = labelled_clips(folder, cache, Path("python"), step=STEP)
    for clip in sorted(folder.glob("*.mp4")):
        found = chroma_ratios(clip, known)
        if found:
            bright, dark = np.median(np.array(found), axis=0)
            print(f"{clip.stem}: {len(found)} mouths, bright half {bright:.2f}, dark {dark:.2f}")
