"""The rigid points of the mean head in space, from which `runtime.faces.visibility` reads poses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mien.runtime.faces.topology import LEFT_EYE_CENTRE, MIRROR, RIGHT_EYE_CENTRE, RIGID
from mien.training.data.faces import load_faces160
from mien.training.data.shape import is_frontal

LEFT, RIGHT = RIGID.index(LEFT_EYE_CENTRE), RIGID.index(RIGHT_EYE_CENTRE)


def align_in_space(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`points` (n, 3) turned, scaled and moved onto `target` (n, 3). Source: Umeyama 1991."""
    source, goal = points - points.mean(0), target - target.mean(0)
    u, scales, vt = np.linalg.svd(goal.T @ source)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (scales * sign).sum() / (source**2).sum()
    return scale * source @ ((u * sign) @ vt).T + target.mean(0)


def upright(points: np.ndarray) -> np.ndarray:
    """Points (21, 3) in eye distances, the eyes level and the origin between them."""
    across = points[RIGHT] - points[LEFT]
    size = np.linalg.norm(across)
    x = across / size
    z = np.cross(x, [0.0, 1.0, 0.0])
    z /= np.linalg.norm(z)
    axes = np.stack([x, np.cross(z, x), z])
    return (points - (points[LEFT] + points[RIGHT]) / 2) @ axes.T / size


def pitch_of(points: np.ndarray, shape: np.ndarray) -> float:
    """How far a picture's points (21, 2) look up or down, in radians, by weak perspective."""
    fit = np.linalg.pinv(shape - shape.mean(0))
    u, _, vt = np.linalg.svd((points - points.mean(0)).T @ fit.T, full_matrices=False)
    turn = u @ vt
    return float(np.arctan2(turn[1, 2], np.hypot(turn[0, 2], np.cross(turn[0], turn[1])[2])))


def turned_by(points: np.ndarray, pitch: float) -> np.ndarray:
    """Points (21, 3) turned about the line through the eyes."""
    c, s = np.cos(pitch), np.sin(pitch)
    return points @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]).T


def head_shape(faces: np.ndarray, rounds: int = 5) -> np.ndarray:
    """The symmetric mean of frontal heads (n, 21, 3), turned so that their median pitch is 0."""
    mirror = [RIGID.index(int(MIRROR[i])) for i in RIGID]
    mean = faces[0].astype(np.float64)
    for _ in range(rounds):
        mean = np.mean([align_in_space(face, mean) for face in faces], axis=0)
        mean = upright((mean + align_in_space(mean[mirror] * [-1, 1, 1], mean)) / 2)
    pitch = float(np.median([pitch_of(face[:, :2], mean) for face in faces]))
    return turned_by(mean, pitch)


if __name__ == "__main__":
    landmarks = load_faces160(Path(sys.argv[1])).landmarks
    frontal = landmarks[is_frontal(landmarks[..., :2])][:, list(RIGID)]
    print(np.round(head_shape(frontal.astype(np.float64)), 4).tolist())
