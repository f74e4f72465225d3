"""Lessons for the warp editor, from a mapper that is easy to see through."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.engines import Catalog
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, FER2013, write_arrays
from mien.training.warp import lessons as module
from mien.training.warp.lessons import SIZE, TAUGHT, Teacher, load_lessons, make_lessons
from tests.runtime.faces.shapes import mean_face
from tests.runtime.methods.latent.networks import write_emm, write_space

CHEEK, EYE, FAR = (38, 32), (27, 20), (3, 3)  # cells of the light, row and column


@pytest.fixture
def teacher(tmp_path: Path) -> Iterator[Teacher]:
    folder = write_emm(write_space(tmp_path / "models", batch=1))
    with Teacher(Catalog.load(folder)) as opened:
        yield opened


def skin(size: int) -> np.ndarray:
    """A face in the crop: skin of a middle brightness, dark eyes: uint8 (size, size)."""
    picture = np.full((size, size), 150, np.uint8)
    for eye in ([52, 53, 72, 54, 55, 56, 73, 57], [58, 59, 75, 60, 61, 62, 76, 63]):
        corners = np.round(mean_face()[eye] * size).astype(np.int32)
        cv2.fillPoly(picture, [cv2.convexHull(corners)], 60)
    return picture


def test_light_is_what_the_mapper_adds_to_the_skin(teacher: Teacher) -> None:
    face = mean_face().astype(np.float32)
    displacement, light = teacher(skin(teacher.size), face)
    assert displacement.shape == (len(TAUGHT), 106, 2)
    assert light.shape == (len(TAUGHT), SIZE, SIZE)
    happy, sad = light[EMOTIONS.index("happy")], light[EMOTIONS.index("sad")]
    assert happy[CHEEK] > 0.05  # the blot of happiness is bright, that of sadness dark
    assert sad[CHEEK] < -0.05
    for found in light:
        assert found[EYE] == pytest.approx(0, abs=0.02)
        assert found[FAR] == 0


def test_an_interrupted_run_goes_on_where_it_was(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, size = 6, teacher.size
    write_arrays(
        tmp_path / f"crops{size}.npz",
        pixels=np.repeat(skin(size)[None], count, 0),
        landmarks=np.repeat(mean_face()[None].astype(np.float32), count, 0),
        emotions=np.zeros(count, np.int64),
        validation=np.arange(count) == 0,
        source=np.where(np.arange(count) == 1, FER2013, FACES160),
    )
    monkeypatch.setattr(module, "EVERY", 1)
    first = make_lessons(teacher, tmp_path, tmp_path, size=size, most=2)
    assert load_lessons(tmp_path) is not None
    asked: list[int] = []

    def counted(pixels: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(1)
        return teacher(pixels, landmarks)

    whole = make_lessons(counted, tmp_path, tmp_path, size=size, most=0)
    assert len(asked) == 2
    assert sorted(whole.rows) == [2, 3, 4, 5]  # neither who is measured on, nor FER-2013
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(whole, field.name)[:2], getattr(first, field.name))
