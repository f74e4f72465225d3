"""Picture changes shared by the recipes: light, sharpness, noise, compression, and coverings.

What lies behind and in front of faces in training: textures, and pictures without a face.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mien.training.data.clips import Labelled


def relight(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure, contrast and light from the side: float32 of the same shape, 0..255."""
    x = picture.astype(np.float32) / 255
    if rng.random() < 0.5:
        x = x ** np.float32(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.5:
        mean = float(x.mean())
        x = (x - mean) * np.float32(rng.uniform(0.45, 1.5)) + mean + rng.normal(0, 0.08)
    if rng.random() < 0.25:
        height, width = picture.shape
        across, down = rng.normal(0, 0.4, 2)
        side = np.linspace(-across, across, width, dtype=np.float32)[None]
        side = side + np.linspace(-down, down, height, dtype=np.float32)[:, None]
        x = x * (1 + np.clip(side, -0.8, 0.8))
    if rng.random() < 0.12:
        x = x * np.float32(rng.uniform(0.12, 0.5))
    return np.clip(x, 0, 1) * 255


def degrade(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lost sharpness, noise and compression: uint8 of the same shape; picture float32 0..255."""
    size = picture.shape[1], picture.shape[0]
    if rng.random() < 0.3:
        factor = float(rng.uniform(0.16, 0.8))
        small = max(8, int(size[0] * factor)), max(8, int(size[1] * factor))
        picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, size, interpolation=int(rng.choice([1, 2])))
    if rng.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.6)))
    elif rng.random() < 0.1:
        length = int(rng.integers(2, 8))
        kernel = np.zeros((9, 9), np.float32)
        angle = rng.uniform(0, np.pi)
        end = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        low, high = (4 - end).round().astype(int), (4 + end).round().astype(int)
        cv2.line(kernel, tuple(low.tolist()), tuple(high.tolist()), 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    if rng.random() < 0.4:
        noise = rng.normal(0, 1, picture.shape).astype(np.float32)
        picture = picture + noise * np.float32(abs(rng.normal(0, 7)))
    result = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        quality = int(rng.integers(15, 75))
        _, data = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return result


def cover(
    picture: np.ndarray, surface: np.ndarray, rng: np.random.Generator, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """`picture` with something in front of it, and where (bool (H, W)).

    surface: uint8, at least as large, what the thing is made of. reach: its size by the picture's.
    """
    height, width = picture.shape
    mask = np.zeros((height, width), np.uint8)
    kind = rng.integers(4)
    centre = rng.uniform(0.1, 0.9, 2) * [width, height]
    if kind == 0:  # a box
        half = rng.uniform(0.5, 1.2, 2) * reach * width / 2
        corners = cv2.boxPoints((centre.tolist(), (half * 2).tolist(), float(rng.uniform(0, 90))))
        cv2.fillConvexPoly(mask, corners.astype(np.int32), 255)
    elif kind == 1:  # a round thing
        axes = (rng.uniform(0.5, 1.2, 2) * reach * width / 2).astype(int) + 1
        place = tuple(centre.astype(int).tolist())
        cv2.ellipse(mask, place, tuple(axes.tolist()), float(rng.uniform(0, 180)), 0, 360, 255, -1)
    elif kind == 2:  # a half of the picture
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:height, :width]
        away = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)
        mask[away > 0.5 - reach] = 255
    else:  # fingers
        for _ in range(int(rng.integers(1, 5))):
            ends = (rng.uniform(0, 1, (2, 2)) * [width, height]).astype(int)
            thickness = int(max(2, reach * width * rng.uniform(0.15, 0.4)))
            cv2.line(mask, tuple(ends[0].tolist()), tuple(ends[1].tolist()), 255, thickness)
    soft = cv2.GaussianBlur(mask, (0, 0), 1.0).astype(np.float32)[:, :, None] / 255
    part = surface[:height, :width]
    mixed = picture * (1 - soft[:, :, 0]) + part * soft[:, :, 0]
    return mixed.astype(np.uint8), mask > 127


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A made-up surface: uint8 (size, size). Clouds, gradients, stripes, blocks, blobs."""
    low, high = np.sort(rng.uniform(0, 255, 2))
    kind = rng.integers(6)
    if kind == 0:
        field = np.full((size, size), rng.random(), np.float32)
    elif kind == 1:
        field = _clouds(rng, size)
    elif kind == 2:
        angle, wave = rng.uniform(0, np.pi), rng.uniform(0.02, 0.6)
        y, x = np.mgrid[:size, :size].astype(np.float32)
        field = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle)) * wave)
        field = np.round(field) if rng.random() < 0.4 else field
    elif kind == 3:
        field = _resized(rng.random((rng.integers(2, 12), rng.integers(2, 12))), size, nearest=True)
    elif kind == 4:
        field = _blobs(rng, size)
    else:
        field = _resized(rng.random((2, 2)), size)
    picture = low + (high - low) * field + rng.normal(0, rng.uniform(0, 8), field.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _resized(field: np.ndarray, size: int, *, nearest: bool = False) -> np.ndarray:
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
    return cv2.resize(field.astype(np.float32), (size, size), interpolation=how)


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    field = np.zeros((size, size), np.float32)
    fade = rng.uniform(0.4, 0.9)
    for octave in range(1, 7):
        cells = 2**octave
        if cells > size:
            break
        field += fade**octave * _resized(rng.normal(size=(cells, cells)), size)
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-6)


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    field = np.full((size, size), rng.random(), np.float32)
    for _ in range(rng.integers(2, 14)):
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        axes = tuple(int(v) for v in rng.integers(max(2, size // 40), max(3, size // 3), 2))
        cv2.ellipse(field, centre, axes, float(rng.uniform(0, 180)), 0, 360, rng.random(), -1)
    return cv2.GaussianBlur(field, (0, 0), float(rng.uniform(0.5, 4)))


def face_free_crops(
    labelled: Labelled, rng: np.random.Generator, count: int, size: int
) -> list[np.ndarray]:
    """Up to `count` squares of the pictures that touch no detected face: uint8 (size, size)."""
    found: list[np.ndarray] = []
    for _ in range(count * 6):
        if len(found) == count or not labelled.pictures:
            break
        index = int(rng.integers(len(labelled.pictures)))
        picture = labelled.pictures[index]
        height, width = picture.shape
        side = int(rng.uniform(0.12, 0.7) * min(height, width))
        x0, y0 = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        if _touches((x0, y0, x0 + side, y0 + side), face_boxes(labelled, index)):
            continue
        part = picture[y0 : y0 + side, x0 : x0 + side]
        found.append(cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA))
    return found


def face_boxes(labelled: Labelled, index: int) -> np.ndarray:
    """All that may be a face in one picture, landmark outlines included: (n, 4)."""
    boxes = [box[:4] for box in labelled.boxes[index]]
    boxes += [np.concatenate([p.min(0), p.max(0)]) for p in labelled.landmarks[index]]
    return np.array(boxes, np.float32).reshape(-1, 4)


def _touches(square: tuple[int, int, int, int], boxes: np.ndarray) -> bool:
    x0, y0, x1, y1 = square
    apart = (boxes[:, 0] > x1) | (boxes[:, 2] < x0) | (boxes[:, 1] > y1) | (boxes[:, 3] < y0)
    return not bool(apart.all())


def plain(picture: np.ndarray) -> Labelled:
    """A picture in which there is no face."""
    return Labelled([("", 0)], [picture], [np.zeros((0, 106, 2))], [np.zeros((0, 5))])


def load_folder(folder: Path | None) -> list[np.ndarray]:
    """The pictures of a folder as luma; an empty list without a folder."""
    if folder is None:
        return []
    read = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    ]
    return [picture for picture in read if picture is not None]
