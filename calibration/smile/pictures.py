"""Faces of one emotion that no training has seen, from faces160 and FER-2013."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mien.calibration.judges.held_out import PADDING
from mien.engines.errors import UsageError

FACES160_NAMES = {"neutral": "neutral", "happy": "happiness", "sad": "sadness"}
FER_NAMES = {"neutral": "neutral", "happy": "happy", "sad": "sad"}
FER_SHEET = 10  # pictures a side of a sheet
FER_SIDE = 48
PAPERS_SIDE = 64  # pixels, of all pictures in the paper


def held_out_pictures(data: Path, emotions: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """All pictures by emotion: luma, uint8 (H, W), the border repeated around them.

    Validation people of faces160 (their hash divides by ten) and the public and private splits of
    FER-2013, these at twice their side; whichever of the two `data` holds. Always in the same
    order, which is a mixed one, so that the first few are a fair sample of all. Raises UsageError.
    """
    found: dict[str, list[np.ndarray]] = {emotion: [] for emotion in emotions}
    sets = [read for name, read in _SETS.items() if (data / name).exists()]
    if not sets:
        raise UsageError(
            f"{data} holds neither {' nor '.join(_SETS)}; give the folder with faces160 or FER-2013"
        )
    for read in sets:
        for emotion, luma in read(data, emotions):
            found[emotion].append(padded(luma))
    for emotion, pictures in found.items():
        if not pictures:
            raise UsageError(f"{data} holds no picture of a {emotion} face that is held out")
        order = np.random.default_rng(0).permutation(len(pictures))
        found[emotion] = [pictures[i] for i in order]
    return found


def _faces160(data: Path, emotions: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    emotion_of = {FACES160_NAMES[emotion]: emotion for emotion in emotions}
    with (data / "faces160.csv").open() as file:
        wanted = {
            row["file"]: emotion_of[row["emotion"]]
            for row in csv.DictReader(file)
            if row["emotion"] in emotion_of and int(row["person"], 16) % 10 == 0
        }
    for name, stored in members(data / "faces160.tar"):
        if name in wanted:
            yield wanted[name], stored_luma(stored, f"{name} of faces160.tar")


def _fer2013(data: Path, emotions: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    emotion_of = {FER_NAMES[emotion]: emotion for emotion in emotions}
    with (data / "fer2013.csv").open() as file:
        wanted = {
            index: emotion_of[row["label"]]
            for index, row in enumerate(csv.DictReader(file))
            if row["label"] in emotion_of and row["split"] != "train"
        }
    yield from fer2013_pictures(data, wanted)


def fer2013_pictures(data: Path, wanted: Mapping[int, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures of FER-2013, uint8 (48, 48), with the words that `wanted` has for their rows.

    Raises UsageError.
    """
    of_sheet: dict[int, list[int]] = {}
    for index in wanted:
        of_sheet.setdefault(index // FER_SHEET**2, []).append(index)
    # Sheets hold the rows in the order of their names.
    sheets = sorted(members(data / "fer2013.tar"))
    for number, indices in of_sheet.items():
        if number >= len(sheets):
            raise UsageError(
                f"fer2013.tar in {data} holds {len(sheets)} sheets, too few; get it again"
            )
        name, stored = sheets[number]
        sheet = stored_luma(stored, f"{name} of fer2013.tar")
        for index in indices:
            row, column = divmod(index % FER_SHEET**2, FER_SHEET)
            y, x = row * FER_SIDE, column * FER_SIDE
            yield wanted[index], sheet[y : y + FER_SIDE, x : x + FER_SIDE]


_SETS = {"faces160.csv": _faces160, "fer2013.csv": _fer2013}


def members(tar: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive by name. Raises UsageError."""
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    yield Path(member.name).name, file.read()
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"cannot read {tar}: {error}; get the data again") from error


def stored_luma(stored: bytes, name: str) -> np.ndarray:
    """A stored picture: uint8 (H, W). Raises UsageError, with its name."""
    luma = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_GRAYSCALE)
    if luma is None:
        raise UsageError(f"cannot read the picture {name}; get the data again")
    return luma


def padded(luma: np.ndarray) -> np.ndarray:
    """The picture with room around it: both sets are cropped tighter than a detector expects.

    One smaller than the paper's pictures is enlarged: the filter takes back its edit on faces as
    small as those of a crowd, and that is not what is to be measured.
    """
    if min(luma.shape) < PAPERS_SIDE:
        luma = cv2.resize(luma, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    y, x = (round(PADDING * side) // 2 * 2 for side in luma.shape)
    return cv2.copyMakeBorder(luma, y, y, x, x, cv2.BORDER_REPLICATE)
