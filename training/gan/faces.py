"""Faces for the parts paper's GANs: wide crops, and the squares of them that a generator sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from mien.runtime.faces.alignment import roi_matrix, sample_crop, transform_points
from mien.runtime.faces.topology import MIRROR
from mien.runtime.methods.gan.parts import (
    IMAGE_BOX,
    KIND_OF_PART,
    PART_KINDS,
    PARTS,
    SIZE,
    Box,
    face_box,
    part_boxes,
)
from mien.training.data.crops import FACES160, FER2013, write_arrays
from mien.training.data.faces import Faces, load_faces160, load_fer2013

WIDE = 128  # pixels a side of the stored wide crops: about what faces160 resolves
MODES = ("image", "face", "parts")
Mode = Literal["image", "face", "parts"]
# A tracker's crop is never twice the same, and a mask's box is not that of the landmarks.
PLACE_JITTER, SIDE_JITTER = 0.03, 0.06  # shares of the square's side
# FER-2013 is sharp to 48 pixels only. Every emotion gets the same share of it, or a generator
# would learn that sad people are blurred.
FER_SHARE = 0.5
STAYS = 0.2  # of the lessons: a picture that is to stay as it is
# How often each of PARTS is shown: lips say most of an expression and move most.
PART_SHARES = (0.18, 0.18, 0.14, 0.5)


@dataclass(frozen=True, slots=True)
class Pool:
    """Faces in the wide crop.

    pixels: uint8 (n, WIDE, WIDE), luma. landmarks: float32 (n, 106, 2), units of the wide crop.
    emotions: int64 (n,), index into EMOTIONS. validation: bool (n,), never trained on.
    source: int64 (n,), FACES160 or FER2013.
    """

    pixels: np.ndarray
    landmarks: np.ndarray
    emotions: np.ndarray
    validation: np.ndarray
    source: np.ndarray


def load_pool(data: Path, cache: Path) -> Pool:
    """All labelled faces of `data`, from `cache` when it has them."""
    file = cache / f"wide{WIDE}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        parts = [_wide(load_faces160(data)), _wide(load_fer2013(data))]
        pixels, landmarks, emotions, validation = (
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )
        source = np.repeat([FACES160, FER2013], [len(p[0]) for p in parts])
        write_arrays(
            file,
            pixels=pixels,
            landmarks=landmarks,
            emotions=emotions,
            validation=validation,
            source=source,
        )
    with np.load(file) as stored:
        return Pool(**{name: stored[name] for name in Pool.__dataclass_fields__})


def _wide(faces: Faces) -> tuple[np.ndarray, ...]:
    pixels, landmarks = [], []
    for picture, points in zip(faces.pictures, faces.landmarks, strict=True):
        matrix = roi_matrix(points[:, :2], WIDE)
        pixels.append(sample_crop(picture, matrix, WIDE))
        landmarks.append((transform_points(matrix, points[:, :2]) + 0.5) / WIDE)
    return np.stack(pixels), np.stack(landmarks), faces.emotions, faces.validation


@dataclass(frozen=True, slots=True)
class Lessons:
    """Faces and what a teacher made of them.

    faces: int64 (n,), index into a pool. goals: int64 (n,), index into EMOTIONS.
    pixels: uint8 (n, WIDE, WIDE), the wide crop with that expression.
    """

    faces: np.ndarray
    goals: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True, slots=True)
class GanBatch:
    """What one step sees.

    pictures: float32 (n, SIZE, SIZE), luma in [-1, 1]. emotions: int64 (n,), index into the
    recipe's own list. kinds: int64 (n,), index into PART_KINDS; 0 outside of parts mode.
    """

    pictures: np.ndarray
    emotions: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True, slots=True)
class LessonBatch:
    """What one step of imitation sees.

    pictures, goals: float32 (n, SIZE, SIZE), luma in [-1, 1], before and after. emotions: int64
    (n,), which one is shown afterwards, index into the recipe's own list. kinds: as in `GanBatch`.
    """

    pictures: np.ndarray
    goals: np.ndarray
    emotions: np.ndarray
    kinds: np.ndarray


class GanFaces:
    """Draws batches of squares; every emotion of the recipe equally often.

    lessons: what a teacher made of some of them, where a student has one.
    """

    def __init__(
        self,
        pool: Pool,
        mode: Mode,
        emotions: tuple[int, ...],
        seed: int,
        lessons: Lessons | None = None,
    ) -> None:
        self._pool = pool
        self._lessons = lessons
        self._emotions = emotions
        self._mode = mode
        self._rng = np.random.default_rng(seed)
        usable = ~pool.validation
        self._indices = [
            [
                np.flatnonzero(usable & (pool.emotions == emotion) & (pool.source == source))
                for source in (FACES160, FER2013)
            ]
            for emotion in emotions
        ]

    @property
    def has_teacher(self) -> bool:
        """Whether there are lessons to draw."""
        return self._lessons is not None

    @property
    def lesson_count(self) -> int:
        """How many pairs of its teacher's there are."""
        return 0 if self._lessons is None else len(self._lessons.faces)

    def counts(self) -> list[tuple[int, int]]:
        """How many pictures of faces160 and of FER-2013 each emotion has."""
        return [(len(press), len(fer)) for press, fer in self._indices]

    def draw(self, count: int, emotion: int | None = None) -> GanBatch:
        """`count` squares of all emotions, or of one."""
        rng = self._rng
        emotions = (
            rng.integers(0, len(self._indices), count)
            if emotion is None
            else np.full(count, emotion)
        )
        pictures, kinds = [], np.zeros(count, np.int64)
        for place, chosen in enumerate(emotions):
            sources = self._indices[chosen]
            source = sources[int(rng.random() < FER_SHARE)]
            index = rng.choice(source if len(source) else sources[0])
            part = int(rng.choice(len(PARTS), p=PART_SHARES))
            kinds[place] = KIND_OF_PART[part] if self._mode == "parts" else 0
            pixels = self._pool.pixels[index]
            pictures.extend(self._squares((pixels,), self._pool.landmarks[index], part))
        return GanBatch(_centred(pictures), emotions.astype(np.int64), kinds)

    def draw_lessons(self, count: int, goal: int | None = None) -> LessonBatch:
        """`count` squares with what the teacher made of them; a fifth is to stay as it is.

        goal: only lessons of that emotion, index into the recipe's own list.
        """
        lessons = self._lessons
        assert lessons is not None, "there is no teacher"
        rng = self._rng
        able = np.arange(len(lessons.faces))
        if goal is not None:
            able = able[lessons.goals == self._emotions[goal]]
        before, after, kinds = [], [], np.zeros(count, np.int64)
        emotions = np.zeros(count, np.int64)
        for place, lesson in enumerate(rng.choice(able, count)):
            part = int(rng.choice(len(PARTS), p=PART_SHARES))
            kinds[place] = KIND_OF_PART[part] if self._mode == "parts" else 0
            index = lessons.faces[lesson]
            source, shown = self._pool.pixels[index], lessons.pixels[lesson]
            emotion = int(lessons.goals[lesson])
            chance = rng.random()
            if chance < STAYS / 2 or (chance < STAYS and goal is not None):
                source = shown
            elif chance < STAYS:
                shown, emotion = source, int(self._pool.emotions[index])
            emotions[place] = self._emotions.index(emotion)
            first, second = self._squares((source, shown), self._pool.landmarks[index], part)
            before.append(first)
            after.append(second)
        return LessonBatch(_centred(before), _centred(after), emotions, kinds)

    def _squares(
        self, pictures: tuple[np.ndarray, ...], landmarks: np.ndarray, part: int
    ) -> list[np.ndarray]:
        """The same square of each picture, moved, mirrored and lit alike by chance."""
        is_flipped = self._rng.random() < 0.5
        if is_flipped:
            landmarks = landmarks[MIRROR] * np.float32([-1, 1]) + np.float32([1, 0])
        box = self._jittered(square_of(self._mode, landmarks, part))
        gain, offset = float(np.exp(self._rng.normal(0, 0.12))), float(self._rng.normal(0, 8))
        squares = []
        for pixels in pictures:
            turned = np.ascontiguousarray(pixels[:, ::-1] if is_flipped else pixels)
            square = show_square(cv2.convertScaleAbs(turned, alpha=gain, beta=offset), box)
            squares.append(square[:, ::-1] if is_mirrored(self._mode, part) else square)
        return squares

    def _jittered(self, box: Box) -> Box:
        x, y = self._rng.normal(0, PLACE_JITTER, 2) * box.side
        side = box.side * float(np.exp(self._rng.normal(0, SIDE_JITTER)))
        return Box(box.x + float(x), box.y + float(y), side)


def _centred(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack(pictures).astype(np.float32) / np.float32(127.5) - np.float32(1)


def square_of(mode: Mode, landmarks: np.ndarray, part: int = 0) -> Box:
    """The square of a mode (and part) of a face: landmarks (106, 2), units of the wide crop."""
    if mode == "image":
        return IMAGE_BOX
    return face_box(landmarks) if mode == "face" else part_boxes(landmarks)[PARTS[part]]


def is_mirrored(mode: Mode, part: int) -> bool:
    """Whether a generator sees this part mirrored: the right eye, as a left one."""
    return mode == "parts" and PARTS[part] == "right_eye"


def show_square(pixels: np.ndarray, box: Box) -> np.ndarray:
    """What of a wide crop lies in `box`: (SIZE, SIZE), dtype kept. pixels: (side, side)."""
    side = pixels.shape[0]
    matrix = box.crop_from_wide(SIZE).astype(np.float64)
    # units of the wide crop are (pixel + 0.5) / side
    matrix[:, 2] += matrix[:, :2] @ np.full(2, 0.5 / side)
    matrix[:, :2] /= side
    return cv2.warpAffine(
        np.ascontiguousarray(pixels),
        matrix,
        (SIZE, SIZE),
        flags=cv2.INTER_AREA if box.side * side > 1.5 * SIZE else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def label_width(mode: Mode, emotions: int) -> int:
    """Numbers in a generator's label: its emotions, in parts mode followed by PART_KINDS."""
    return emotions + (len(PART_KINDS) if mode == "parts" else 0)
