"""Labels for clips and scenes, made by FaceMesh in an environment of its own.

mediapipe is never a dependency of mien: this same file is the worker. The recipe hands it pictures
through `label_pictures`, which starts `<facemesh-python> labels.py IN.npz OUT.npz`; so at its top
the file imports only what that environment has too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TILE = 480  # small faces are looked for in tiles of this many pixels, enlarged
TILE_STEP = 320


@dataclass(frozen=True, slots=True)
class PictureLabels:
    """What FaceMesh and its detector say of one picture.

    meshes: float32 (k, 478, 2), pixels of the picture.
    boxes: float32 (m, 5), x0, y0, x1, y1, score: everything the detector took for a face, also
        where no mesh could be fitted; nothing inside them is background.
    """

    meshes: np.ndarray
    boxes: np.ndarray


def label_pictures(
    pictures: Sequence[np.ndarray], facemesh_python: Path, *, scenes: bool
) -> list[PictureLabels]:
    """The labels of `pictures` (uint8 (H, W, 3) RGB), in order.

    scenes: look for many faces of any size instead of one large one.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **{f"{i:06d}": picture for i, picture in enumerate(pictures)})
        mode = "scenes" if scenes else "clips"
        command = [str(facemesh_python), str(Path(__file__)), str(source), str(result), mode]
        subprocess.run(command, check=True)
        with np.load(result) as made:
            return [
                PictureLabels(made[f"meshes{i}"], made[f"boxes{i}"]) for i in range(len(pictures))
            ]


def tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The whole picture and overlapping parts of it: x0, y0, x1, y1 each."""
    found = [(0, 0, width, height)]
    for tile, step in ((TILE, TILE_STEP), (TILE // 2, TILE_STEP // 2)):
        for y in range(0, max(1, height - tile + step), step):
            for x in range(0, max(1, width - tile + step), step):
                found.append((x, y, min(width, x + tile), min(height, y + tile)))  # noqa: PERF401
    return found


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over the smaller area, of one box with (n, 4) boxes."""
    size = np.minimum(box[2:4], boxes[:, 2:4]) - np.maximum(box[:2], boxes[:, :2])
    common = np.clip(size, 0, None).prod(1)
    areas = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
    return common / np.maximum(np.minimum(areas, (box[2:4] - box[:2]).prod()), 1e-6)


def merged(boxes: np.ndarray) -> np.ndarray:
    """The best of each heap of overlapping boxes (n, 5)."""
    kept: list[np.ndarray] = []
    for box in boxes[np.argsort(-boxes[:, 4])]:
        if not kept or overlap(box, np.array(kept)).max() < 0.5:
            kept.append(box)
    return np.array(kept, np.float32).reshape(-1, 5)


class _Worker:
    """FaceMesh and its detector, loaded once."""

    def __init__(self) -> None:
        import mediapipe

        solutions = mediapipe.solutions
        self.mesh = solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=True
        )
        self.detectors = [
            solutions.face_detection.FaceDetection(
                model_selection=selection, min_detection_confidence=0.4
            )
            for selection in (0, 1)
        ]

    def fit(self, picture: np.ndarray) -> np.ndarray | None:
        found = self.mesh.process(picture).multi_face_landmarks
        if not found:
            return None
        points = np.array([(p.x, p.y) for p in found[0].landmark], np.float32)
        return points * [picture.shape[1], picture.shape[0]]

    def clip(self, picture: np.ndarray) -> PictureLabels:
        mesh = self.fit(picture)
        if mesh is not None:
            return PictureLabels(mesh[None].astype(np.float32), self.detect(picture))
        found = self.scene(picture)  # a face too small for the short-range detector
        return PictureLabels(found.meshes[:1], found.boxes)

    def detect(self, picture: np.ndarray) -> np.ndarray:
        rows = []
        for detector in self.detectors:
            for found in detector.process(picture).detections or ():
                box = found.location_data.relative_bounding_box
                right, bottom = box.xmin + box.width, box.ymin + box.height
                rows.append((box.xmin, box.ymin, right, bottom, found.score[0]))
        height, width = picture.shape[:2]
        return np.array(rows, np.float32).reshape(-1, 5) * [width, height, width, height, 1]

    def scene(self, picture: np.ndarray) -> PictureLabels:
        import cv2

        height, width = picture.shape[:2]
        boxes = []
        for x0, y0, x1, y1 in tiles(width, height):
            part = np.ascontiguousarray(picture[y0:y1, x0:x1])
            scale = max(1.0, 640 / max(part.shape[:2]))
            part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            found = self.detect(part)
            boxes.append(found / [scale, scale, scale, scale, 1] + [x0, y0, x0, y0, 0])
        faces = merged(np.concatenate(boxes).reshape(-1, 5))
        meshes = [mesh for box in faces if (mesh := self.fit_in(picture, box)) is not None]
        return PictureLabels(np.array(meshes, np.float32).reshape(-1, 478, 2), faces)

    def fit_in(self, picture: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        import cv2

        side = float(max(box[2] - box[0], box[3] - box[1]))
        centre = (box[:2] + box[2:4]) / 2
        low = np.maximum(np.floor(centre - side), 0).astype(int)
        part = picture[low[1] : int(centre[1] + side), low[0] : int(centre[0] + side)]
        scale = 256 / max(part.shape[:2])
        mesh = self.fit(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))
        if mesh is None:
            return None
        mesh = mesh / scale + low
        outline = np.concatenate([mesh.min(0), mesh.max(0)])
        return mesh if overlap(outline, box[None]).max() > 0.5 else None


def _work(source: str, result: str, mode: str) -> None:
    worker = _Worker()
    made = {}
    with np.load(source) as pictures:
        for i, name in enumerate(sorted(pictures.files)):
            picture = pictures[name]
            labels = worker.scene(picture) if mode == "scenes" else worker.clip(picture)
            made[f"meshes{i}"] = labels.meshes.astype(np.float32)
            made[f"boxes{i}"] = labels.boxes.astype(np.float32)
    np.savez(result, **made)


if __name__ == "__main__":
    _work(*sys.argv[1:4])
