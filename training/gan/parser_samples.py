"""Samples of the face parser's training: wide crops and their masks, shaken, re-lit, covered.

The masks come from FaceMesh's 478 points. A mesh knows the brows, eyes, nose, lips and the face's
outline below the brow line; it does not know hair, ears or neck. So everything outside the outline
is background, the forehead above the outline is left out of the loss (it may be skin or hair), and
so is a thin seam along the outline, where the mesh is a little off more often than not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mien.engines.networks import IMAGENET_MEAN, IMAGENET_STD, PARSER_SIZE, SHIPPED_CLASSES
from mien.runtime.faces.alignment import roi_matrix, sample_crop, transform_points
from mien.training.data import augment
from mien.training.data.augment import texture
from mien.training.data.clips import read_clip
from mien.training.data.facemesh import landmarks_106
from mien.training.data.faces import (
    faces160_meshes,
    fer2013_meshes,
    load_colour160,
    load_faces160,
    load_fer2013,
)
from mien.training.data.labels import label_pictures
from mien.training.faces.landmark_samples import YawEstimate, shaken

CLASSES = SHIPPED_CLASSES  # words as in CelebAMask-HQ; left is the viewer's
MIRRORED_CLASS = np.array([0, 1, 3, 2, 5, 4, 6, 7, 8, 9, *range(10, 256)], np.uint8)
UNSURE = 255  # a pixel that the loss and the scores leave out

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
FOREHEAD = (127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356)
_UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
_LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
POLYGONS: dict[str, tuple[int, ...]] = {
    "nose": (
        168, 122, 174, 198, 209, 129, 64, 98, 97, 2,
        326, 327, 294, 358, 429, 420, 399, 351,
    ),
    "l_brow": (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    "r_brow": (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    "l_eye": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    "r_eye": (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    "mouth": _UPPER_LIP_INNER + _LOWER_LIP_INNER[::-1],
    "u_lip": _UPPER_LIP_OUTER + _UPPER_LIP_INNER[::-1],
    "l_lip": _LOWER_LIP_OUTER + _LOWER_LIP_INNER[::-1],
}  # fmt: skip
FOREHEAD_HEIGHT = 0.35  # of the face's height: how far above the outline pixels are left out
SEAM = 0.012  # half width of the left-out seam along the outline, by the side of the crop

_SHIFT = 4  # of OpenCV's fixed-point coordinates


def class_mask(mesh: np.ndarray, size: int) -> np.ndarray:
    """The class of each pixel of a crop, or UNSURE: uint8 (size, size), index into CLASSES.

    mesh: float32 (478, 2), pixels of the crop (pixel centres at integers).
    """
    mask = np.zeros((size, size), np.uint8)
    _fill(mask, _above_the_forehead(mesh), UNSURE)
    _fill(mask, mesh[list(OVAL)], CLASSES.index("skin"))
    seam = max(1, round(2 * SEAM * size))
    cv2.polylines(mask, [_fixed(mesh[list(OVAL)])], True, UNSURE, seam, cv2.LINE_8, _SHIFT)
    for name, polygon in POLYGONS.items():
        _fill(mask, mesh[list(polygon)], CLASSES.index(name))
    return mask


def _above_the_forehead(mesh: np.ndarray) -> np.ndarray:
    """The area between the upper outline and the same line moved up along the face: (n, 2)."""
    line = mesh[list(FOREHEAD)]
    up = (mesh[10] - mesh[152]) * FOREHEAD_HEIGHT
    return np.concatenate([line, (line + up)[::-1]])


def _fill(mask: np.ndarray, polygon: np.ndarray, value: int) -> None:
    cv2.fillPoly(mask, [_fixed(polygon)], value, cv2.LINE_8, _SHIFT)


def _fixed(polygon: np.ndarray) -> np.ndarray:
    return np.round(polygon * (1 << _SHIFT)).astype(np.int32)


SIZE = PARSER_SIZE
ROOM = 32  # pixels around a clip's stored crop, so that it can be shaken
YAW_LIMIT = 50.0  # degrees; beyond, the outline of a mesh is no longer that of the face
COVERED = 0.2  # share of the samples with something in front of the face
TINTED = 0.25  # share of the grey pictures that are shown in some colour


@dataclass(frozen=True, slots=True)
class Pool:
    """Faces of one source.

    pictures: uint8 (H, W) or RGB (H, W, 3) each. meshes: float32 (n, 478, 2), pixels.
    share: of the samples. weight: of their loss.
    """

    pictures: list[np.ndarray]
    meshes: np.ndarray
    share: float
    weight: float


@dataclass(frozen=True, slots=True)
class Batch:
    """images: float32 (n, 3, s, s), normalised. masks: uint8 (n, s, s). weights: float32 (n,)."""

    images: np.ndarray
    masks: np.ndarray
    weights: np.ndarray


def load_press(data: Path, *, validation: bool) -> Pool:
    """faces160: the training people, or the people that no training may see."""
    faces = load_faces160(data)
    meshes = faces160_meshes(data)
    yaw = YawEstimate(faces.landmarks)(faces.landmarks[:, :, :2])
    rows = np.flatnonzero((faces.validation == validation) & (np.abs(yaw) < YAW_LIMIT))
    colour = load_colour160(data)
    pictures = [colour.get(int(i), faces.pictures[i]) for i in rows]
    return Pool(pictures, meshes[rows], 0.6, 1.0)


def load_small(data: Path) -> Pool:
    """FER-2013's training split: coarse, but with many expressions."""
    faces = load_fer2013(data)
    yaw = YawEstimate(load_faces160(data).landmarks)(faces.landmarks)
    rows = np.flatnonzero(~faces.validation & (np.abs(yaw) < YAW_LIMIT))
    return Pool([faces.pictures[i] for i in rows], fer2013_meshes(data)[rows], 0.08, 0.3)


def load_clips(folder: Path, cache: Path, facemesh_python: Path, *, step: int) -> Pool:
    """The largest face of every `step`-th frame of the clips in `folder`, in colour."""
    if not cache.exists():
        frames = [f for path in sorted(folder.glob("*.mp4")) for f in read_clip(path, step)]
        crops, meshes = [], []
        labels = label_pictures(frames, facemesh_python, scenes=False)
        for frame, label in zip(frames, labels, strict=True):
            if len(label.meshes):
                matrix = roi_matrix(landmarks_106(label.meshes[0]), SIZE)
                matrix[:, 2] += ROOM
                crops.append(sample_crop(frame, matrix, SIZE + 2 * ROOM))
                meshes.append(transform_points(matrix, label.meshes[0]))
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, pictures=np.stack(crops), meshes=np.stack(meshes))
    with np.load(cache) as stored:
        return Pool(list(stored["pictures"]), stored["meshes"], 0.32, 1.0)


def normalised(image: np.ndarray) -> np.ndarray:
    """What the parser takes of uint8 RGB (H, W, 3): float32 (3, H, W)."""
    mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
    scaled = (image.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


class Sampler:
    """Makes batches out of pools of faces."""

    def __init__(self, pools: list[Pool], seed: int) -> None:
        self.pools = pools
        self.rng = np.random.default_rng(seed)
        shares = np.array([pool.share for pool in pools])
        self.shares = shares / shares.sum()
        self.textures = [texture(self.rng, SIZE) for _ in range(160)]

    def batch(self, size: int, window: int = SIZE) -> Batch:
        """`size` samples, whole or cut down to a square `window` about the parts of the face."""
        images, masks, weights = [], [], []
        for _ in range(size):
            pool = self.pools[int(self.rng.choice(len(self.pools), p=self.shares))]
            index = int(self.rng.integers(len(pool.pictures)))
            image, mask = self.sample(pool.pictures[index], pool.meshes[index])
            x, y = self.rng.integers(0, SIZE - window + 1, 2)
            images.append(normalised(image[y : y + window, x : x + window]))
            masks.append(mask[y : y + window, x : x + window])
            weights.append(pool.weight)
        return Batch(np.stack(images), np.stack(masks), np.array(weights, np.float32))

    def sample(self, picture: np.ndarray, mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One varied crop, uint8 RGB (256, 256, 3), and its mask, uint8 (256, 256)."""
        rng = self.rng
        matrix = shaken(roi_matrix(landmarks_106(mesh), SIZE), self._shake(), SIZE)
        mask = class_mask(transform_points(matrix, mesh), SIZE)
        crop = sample_crop(picture, matrix, SIZE)
        luma, chroma = _split(crop)
        if rng.random() < 0.5:
            inside = cv2.warpAffine(np.full(picture.shape[:2], 255, np.uint8), matrix, (SIZE, SIZE))
            beyond = inside < 128
            luma, chroma = self._set_into_surface(luma, chroma, beyond)
            mask = np.where(beyond, np.uint8(0), mask)
        before = luma.mean()
        luma = augment.relight(luma, rng)
        if chroma is not None:
            chroma = chroma * min(1.3, (luma.mean() + 1) / (before + 1))
        if rng.random() < COVERED:
            reach = float(rng.uniform(0.08, 0.45))
            luma, hidden = augment.cover(luma, self._thing(), rng, reach)
            mask = np.where(hidden, np.uint8(0), mask)
            if chroma is not None:
                chroma = np.where(hidden[:, :, None], rng.normal(0, 25, 3), chroma)
        luma = augment.degrade(np.asarray(luma, np.float32), rng)
        image = self._coloured(luma, chroma)
        if rng.random() < 0.5:
            image, mask = image[:, ::-1], MIRRORED_CLASS[mask[:, ::-1]]
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    def _shake(self) -> tuple[float, float, float, float]:
        """Shift x, y in crop units, scale, degrees: mostly as tracking shakes a crop."""
        rng = self.rng
        if rng.random() < 0.75:
            shift, scale, turn = rng.normal(0, 0.02, 2), rng.normal(0, 0.05), rng.normal(0, 4)
        else:
            shift, scale = rng.uniform(-0.07, 0.07, 2), rng.uniform(-0.17, 0.17)
            turn = rng.uniform(-16, 16)
        return float(shift[0]), float(shift[1]), float(np.exp(scale)), float(turn)

    def _set_into_surface(
        self, luma: np.ndarray, chroma: np.ndarray | None, beyond: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The crop with a made-up surface instead of the picture's repeated border."""
        luma = np.where(beyond, self._texture(), luma)
        if chroma is not None:
            chroma = np.where(beyond[:, :, None], self.rng.normal(0, 12, 3), chroma)
        return luma, chroma

    def _texture(self) -> np.ndarray:
        return self.textures[int(self.rng.integers(len(self.textures)))]

    def _thing(self) -> np.ndarray:
        """What a thing in front is made of: a surface, or skin as of a hand: uint8 (256, 256)."""
        if self.rng.random() < 0.5:
            return self._texture()
        pool = self.pools[int(self.rng.integers(len(self.pools)))]
        index = int(self.rng.integers(len(pool.pictures)))
        cheek = pool.meshes[index][[50, 280][int(self.rng.integers(2))]].astype(int)
        picture = pool.pictures[index]
        x, y = np.clip(cheek, 8, np.array(picture.shape[1::-1]) - 9)
        patch = picture[y - 8 : y + 9, x - 8 : x + 9]
        patch = patch if patch.ndim == 2 else cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
        return cv2.resize(patch, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)

    def _coloured(self, luma: np.ndarray, chroma: np.ndarray | None) -> np.ndarray:
        """RGB of `luma`, in the picture's own colours, in grey, or tinted."""
        rng = self.rng
        image = luma.astype(np.float32)[:, :, None]
        if chroma is not None and rng.random() < 0.6:
            light = rng.normal(1, 0.06, 3) if rng.random() < 0.5 else np.ones(3)
            image = (image + chroma * rng.uniform(0.5, 1.3)) * light
        elif chroma is None and rng.random() < TINTED:
            image = image * rng.normal([1.08, 1.0, 0.9], 0.08)
        return np.clip(np.broadcast_to(image, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def _split(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Luma uint8 (H, W), and what each channel is above it, float32 (H, W, 3), for colour."""
    if crop.ndim == 2:
        return crop, None
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return luma, crop.astype(np.float32) - luma[:, :, None]
