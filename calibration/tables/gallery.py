"""One face with each emotion, as one picture.

`python -m mien.calibration.tables.gallery CLIP OUT.png`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from mien.calibration.tables.sheet import GAP_PX, SheetRow, draw_sheet, rgb_picture, write_picture
from mien.runtime.filter import Filter
from mien.runtime.target import EMOTIONS
from mien.runtime.video import read_frames

FRAME = 30  # of the clip, by when the filter has settled
COLUMNS = 4
SIDE_PX = 300


def gallery(clip: Path) -> np.ndarray:
    """The face of a clip as it is and with each emotion, in rows of four: uint8 (H, W, 3) RGB."""
    frames = list(islice(read_frames(clip), FRAME + 1))
    shown, landmarks = {"original": rgb_picture(frames[-1])}, np.zeros((1, 2), np.float32)
    for emotion in EMOTIONS[1:]:
        with Filter(emotion) as change:
            for frame in frames:
                edited = change.apply(frame)
            landmarks = change.faces[0].landmarks
        shown[emotion] = rgb_picture(edited)
    cells = {
        name: cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        for name, picture in SheetRow.around(landmarks, shown).pictures.items()
    }
    names = list(cells)
    rows = [
        draw_sheet([SheetRow({name: cells[name] for name in names[i : i + COLUMNS]})])
        for i in range(0, len(names), COLUMNS)
    ]
    return np.vstack([rows[0], *(row[GAP_PX // 2 :] for row in rows[1:])])


def main(argv: Sequence[str] | None = None) -> None:
    """Write the gallery of a clip."""
    clip, out = (Path(text) for text in (sys.argv[1:] if argv is None else argv))
    write_picture(out, gallery(clip))


if __name__ == "__main__":
    main()
