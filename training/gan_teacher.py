"""Pictures of the training faces as the shipped warp editor would change them.

A student that has minutes where the paper had weeks learns to place an expression from these pairs
first, and then goes on with the paper's own objective. The runtime's own method makes them.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from mien.engines import Catalog
from mien.runtime.alignment import AlignedFace, crop_matrix, transform_points
from mien.runtime.blending import blend, crop_units_matrix
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import sample_luma
from mien.runtime.methods import Method, open_method
from mien.runtime.target import EMOTIONS
from mien.training.crops import FACES160, FER2013
from mien.training.gan_faces import Lessons, Pool

# How many of each emotion are taught, where there are so many: sharp ones, and small blurred ones.
FACES = {FACES160: 1600, FER2013: 900}
STRENGTH = 1.4  # a student shows less than what it was taught


def load_lessons(pool: Pool, emotions: tuple[int, ...], cache: Path, seed: int = 0) -> Lessons:
    """Every emotion to every other, from `cache` when it has them.

    emotions: index into EMOTIONS.
    """
    file = cache / f"lessons_{'_'.join(EMOTIONS[emotion] for emotion in emotions)}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = _make(pool, emotions, np.random.default_rng(seed))
        np.savez(file, faces=made.faces, goals=made.goals, pixels=made.pixels)
    with np.load(file) as stored:
        return Lessons(**{name: stored[name] for name in Lessons.__dataclass_fields__})


def _make(pool: Pool, emotions: tuple[int, ...], rng: np.random.Generator) -> Lessons:
    faces: list[int] = []
    goals: list[int] = []
    pixels: list[np.ndarray] = []
    method = open_method("warp", Catalog.bundled(), provider="cpu")
    for emotion, source in itertools.product(emotions, FACES):
        usable = ~pool.validation & (pool.emotions == emotion) & (pool.source == source)
        for index in rng.permutation(np.flatnonzero(usable))[: FACES[source]]:
            for goal in emotions:
                if goal != emotion:
                    faces.append(int(index))
                    goals.append(goal)
                    pixels.append(
                        taught(method, pool.pixels[index], pool.landmarks[index], goal=goal)
                    )
    method.close()
    return Lessons(np.array(faces), np.array(goals), np.stack(pixels))


def taught(
    method: Method,
    wide: np.ndarray,
    landmarks: np.ndarray,
    *,
    goal: int,
    strength: float = STRENGTH,
) -> np.ndarray:
    """A wide crop with another expression: uint8, as `wide` (side, side).

    landmarks: (106, 2), units of the wide crop. goal: index into EMOTIONS.
    """
    side = wide.shape[0]
    frame = Frame((Plane(wide, (1, 1)),), PixelLayout("gray", full_range=True), side, side)
    points = landmarks * np.float32(side) - np.float32(0.5)
    size = method.crop_size
    matrix = crop_matrix(points, size)
    crop = sample_luma(frame, matrix, size).astype(np.float32) / 255
    units = (transform_points(matrix, points) + 0.5) / size
    weights = np.zeros(len(EMOTIONS), np.float32)
    weights[goal] = 1
    aligned = AlignedFace(crop, matrix, units.astype(np.float32))
    edit = method.new_face()(frame, aligned, weights, strength, 0.0)
    return blend(frame, crop_units_matrix(matrix, size), edit).planes[0].samples
