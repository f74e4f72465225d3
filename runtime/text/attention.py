"""Where a generator looked for each word, as heat maps over the face.

Source: Figures 3 and 7 of the paper: each word's map, enlarged to the picture, from blue for the
least to red for the most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from mien.runtime.text.faces import DrawnFace, grid_of

HEAT: Final = 0.55  # of the map in a tile; the rest is the face
BAND: Final = 24  # pixels for the word above a tile
INK: Final = (255, 255, 255)


def attention_sheet(face: DrawnFace, words: Sequence[str]) -> np.ndarray:
    """The face, then a tile for each word with its map over the face: uint8 BGR.

    The face must have been drawn with its attention, for just these words.
    """
    maps = face.attention
    assert maps is not None
    tiles = [_labelled(face.pixels, "")]
    for word, values in zip(words, maps, strict=True):
        tiles.append(_labelled(heated(face.pixels, values), word))
    return grid_of(tiles)


def heated(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map (s', s') over a picture, uint8 (s, s, 3) BGR; the map's own least and most count."""
    side = len(pixels)
    spread = values.max() - values.min()
    share = (values - values.min()) / max(float(spread), 1e-12)
    levels = np.rint(255 * share).astype(np.uint8)
    enlarged = cv2.resize(levels, (side, side), interpolation=cv2.INTER_LINEAR)
    heat = cv2.applyColorMap(enlarged, cv2.COLORMAP_JET)
    return np.asarray(cv2.addWeighted(heat, HEAT, pixels, 1 - HEAT, 0))


def _labelled(pixels: np.ndarray, word: str) -> np.ndarray:
    """A tile with its word in a band above it."""
    band = np.zeros((BAND, pixels.shape[1], 3), np.uint8)
    cv2.putText(band, word, (6, BAND - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA)
    return np.concatenate([band, pixels], 0)
