"""Drawn faces, and engines that find them: bright discs, read from the very pixels given."""

from __future__ import annotations

import cv2
import numpy as np

from mien.engines import DETECTOR, LANDMARKS, FakeEngine
from mien.runtime.faces.alignment import ROI_POINTS_TEMPLATE, ROI_TEMPLATE
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.topology import CONTOUR, OUTER_LIPS, RIGID
from mien.runtime.faces.tracking import SearchEffort, Tracker, TrackerSettings
from mien.runtime.frame import Frame, PixelLayout, Plane

DISC_CENTRE = (0.5, 0.52)  # of a drawn face, in units of the landmark crop
DISC_RADIUS = 0.36
BRIGHT, DIM = 200, 120  # a plain face, and one the landmark network does not trust
EYE_DISTANCE_PER_RADIUS = 0.28 / DISC_RADIUS


def face_shape() -> np.ndarray:
    """The 106 landmarks of the drawn face in units of the landmark crop: float32 (106, 2)."""
    shape = np.tile(np.array(DISC_CENTRE, np.float32), (106, 1))
    angle = np.linspace(np.pi, 0, len(CONTOUR))
    shape[list(CONTOUR)] += 0.9 * DISC_RADIUS * np.stack([np.cos(angle), np.sin(angle)], -1)
    turn = np.linspace(0, 2 * np.pi, len(OUTER_LIPS), endpoint=False)
    shape[list(OUTER_LIPS)] = (0.5, 0.70) + 0.08 * np.stack([-np.cos(turn), -np.sin(turn)], -1)
    shape[33:43] = np.stack([np.linspace(0.3, 0.7, 10), np.full(10, 0.3)], -1)
    shape[list(RIGID)] = ROI_TEMPLATE
    return shape.astype(np.float32)


def draw(*faces: tuple[float, float, float], size_wh: tuple[int, int] = (320, 180)) -> np.ndarray:
    """Luma with discs (x, y, radius), or (x, y, radius, brightness): uint8 (H, W)."""
    y, x = np.mgrid[0 : size_wh[1], 0 : size_wh[0]]
    luma = (48 + 30 * np.sin(x / 17.0) + 15 * np.cos(y / 13.0)).astype(np.uint8)
    for centre_x, centre_y, radius, *level in faces:
        inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 <= radius**2
        luma[inside] = level[0] if level else BRIGHT
    return luma


def grey_frame(luma: np.ndarray, rotation: int = 0) -> Frame:
    height, width = luma.shape
    layout = PixelLayout("gray", full_range=True)
    return Frame((Plane(luma, (1, 1)),), layout, width, height, rotation=rotation)


def discs(image: np.ndarray, above: float) -> list[tuple[float, float, float]]:
    """Bright discs (x, y, radius) of a float image in [0, 1]."""
    count, _, stats, centres = cv2.connectedComponentsWithStats((image > above).astype(np.uint8))
    found = []
    for i in range(1, count):
        if stats[i, cv2.CC_STAT_AREA] >= 12:
            radius = float(np.sqrt(stats[i, cv2.CC_STAT_AREA] / np.pi))
            found.append((float(centres[i][0]), float(centres[i][1]), radius))
    return found


def find_faces(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    scores = np.zeros((1, 2100), np.float32)
    boxes = np.zeros((1, 2100, 4), np.float32)
    points = np.zeros((1, 2100, 3, 2), np.float32)
    for i, (x, y, radius) in enumerate(discs(feeds["image"][0, 0], 0.39)):
        scores[0, i] = 0.9
        boxes[0, i] = (x - radius, y - radius, x + radius, y + radius)
        places = (ROI_POINTS_TEMPLATE - np.array(DISC_CENTRE)) / DISC_RADIUS
        points[0, i] = np.array([x, y]) + places * radius
    return {"scores": scores, "boxes": boxes, "points": points}


def find_landmarks(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    image = feeds["face"][0, 0]
    found = discs(image, 0.39)
    landmarks = np.full((1, 106, 2), 0.5, np.float32) + 0.1 * face_shape()
    score = 0.0
    if found:
        x, y, radius = min(found, key=lambda d: (d[0] - 56) ** 2 + (d[1] - 58) ** 2)
        way = (face_shape() - np.array(DISC_CENTRE)) / DISC_RADIUS
        landmarks[0] = (np.array([x, y]) + 0.5 + way * radius) / 112
        plain = image[int(np.clip(y, 0, 111)), int(np.clip(x, 0, 111))] > 0.6
        score = 0.95 if plain else 0.2
    return {"landmarks": landmarks.astype(np.float32), "score": np.array([[score]], np.float32)}


class Counted:
    """A function that counts its calls."""

    def __init__(self, function) -> None:  # type: ignore[no-untyped-def]
        self.function, self.calls = function, 0

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls += 1
        return self.function(feeds)


ONE_LOOK = SearchEffort(scene_looks=0, looks=0, max_faces=8)


class World:
    """A tracker on fake engines, with the number of their runs: one look a search by default."""

    def __init__(
        self,
        settings: TrackerSettings | None = None,
        effort: SearchEffort = ONE_LOOK,
    ) -> None:
        self.detect, self.landmark = Counted(find_faces), Counted(find_landmarks)
        self.tracker = Tracker(
            FaceDetector(FakeEngine(DETECTOR, self.detect)),
            LandmarkDetector(FakeEngine(LANDMARKS, self.landmark)),
            settings,
        )
        self.tracker.effort = effort

    def show(self, time_s: float, *faces: tuple[float, ...]):  # type: ignore[no-untyped-def]
        return self.tracker(grey_frame(draw(*faces)), time_s)
