"""Training samples of the landmark network: crops of labelled faces, shaken, re-lit and covered."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mien.runtime.faces.alignment import ROI_SIZE, roi_matrix, sample_crop, transform_points
from mien.runtime.faces.topology import LEFT_EYE_OUTER, MIRROR, RIGHT_EYE_OUTER
from mien.training.data import augment

SIDE = ROI_SIZE
PAIRS = 0.25  # share of a batch that shows a picture of the batch once more, a little elsewhere
HIDDEN_LIMIT = 0.35  # a face covered more than this has score 0
YAW_LIMIT = 55.0  # degrees; a face turned further has score 0
YAW_SURE = 45.0  # turned less has score 1; between the two the score is left free


@dataclass(frozen=True, slots=True)
class Pool:
    """Faces of one source.

    pictures: uint8 (H, W) each. landmarks: float32 (n, 106, 2), pixels. yaw: float32 (n,), degrees.
    share: of the face samples. weight: of their landmark loss.
    """

    pictures: list[np.ndarray]
    landmarks: np.ndarray
    yaw: np.ndarray
    share: float
    weight: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples and what the network should say of them.

    faces: uint8 (n, 112, 112). landmarks: float32 (n, 106, 2), crop units. score: float32 (n,).
    landmark_weight, score_weight: float32 (n,), of the losses.
    pair: int64 (k, 2), rows that show one picture. moved: float32 (k, 2, 3), the second's crop
    units from the first's.
    """

    faces: np.ndarray
    landmarks: np.ndarray
    landmark_weight: np.ndarray
    score: np.ndarray
    score_weight: np.ndarray
    pair: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True, slots=True)
class _View:
    face: np.ndarray
    landmarks: np.ndarray
    landmark_weight: float
    score: float
    score_weight: float
    unit_from_picture: np.ndarray


class YawEstimate:
    """Yaw from 2D landmarks, fitted to faces whose depth is known (linear in aligned points)."""

    def __init__(self, landmarks: np.ndarray) -> None:
        """landmarks: float32 (n, 106, 3), pixels, depth last."""
        across = landmarks[:, RIGHT_EYE_OUTER] - landmarks[:, LEFT_EYE_OUTER]
        yaw = np.degrees(np.arctan2(across[:, 2], np.hypot(across[:, 0], across[:, 1])))
        features = self._features(landmarks[:, :, :2])
        ridge = 1e-3 * len(features) * np.eye(features.shape[1])
        self.weights = np.linalg.solve(features.T @ features + ridge, features.T @ yaw)
        self.error = float(np.abs(features @ self.weights - yaw).mean())

    def __call__(self, landmarks: np.ndarray) -> np.ndarray:
        """Degrees of faces (n, 106, 2), positive towards the viewer's right: float32 (n,)."""
        if not len(landmarks):
            return np.zeros(0, np.float32)
        return (self._features(landmarks) @ self.weights).astype(np.float32)

    @staticmethod
    def _features(landmarks: np.ndarray) -> np.ndarray:
        aligned = np.stack([transform_points(roi_matrix(p, 1), p) for p in landmarks])
        x = aligned[:, :, 0]
        return np.hstack([x - x[:, MIRROR], x + x[:, MIRROR] + 1.0])


class Sampler:
    """Makes batches out of pools of faces and pictures without any."""

    def __init__(self, pools: list[Pool], backgrounds: list[np.ndarray], seed: int) -> None:
        """backgrounds: uint8 squares, at least 112 pixels wide."""
        self.pools = pools
        self.backgrounds = backgrounds
        self.rng = np.random.default_rng(seed)
        shares = np.array([pool.share for pool in pools])
        self.shares = shares / shares.sum()

    def batch(self, size: int) -> Batch:
        """`size` samples: faces, what is none, and second looks at some of the faces."""
        second = int(size * PAIRS)
        views: list[_View] = []
        pairs: list[tuple[int, int]] = []
        looks = []
        while len(views) < size - second:
            if self.rng.random() < 0.10:
                views.append(self._nothing())
                continue
            look = self._pick()
            looks.append((len(views), look))
            views.append(self._view(*look, self._shake()))
        moved = []
        for first, look in looks[:second]:
            again = self._again(look)
            pairs.append((first, len(views)))
            moved.append(_then(again.unit_from_picture, views[first].unit_from_picture))
            views.append(again)
        return Batch(
            np.stack([view.face for view in views]),
            np.stack([view.landmarks for view in views]).astype(np.float32),
            np.array([view.landmark_weight for view in views], np.float32),
            np.array([view.score for view in views], np.float32),
            np.array([view.score_weight for view in views], np.float32),
            np.array(pairs, np.int64).reshape(-1, 2),
            np.array(moved, np.float32).reshape(-1, 2, 3),
        )

    def _pick(self) -> tuple[Pool, int, bool]:
        pool = self.pools[int(self.rng.choice(len(self.pools), p=self.shares))]
        return pool, int(self.rng.integers(len(pool.pictures))), bool(self.rng.random() < 0.5)

    def _shake(self) -> tuple[float, float, float, float]:
        """Shift x, y in crop units, scale, rotation in degrees.

        Small as when following a face, middling as after a detection, large to learn to lock on.
        """
        rng, kind = self.rng, self.rng.random()
        if kind < 0.5:
            shift, scale, turn = rng.normal(0, 0.02, 2), rng.normal(0, 0.05), rng.normal(0, 4)
        elif kind < 0.9:
            shift, scale, turn = (
                rng.uniform(-0.09, 0.09, 2), rng.uniform(-0.22, 0.22), rng.uniform(-20, 20)
            )  # fmt: skip
        else:
            shift, scale, turn = (
                rng.uniform(-0.14, 0.14, 2), rng.uniform(-0.35, 0.3), rng.uniform(-45, 45)
            )  # fmt: skip
        return float(shift[0]), float(shift[1]), float(np.exp(scale)), float(turn)

    def _view(
        self, pool: Pool, index: int, flip: bool, shake: tuple[float, float, float, float]
    ) -> _View:
        rng = self.rng
        picture, points = pool.pictures[index], pool.landmarks[index]
        if flip:
            picture = np.ascontiguousarray(picture[:, ::-1])
            points = (points * [-1, 1] + [picture.shape[1] - 1, 0])[MIRROR].astype(np.float32)
        lost = rng.random() < 0.06
        matrix = shaken(roi_matrix(points, SIDE), self._lose() if lost else shake)
        face = self._seen(picture, matrix)
        target = (transform_points(matrix, points) + 0.5) / SIDE
        hidden = 0.0
        if rng.random() < 0.22:
            face, hidden = self._covered(face, target)
        face = augment.degrade(augment.relight(face, rng), rng)
        yaw = abs(float(pool.yaw[index]))
        bad = lost or hidden > HIDDEN_LIMIT or yaw > YAW_LIMIT
        sure = bad or (hidden < 0.22 and yaw < YAW_SURE and 0.7 < shake[2] < 1.4)
        unit = matrix / SIDE + np.array([[0, 0, 0.5 / SIDE]] * 2, np.float32)
        usable = not lost and hidden < 0.5
        return _View(face, target, pool.weight * usable, float(not bad), float(sure), unit)

    def _again(self, look: tuple[Pool, int, bool]) -> _View:
        """The same picture through nearly the same crop, with other noise and light."""
        rng = self.rng
        shift, scale, turn = rng.normal(0, 0.012, 2), rng.normal(0, 0.02), rng.normal(0, 1.5)
        return self._view(*look, (float(shift[0]), float(shift[1]), np.exp(scale), float(turn)))

    def _lose(self) -> tuple[float, float, float, float]:
        """A crop that has lost its face: far off, far too large or small, or on its side."""
        rng, kind = self.rng, self.rng.integers(3)
        if kind == 0:
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.42, 1.0)
            return float(np.cos(angle) * far), float(np.sin(angle) * far), 1.0, rng.normal(0, 10)
        if kind == 1:
            scale = rng.uniform(0.25, 0.42) if rng.random() < 0.5 else rng.uniform(2.3, 4)
            return rng.normal(0, 0.05), rng.normal(0, 0.05), float(scale), rng.normal(0, 10)
        return rng.normal(0, 0.05), rng.normal(0, 0.05), 1.0, float(rng.uniform(80, 280))

    def _seen(self, picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        face = sample_crop(picture, matrix, SIDE)
        if self.rng.random() < 0.35:
            return face
        inside = cv2.warpAffine(np.full(picture.shape, 255, np.uint8), matrix, (SIDE, SIDE))
        return np.where(inside > 127, face, self._background())

    def _background(self) -> np.ndarray:
        picture = self.backgrounds[int(self.rng.integers(len(self.backgrounds)))]
        room = picture.shape[0] - SIDE
        x, y = self.rng.integers(0, room + 1, 2)
        part = picture[y : y + SIDE, x : x + SIDE]
        return part[:, ::-1] if self.rng.random() < 0.5 else part

    def _covered(self, face: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
        """The face with something in front, and the share of the face that it hides."""
        reach = float(self.rng.choice([self.rng.uniform(0.1, 0.35), self.rng.uniform(0.4, 0.9)]))
        face, mask = augment.cover(face, self._background(), self.rng, reach)
        hull = np.zeros(mask.shape, np.uint8)
        outline = cv2.convexHull((target * SIDE).astype(np.int32))
        cv2.fillConvexPoly(hull, outline, 1)
        area = int(hull.sum())
        return face, float((mask & (hull > 0)).sum()) / max(1, area)

    def _nothing(self) -> _View:
        face = augment.degrade(augment.relight(self._background(), self.rng), self.rng)
        landmarks = np.zeros((106, 2), np.float32)
        return _View(face, landmarks, 0.0, 0.0, 1.0, np.eye(2, 3, dtype=np.float32))


def shaken(
    matrix: np.ndarray, shake: tuple[float, float, float, float], side: int = SIDE
) -> np.ndarray:
    """`matrix` followed by a shift, a scale and a turn about the middle of a crop of `side`."""
    x, y, scale, turn = shake
    middle = (side - 1) / 2
    about = np.eye(3)
    about[:2] = cv2.getRotationMatrix2D((middle, middle), turn, scale)
    about[:2, 2] += [x * side, y * side]
    whole = np.vstack([matrix, [0, 0, 1]])
    return (about @ whole)[:2].astype(np.float32)


def _then(second_from_picture: np.ndarray, first_from_picture: np.ndarray) -> np.ndarray:
    first = np.vstack([first_from_picture, [0, 0, 1]])
    second = np.vstack([second_from_picture, [0, 0, 1]])
    return (second @ np.linalg.inv(first))[:2].astype(np.float32)
