"""Faces made of numbers, for the tests of the measurements."""

import numpy as np

from mien.calibration.clips.series import RIGID_MEAN, RIGID_VERTICES


def straight_mesh(scale: float = 100.0) -> np.ndarray:
    """A mesh (478, 3) that looks ahead: rigid vertices of the mean face, the others made up."""
    chance = np.random.default_rng(7)
    mesh = chance.uniform(-0.5, 0.5, (478, 3))
    mesh[list(RIGID_VERTICES)] = RIGID_MEAN
    return mesh * scale


def turned(mesh: np.ndarray, *, yaw: float, roll: float, scale: float, shift: tuple) -> np.ndarray:
    """The mesh under another pose; angles in radians."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    about_y = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    cos, sin = np.cos(roll), np.sin(roll)
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return scale * mesh @ (about_z @ about_y).T + np.array(shift)


def shifted(mesh: np.ndarray, x: float, y: float) -> np.ndarray:
    """The mesh elsewhere in the picture."""
    return mesh + np.array([x, y, 0.0])
