"""One face through all of the parts paper's methods, as one picture.

python -m mien.calibration.smile.strip CLIP OUT.jpg [--emotion happy] [--models DIR]

A row for each blend; after the original come image, face and parts, by StarGAN and by CycleGAN. A
cell is grey where no model is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien.calibration.tables.sheet import GAP_PX, SheetRow, draw_sheet, rgb_picture, write_picture
from mien.engines.errors import ModelError, UsageError
from mien.engines.networks import GANS, MODES
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.methods.gan import BLENDS
from mien.runtime.video import read_frames

FRAME = 30  # of the clip, by when the filter has settled
SIDE_PX = 220
NOTHING = 225  # the grey of a cell without a model
NAMES = {"stargan": "StarGAN", "cyclegan": "CycleGAN"}


def smile_strip(clip: Path, emotion: str, models: Path | None) -> np.ndarray:
    """The face of a clip as it is and by every method and blend: uint8 (H, W, 3) RGB."""
    frames = list(islice(read_frames(clip), FRAME + 1))
    bands = []
    for blend in BLENDS:
        shown = {"original": rgb_picture(frames[-1])}
        landmarks = _landmarks(frames)
        for gan, mode in product(GANS, MODES):
            settings = {"method": mode, "gan": gan, "blend": blend}
            name = f"{mode}, {NAMES[gan]}, {blend}"
            shown[name] = _edited(frames, emotion, models, settings)
        bands.append(_band(landmarks, shown))
    return np.vstack([bands[0], *(band[GAP_PX // 2 :] for band in bands[1:])])


def _landmarks(frames: Sequence[Frame]) -> np.ndarray:
    with Filter(None) as look:
        for frame in frames:
            look.apply(frame)
        if not look.faces:
            raise UsageError(f"the clip shows no face in frame {len(frames) - 1}; take another")
        return look.faces[0].landmarks


def _edited(
    frames: Sequence[Frame], emotion: str, models: Path | None, settings: Mapping[str, Any]
) -> np.ndarray:
    try:
        change = Filter(emotion, models=models, **settings)
    except (ModelError, UsageError) as error:
        sys.stderr.write(f"{error}\n")
        return np.full((frames[-1].height, frames[-1].width, 3), NOTHING, np.uint8)
    with change:
        for frame in frames:
            edited = change.apply(frame)
    return rgb_picture(edited)


def _band(landmarks: np.ndarray, shown: Mapping[str, np.ndarray]) -> np.ndarray:
    cells = {
        name: cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        for name, picture in SheetRow.around(landmarks, shown).pictures.items()
    }
    return draw_sheet([SheetRow(cells)])


def main(argv: Sequence[str] | None = None) -> None:
    """Write the strip of a clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clip", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--models", type=Path, default=None)
    options = parser.parse_args(argv)
    write_picture(options.out, smile_strip(options.clip, options.emotion, options.models))


if __name__ == "__main__":
    main()
