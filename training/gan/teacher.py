"""Pictures of the training faces as the shipped warp editor would change them.

A student that has minutes where the paper had weeks learns to place an expression from these pairs
first, and then goes on with the paper's own objective. The runtime's own method makes them.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.engines import Catalog
from mien.runtime.blending.blending import blend, crop_units_matrix
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import align_in_frame
from mien.runtime.methods import method_spec
from mien.runtime.methods.base import Goal, Method
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, FER2013, write_arrays
from mien.training.gan.faces import Lessons, Pool

# How many of each emotion are taught, where there are so many: sharp ones, and small blurred ones.
FACES = {FACES160: 3200, FER2013: 1500}
# As much as the editor can do before its pictures fall apart, by a look at forty people: mouths
# that are pulled down tear sooner than smiles. Whoever imitates shows a little less than that.
STRENGTH = 1.4
STRONGEST = {"happy": 1.8}
# The shading of it at another strength: a student blurs the shadows about a smile to dirt.
# Less of it looks cleaner and says less; chosen by a look.
SHADING = {"happy": 0.8}


def load_lessons(pool: Pool, emotions: tuple[int, ...], cache: Path, seed: int = 0) -> Lessons:
    """Every emotion to every other, from `cache` when it has them.

    emotions: index into EMOTIONS.
    """
    pairs = [
        _load_pair(pool, source, goal, cache, seed)
        for source, goal in itertools.permutations(emotions, 2)
    ]
    fields = Lessons.__dataclass_fields__
    return Lessons(**{f: np.concatenate([getattr(pair, f) for pair in pairs]) for f in fields})


def _load_pair(pool: Pool, emotion: int, goal: int, cache: Path, seed: int) -> Lessons:
    strength, shading = _strengths(goal)
    pair = f"{EMOTIONS[emotion]}_to_{EMOTIONS[goal]}"
    file = cache / f"lessons_{pair}_{strength:g}_{shading:g}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = _make(pool, emotion, goal, np.random.default_rng(seed))
        write_arrays(file, faces=made.faces, goals=made.goals, pixels=made.pixels)
    with np.load(file) as stored:
        return Lessons(**{name: stored[name] for name in Lessons.__dataclass_fields__})


def _make(pool: Pool, emotion: int, goal: int, rng: np.random.Generator) -> Lessons:
    chosen = []
    for source, most in FACES.items():
        usable = ~pool.validation & (pool.emotions == emotion) & (pool.source == source)
        chosen.append(rng.permutation(np.flatnonzero(usable))[:most])
    faces = np.concatenate(chosen)
    method = method_spec("warp").open(Catalog.bundled(), "cpu", {})
    pixels = [taught(method, pool.pixels[i], pool.landmarks[i], goal=goal) for i in faces]
    method.close()
    return Lessons(faces, np.full(len(faces), goal), np.stack(pixels))


def _strengths(goal: int) -> tuple[float, float]:
    """Of the movement and of the shading, towards an emotion."""
    strength = STRONGEST.get(EMOTIONS[goal], STRENGTH)
    return strength, SHADING.get(EMOTIONS[goal], strength)


def taught(method: Method, wide: np.ndarray, landmarks: np.ndarray, *, goal: int) -> np.ndarray:
    """A wide crop with another expression: uint8, as `wide` (side, side).

    landmarks: (106, 2), units of the wide crop. goal: index into EMOTIONS.
    """
    side = wide.shape[0]
    frame = Frame((Plane(wide, (1, 1)),), PixelLayout("gray", full_range=True), side, side)
    points = landmarks * np.float32(side) - np.float32(0.5)
    weights = np.zeros(len(EMOTIONS), np.float32)
    weights[goal] = 1
    aligned = align_in_frame(frame, points, method.crop)
    matrix = crop_units_matrix(aligned.crop_from_frame, aligned.size)
    strength, shading = _strengths(goal)
    edit = method.new_face()(frame, aligned, Goal(weights, strength), 0.0)
    if shading != strength:
        softer = method.new_face()(frame, aligned, Goal(weights, shading), 0.0)
        edit = replace(edit, gain=softer.gain)
    return blend(frame, matrix, edit).planes[0].samples
