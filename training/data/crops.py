"""Aligned crops of the training faces, made once by the runtime's alignment and kept on disk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.runtime.faces.alignment import align_face
from mien.runtime.target import EMOTIONS
from mien.training.data.faces import Faces, load_faces160, load_fer2013, load_votes, vote_shares

FACES160, FER2013 = 0, 1
CLEAR_SHARE = 0.5  # of the votes of FER+, for a label that can be relied on


@dataclass(frozen=True, slots=True)
class Crops:
    """Faces in the canonical crop.

    pixels: uint8 (n, size, size), luma.
    landmarks: float32 (n, 106, 2), crop units.
    emotions: int64 (n,), index into EMOTIONS.
    validation: bool (n,), never trained on.
    source: int64 (n,), FACES160 or FER2013.
    """

    pixels: np.ndarray
    landmarks: np.ndarray
    emotions: np.ndarray
    validation: np.ndarray
    source: np.ndarray

    def select(self, chosen: np.ndarray) -> Crops:
        """The crops at the given indices or under the given mask."""
        return Crops(
            self.pixels[chosen],
            self.landmarks[chosen],
            self.emotions[chosen],
            self.validation[chosen],
            self.source[chosen],
        )


def write_arrays(file: Path, **arrays: np.ndarray) -> None:
    """Keep arrays in `file`, an npz, whole or not at all: a run may be stopped while it writes."""
    part = file.with_suffix(".part")
    with part.open("wb") as opened:
        np.savez(opened, **arrays)
    part.replace(file)


def load_crops(data: Path, size: int, cache: Path) -> Crops:
    """All labelled faces of `data` as crops of `size` pixels, from `cache` when it has them."""
    file = cache / f"crops{size}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        parts = [_align_all(load_faces160(data), size), _align_all(load_fer2013(data), size)]
        source = np.repeat([FACES160, FER2013], [len(p[0]) for p in parts])
        pixels, landmarks, emotions, validation = (
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )
        write_arrays(
            file,
            pixels=pixels,
            landmarks=landmarks,
            emotions=emotions,
            validation=validation,
            source=source,
        )
    with np.load(file) as stored:
        return Crops(**{name: stored[name] for name in Crops.__dataclass_fields__})


def clear_crops(crops: Crops, data: Path) -> Crops:
    """The crops whose label can be relied on, those of FER-2013 labelled by the votes of FER+.

    crops: all of `load_crops`. data: the folder of `ferplus.csv`. At least half of the annotators
    must have seen the same emotion.
    """
    shares = np.zeros((len(crops.source), len(EMOTIONS)), np.float32)
    shares[crops.source == FER2013] = vote_shares(load_votes(data))
    is_press = crops.source == FACES160
    emotions = np.where(is_press, crops.emotions, shares.argmax(1))
    kept = is_press | (shares.max(1) >= CLEAR_SHARE)
    return dataclasses.replace(crops, emotions=emotions).select(kept)


def _align_all(faces: Faces, size: int) -> tuple[np.ndarray, ...]:
    aligned = [
        align_face(picture, points[:, :2], size)
        for picture, points in zip(faces.pictures, faces.landmarks, strict=True)
    ]
    pixels = np.stack([np.round(face.pixels * 255).astype(np.uint8) for face in aligned])
    landmarks = np.stack([face.landmarks for face in aligned])
    return pixels, landmarks, faces.emotions, faces.validation


def balanced_weights(emotions: np.ndarray, power: float = 0.7) -> np.ndarray:
    """Sampling probabilities by inverse class frequency to `power`: float64 (n,), summing to 1."""
    counts = np.bincount(emotions, minlength=emotions.max() + 1).astype(np.float64)
    weights = counts[emotions] ** -power
    normalised: np.ndarray = weights / weights.sum()
    return normalised
