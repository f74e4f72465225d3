"""Labelled faces for training: faces160 and FER-2013, as arrays in memory.

The folder that holds them is the user's to give (`--data`); its README says where they come from.
People of faces160 are split by their hash, FER-2013 by its own splits, the same in every recipe.
"""

from __future__ import annotations

import csv
import lzma
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mien.runtime.target import EMOTIONS
from mien.training.data.facemesh import landmarks_106

# The names of faces160, and of the columns of FER+ that are emotions.
_EIGHT_NAMES = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "fear": "fearful",
    "disgust": "disgusted",
    "anger": "angry",
    "contempt": "contemptuous",
}
_FER_NAMES = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "surprise": "surprised",
    "fear": "fearful",
    "disgust": "disgusted",
    "angry": "angry",
}


@dataclass(frozen=True, slots=True)
class Faces:
    """Pictures of one face each.

    pictures: uint8 (H, W) each, luma.
    landmarks: float32 (n, 106, d) in pixels of the picture; d is 3 for faces160, 2 for FER-2013.
    emotions: int64 (n,), index into EMOTIONS.
    validation: bool (n,), people (faces160) or splits (FER-2013) that no training may see.
    people: str (n,), a hash of the person, empty where unknown.
    """

    pictures: list[np.ndarray]
    landmarks: np.ndarray
    emotions: np.ndarray
    validation: np.ndarray
    people: np.ndarray


def load_faces160(data: Path) -> Faces:
    """All 11,832 pictures of faces160 under `data`."""
    with (data / "faces160.csv").open() as file:
        rows = list(csv.DictReader(file))
    mesh = _meshes(data / "faces160_landmarks.npy.xz")
    stored = {Path(name).name: picture for name, picture in _pictures(data / "faces160.tar")}
    return Faces(
        [stored[row["file"]] for row in rows],
        landmarks_106(mesh),
        np.array([EMOTIONS.index(_EIGHT_NAMES[row["emotion"]]) for row in rows]),
        np.array([int(row["person"], 16) % 10 == 0 for row in rows]),
        np.array([row["person"] for row in rows]),
    )


def load_fer2013(data: Path, *, with_landmarks: bool = True) -> Faces:
    """FER-2013 under `data`; with landmarks only the 33,696 pictures that have them.

    `validation` marks the public and private test splits.
    """
    with (data / "fer2013.csv").open() as file:
        rows = list(csv.DictReader(file))
    pictures: list[np.ndarray] = []
    for _, sheet in sorted(_pictures(data / "fer2013.tar"), key=lambda named: named[0]):
        pictures.extend(sheet.reshape(10, 48, 10, 48).transpose(0, 2, 1, 3).reshape(100, 48, 48))
    index = np.arange(len(rows))
    landmarks = np.zeros((len(rows), 106, 2), np.float32)
    if with_landmarks:
        index = np.load(data / "fer2013_landmarks_index.npy")
        landmarks = landmarks_106(_meshes(data / "fer2013_landmarks.npy.xz"))
    return Faces(
        [pictures[i] for i in index],
        landmarks,
        np.array([EMOTIONS.index(_FER_NAMES[rows[i]["label"]]) for i in index]),
        np.array([rows[i]["split"] != "train" for i in index]),
        np.array([""] * len(index)),
    )


def load_votes(data: Path, *, with_landmarks: bool = True) -> np.ndarray:
    """How many of ten annotators saw each of EMOTIONS in `load_fer2013`'s pictures: (m, 8).

    All zero where the picture is not the original. The rest saw no face or could not tell.
    Source: FER+ (Barsoum et al., "Training Deep Networks for Facial Expression Recognition with
    Crowd-Sourced Label Distribution", 2016).
    """
    with (data / "ferplus.csv").open() as file:
        rows = list(csv.DictReader(file))
    votes = np.zeros((len(rows), len(EMOTIONS)), np.float32)
    for i, row in enumerate(rows):
        for name, emotion in _EIGHT_NAMES.items():
            votes[i, EMOTIONS.index(emotion)] = float(row[name])
    votes[[row["original"] != "1" for row in rows]] = 0
    return votes[np.load(data / "fer2013_landmarks_index.npy")] if with_landmarks else votes


def vote_shares(votes: np.ndarray, least: float = 6.0) -> np.ndarray:
    """Votes (n, k) as shares that add up to one; zeros where fewer than `least` were given."""
    total = votes.sum(1, keepdims=True)
    shares: np.ndarray = np.where(total >= least, votes / np.maximum(total, 1), 0)
    return shares.astype(np.float32)


def faces160_meshes(data: Path) -> np.ndarray:
    """FaceMesh's points of `load_faces160`'s pictures, in pixels: float32 (n, 478, 2)."""
    return _meshes(data / "faces160_landmarks.npy.xz")[:, :, :2]


def fer2013_meshes(data: Path) -> np.ndarray:
    """FaceMesh's points of `load_fer2013`'s pictures, in pixels: float32 (m, 478, 2)."""
    return _meshes(data / "fer2013_landmarks.npy.xz")


def load_colour160(data: Path) -> dict[int, np.ndarray]:
    """The few pictures of faces160 that are in colour, by row: uint8 (H, W, 3) RGB."""
    with (data / "faces160.csv").open() as file:
        rows = {
            row["file"]: i for i, row in enumerate(csv.DictReader(file)) if row["colour"] == "1"
        }
    read = _pictures(data / "faces160.tar", cv2.IMREAD_COLOR, rows.keys())
    return {rows[Path(name).name]: picture[:, :, ::-1].copy() for name, picture in read}


def _meshes(path: Path) -> np.ndarray:
    with lzma.open(path) as file:
        stored: np.ndarray = np.load(file)
    return stored.transpose(2, 1, 0).astype(np.float32) / 8


def _pictures(
    tar: Path, mode: int = cv2.IMREAD_GRAYSCALE, only: Collection[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    with tarfile.open(tar) as archive:
        for member in archive:
            if only is not None and Path(member.name).name not in only:
                continue
            file = archive.extractfile(member)
            if file is None:
                continue
            picture = cv2.imdecode(np.frombuffer(file.read(), np.uint8), mode)
            if picture is not None:
                yield member.name, picture
