"""A tiny faces160 and FER-2013: copies of the bundled portrait, lighter or darker."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

PORTRAIT = Path(__file__).parents[3] / "apps" / "sample" / "portrait.jpg"
HELD_OUT, TRAINED_ON = "14", "15"  # hashes of people: 20 and 21


def portrait(side: int, *, brightness: float = 1.0) -> np.ndarray:
    """The face of the bundled portrait as the data sets would crop it: uint8 (side, side)."""
    luma = cv2.imread(str(PORTRAIT), cv2.IMREAD_GRAYSCALE)
    assert luma is not None
    shorter = min(luma.shape)
    square = luma[:shorter, (luma.shape[1] - shorter) // 2 :][:, :shorter]
    small = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
    return np.clip(small * brightness, 0, 255).astype(np.uint8)


def write_faces160(data: Path, rows: Sequence[tuple[str, str, np.ndarray]]) -> None:
    """Write a row for each (emotion, person, picture)."""
    with tarfile.open(data / "faces160.tar", "w") as archive:
        for index, (_, _, luma) in enumerate(rows):
            _add(archive, f"{index:05}.png", luma)
    lines = [(f"{i:05}.png", emotion, 0, who) for i, (emotion, who, _) in enumerate(rows)]
    _write_csv(data / "faces160.csv", ("file", "emotion", "colour", "person"), lines)


def write_fer2013(data: Path, rows: Sequence[tuple[str, str, np.ndarray]]) -> None:
    """Write a row for each (label, split, picture 48x48), in sheets of a hundred.

    The last sheet stands first in the archive: its order says nothing.
    """
    sheets = []
    for first in range(0, len(rows), 100):
        tiles = np.zeros((100, 48, 48), np.uint8)
        for tile, (_, _, luma) in zip(tiles, rows[first : first + 100], strict=False):
            tile[:] = luma
        sheet = tiles.reshape(10, 10, 48, 48).transpose(0, 2, 1, 3).reshape(480, 480)
        sheets.append((f"{first:05}.png", sheet))
    with tarfile.open(data / "fer2013.tar", "w") as archive:
        for name, sheet in reversed(sheets):
            _add(archive, name, sheet)
    _write_csv(data / "fer2013.csv", ("label", "split"), [row[:2] for row in rows])


def _add(archive: tarfile.TarFile, name: str, luma: np.ndarray) -> None:
    content = cv2.imencode(".png", luma)[1].tobytes()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
