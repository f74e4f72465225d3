"""Frames of clips and pictures of scenes with their FaceMesh labels, cached as one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from mien.training.data.crops import write_arrays
from mien.training.data.facemesh import landmarks_106
from mien.training.data.labels import PictureLabels, label_pictures, overlap

SURE = 0.72  # detections that score less are often hands and patterns, seen on the scenes


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures with any number of faces each.

    names: clip or file name, frame number.
    pictures: uint8 (H, W) each, luma.
    landmarks: float32 (k, 106, 2) each, pixels of the picture.
    boxes: float32 (m, 5) each: everything a detector took for a face, score last.
    """

    names: list[tuple[str, int]]
    pictures: list[np.ndarray]
    landmarks: list[np.ndarray]
    boxes: list[np.ndarray]


def only(labelled: Labelled, rows: list[int]) -> Labelled:
    """Some of the pictures."""
    return Labelled(
        [labelled.names[i] for i in rows],
        [labelled.pictures[i] for i in rows],
        [labelled.landmarks[i] for i in rows],
        [labelled.boxes[i] for i in rows],
    )


def sure_faces(labelled: Labelled, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The faces of one picture, (k, 106, 2), and the scores of their detections, (k,).

    A face without a detection has score 0.
    """
    faces, boxes = labelled.landmarks[index], labelled.boxes[index]
    scores = np.zeros(len(faces), np.float32)
    for row, face in enumerate(faces if len(boxes) else ()):
        shares = overlap(np.concatenate([face.min(0), face.max(0)]), boxes)
        scores[row] = boxes[shares > 0.4, 4].max(initial=0.0)
    return faces, scores


def read_clip(path: Path, step: int) -> list[np.ndarray]:
    """Every `step`-th frame of a clip: uint8 (H, W, 3) RGB."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [
            f.to_ndarray(format="rgb24", threads=1) for i, f in enumerate(frames) if i % step == 0
        ]


def labelled_clips(folder: Path, cache: Path, facemesh_python: Path, *, step: int) -> Labelled:
    """Every `step`-th frame of each clip in `folder`, labelled once and kept at `cache`."""
    if cache.exists():
        return _load(cache)
    names: list[tuple[str, int]] = []
    pictures: list[np.ndarray] = []
    for path in sorted(folder.glob("*.mp4")):
        frames = read_clip(path, step)
        names += [(path.stem, i * step) for i in range(len(frames))]
        pictures += frames
    return _labelled(
        names, pictures, cache, label_pictures(pictures, facemesh_python, scenes=False)
    )


def labelled_scenes(folder: Path, cache: Path, facemesh_python: Path) -> Labelled:
    """The pictures in `folder` with all faces FaceMesh can find, kept at `cache`."""
    if cache.exists():
        return _load(cache)
    paths = sorted(folder.glob("*.jpg"))
    pictures = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    names = [(path.name, 0) for path in paths]
    return _labelled(names, pictures, cache, label_pictures(pictures, facemesh_python, scenes=True))


def _labelled(
    names: list[tuple[str, int]],
    pictures: list[np.ndarray],
    cache: Path,
    labels: list[PictureLabels],
) -> Labelled:
    made = Labelled(
        names,
        [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures],
        [landmarks_106(label.meshes) for label in labels],
        [label.boxes for label in labels],
    )
    cache.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "names": np.array(made.names),
        "pictures": _objects(made.pictures),
        "landmarks": _objects(made.landmarks),
        "boxes": _objects(made.boxes),
    }
    write_arrays(cache, **columns)
    return made


def _objects(items: list[np.ndarray]) -> np.ndarray:
    column = np.empty(len(items), object)
    column[:] = items
    return column


def _load(cache: Path) -> Labelled:
    with np.load(cache, allow_pickle=True) as made:
        names = [(str(name), int(number)) for name, number in made["names"]]
        return Labelled(names, list(made["pictures"]), list(made["landmarks"]), list(made["boxes"]))
