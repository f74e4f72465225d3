"""How far the landmark network's points lie from FaceMesh's, on people it was not trained on.

`python -m mien.training.faces.evaluate_landmarks --data DIR [--clips DIR --facemesh-python P] --out
landmarks.json` writes the mean distance over the 106 points, by the distance of the outer corners
of the eyes: over the validation people of faces160, and over every tenth frame of each clip.

The network is led to a face as at run time: its first look is through a region that is a little
off, the second through the one that its own first answer gives.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mien.engines.catalog import Catalog
from mien.engines.networks import LANDMARKS
from mien.runtime.faces.alignment import roi_matrix
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.topology import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import LumaSource
from mien.training.data.clips import read_clip
from mien.training.data.facemesh import landmarks_106
from mien.training.data.faces import load_faces160
from mien.training.data.labels import label_pictures

FRAME_STEP = 10
SHIFT, TURN, GROWTH = 0.05, 0.12, 0.1  # eye distances, radians and share: how far off the region is


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of (106, 2) points by the outer-eye distance of `truth`."""
    eyes = np.linalg.norm(truth[RIGHT_EYE_OUTER] - truth[LEFT_EYE_OUTER])
    return float(np.linalg.norm(found - truth, axis=1).mean() / eyes)


def disturbed(points: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """The points (106, 2) a little shifted, turned and grown, as a detection would be."""
    centre = points.mean(0)
    eyes = np.linalg.norm(points[RIGHT_EYE_OUTER] - points[LEFT_EYE_OUTER])
    angle = chance.normal(0, TURN)
    scale = np.exp(chance.normal(0, GROWTH))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (points - centre) @ turn.T + centre + chance.normal(0, SHIFT, 2) * eyes
    return moved.astype(np.float32)


def errors(
    pictures: Sequence[LumaSource], truths: np.ndarray, detector: LandmarkDetector
) -> np.ndarray:
    """The error in each picture with true points (n, 106, 2): float64 (n,)."""
    chance = np.random.default_rng(11)
    result = []
    for picture, truth in zip(pictures, truths, strict=True):
        first = detector(picture, roi_matrix(disturbed(truth, chance)))
        second = detector(picture, roi_matrix(first.points))
        result.append(error(second.points, truth))
    return np.array(result)


def clip_error(
    pictures: Sequence[np.ndarray], facemesh_python: Path, detector: LandmarkDetector
) -> float:
    """The mean error over the pictures (RGB) in which FaceMesh finds a face, against FaceMesh."""
    labels = label_pictures(pictures, facemesh_python, scenes=False)
    seen = [i for i, label in enumerate(labels) if len(label.meshes)]
    truths = landmarks_106(np.stack([labels[i].meshes[0] for i in seen]))
    return float(errors([rgb_frame(pictures[i]) for i in seen], truths, detector).mean())


def rgb_frame(picture: np.ndarray) -> Frame:
    """A picture uint8 (H, W, 3) RGB as a frame."""
    layout = PixelLayout("rgb", full_range=True)
    return Frame((Plane(picture, (1, 1)),), layout, picture.shape[1], picture.shape[0])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the landmark network; see the module."""
    parser = argparse.ArgumentParser(
        prog="mien.training.faces.evaluate_landmarks", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=Path, help="a folder of clips")
    parser.add_argument("--facemesh-python", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    detector = LandmarkDetector(Catalog.bundled().open(LANDMARKS))
    faces = load_faces160(options.data)
    held_out = np.flatnonzero(faces.validation)
    stills = [faces.pictures[i] for i in held_out]
    found = errors(stills, faces.landmarks[held_out, :, :2], detector)
    told = {f"faces160, {len(held_out)} pictures of held-out people": float(found.mean())}
    for path in sorted(options.clips.glob("*.mp4")) if options.clips else ():
        pictures = read_clip(path, FRAME_STEP)
        told[path.stem] = clip_error(pictures, options.facemesh_python, detector)
    options.out.write_text(json.dumps({"mean_error": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
