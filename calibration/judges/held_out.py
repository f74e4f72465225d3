"""Faces of people that no training has seen, from faces160."""

from __future__ import annotations

import csv
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

FRONTAL = 0.06  # how far the nose tip may lie off the middle of the eyes, by their distance
PADDING = 0.5  # of the picture's sides: faces160 is cropped tighter than a detector expects


@dataclass(frozen=True, slots=True)
class HeldOutFace:
    """A picture of one face: `luma` uint8 (H, W), border repeated around it."""

    file: str
    person: str
    luma: np.ndarray


@dataclass(frozen=True, slots=True)
class SmilingPerson:
    """One person, calm and smiling: one or two pictures of each."""

    person: str
    neutral: tuple[HeldOutFace, ...]
    smiling: tuple[HeldOutFace, ...]


def neutral_faces(data: Path, count: int = 150) -> list[HeldOutFace]:
    """The first `count` near-frontal neutral pictures of validation people, at most three each.

    data: the folder of faces160; validation people are those whose hash divides by ten.
    """
    chosen: dict[str, str] = {}
    of_person: dict[str, int] = {}
    for file, emotion, person in _frontal_rows(data):
        if emotion == "neutral" and of_person.get(person, 0) < 3 and len(chosen) < count:
            chosen[file] = person
            of_person[person] = of_person.get(person, 0) + 1
    return _read(data / "faces160.tar", chosen)


def smiling_people(data: Path, count: int = 60) -> list[SmilingPerson]:
    """The first `count` validation people of whom there are a neutral picture and a smiling one.

    data: the folder of faces160. Near-frontal pictures, at most two of a kind each.
    """
    files: dict[str, dict[str, list[str]]] = {}
    for file, emotion, person in _frontal_rows(data):
        kinds = files.setdefault(person, {"neutral": [], "happiness": []})
        if emotion in kinds and len(kinds[emotion]) < 2:
            kinds[emotion].append(file)
    people = [(person, kinds) for person, kinds in files.items() if all(kinds.values())][:count]
    chosen = {file: person for person, kinds in people for part in kinds.values() for file in part}
    faces = {face.file: face for face in _read(data / "faces160.tar", chosen)}
    found = []
    for person, kinds in people:
        neutral, smiling = (
            tuple(faces[file] for file in kinds[kind] if file in faces)
            for kind in ("neutral", "happiness")
        )
        if neutral and smiling:
            found.append(SmilingPerson(person, neutral, smiling))
    return found


def _frontal_rows(data: Path) -> Iterator[tuple[str, str, str]]:
    """File, emotion and person of the pictures of validation people who look ahead."""
    with (data / "faces160.csv").open() as file:
        rows = list(csv.DictReader(file))
    with lzma.open(data / "faces160_landmarks.npy.xz") as packed:
        points = np.load(packed).transpose(2, 1, 0)[:, :, :2].astype(np.float32) / 8
    for row, ahead in zip(rows, _looks_ahead(points), strict=True):
        if ahead and int(row["person"], 16) % 10 == 0:
            yield row["file"], row["emotion"], row["person"]


def _looks_ahead(points: np.ndarray) -> np.ndarray:
    """Which of (n, 478, 2) look ahead; vertices 33 and 263 are outer corners, 4 the nose tip."""
    eyes = points[:, 263] - points[:, 33]
    middle = (points[:, 263] + points[:, 33]) / 2
    off = ((points[:, 4] - middle) * eyes).sum(1) / (eyes**2).sum(1)
    ahead: np.ndarray = np.abs(off) < FRONTAL
    return ahead


def _read(tar: Path, chosen: dict[str, str]) -> list[HeldOutFace]:
    faces = []
    with tarfile.open(tar) as archive:
        for member in archive:
            name = Path(member.name).name
            file = archive.extractfile(member) if name in chosen else None
            if file is None:
                continue
            stored = np.frombuffer(file.read(), np.uint8)
            luma = cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE)
            if luma is None:
                continue
            y, x = (round(PADDING * side) // 2 * 2 for side in luma.shape)
            padded = cv2.copyMakeBorder(luma, y, y, x, x, cv2.BORDER_REPLICATE)
            faces.append(HeldOutFace(name, chosen[name], padded))
    return faces
