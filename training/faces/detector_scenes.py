"""Scenes for the detector, composed on the fly from labelled pictures.

Backgrounds, whole frames with their people, crowds, cut-out heads on made-up bodies; at any size
from 10 pixels to the whole view. Where unlabelled faces may hide the detector is neither praised
nor blamed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TypeVar

import cv2
import numpy as np

from mien.runtime.faces.alignment import sample_crop, transform_points
from mien.runtime.faces.topology import (
    CHIN,
    LEFT_EYE_CENTRE,
    MIRROR,
    MOUTH_LEFT_CORNER,
    MOUTH_RIGHT_CORNER,
    RIGHT_EYE_CENTRE,
)
from mien.training.data import augment

Item = TypeVar("Item")

SIDE = 320
SMALLEST, LARGEST = 9.0, 330.0  # of a face's height, pixels
TURN = 32.0  # degrees to either side


@dataclass(frozen=True, slots=True)
class Subject:
    """A picture with its faces.

    picture: uint8 (H, W). faces: float32 (k, 106, 2). unsure: float32 (m, 4), boxes that may hold
    faces without a label. tight: the picture shows little more than the head.
    """

    picture: np.ndarray
    faces: np.ndarray
    unsure: np.ndarray
    tight: bool = False


@dataclass(slots=True)
class Scene:
    """A picture being composed: uint8 (320, 320), its faces (106, 2) and unsure boxes (4,)."""

    picture: np.ndarray
    faces: list[np.ndarray] = field(default_factory=list)
    unsure: list[np.ndarray] = field(default_factory=list)


class Composer:
    """Makes scenes."""

    def __init__(
        self,
        heads: list[Subject],
        frames: list[Subject],
        crowds: list[Subject],
        backgrounds: list[np.ndarray],
        seed: int,
    ) -> None:
        """heads: tight pictures. frames: one person each. crowds: many. backgrounds: no faces."""
        self.heads, self.frames, self.crowds = heads, frames, crowds
        self.backgrounds = backgrounds
        self.rng = np.random.default_rng(seed)

    def scene(self) -> Scene:
        """One scene, finished."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.22:
            scene = self._empty()
            if rng.random() < 0.7:
                self._faceless(scene)
        elif kind < 0.42:
            scene = self._crowd()
        elif kind < 0.66:
            scene = self._frame()
        else:
            scene = self._empty()
        if kind >= 0.22:
            for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.25, 0.35, 0.25, 0.15]))):
                self._paste(scene)
        if kind >= 0.66 and not scene.faces:
            self._paste(scene)
        return self._finished(scene)

    def _empty(self) -> Scene:
        return Scene(self._background())

    def _background(self) -> np.ndarray:
        """A surface without a face: one view, or many small ones side by side.

        Small views matter: seen only at full size, shoes, leaves and lamps are faces to the finest
        grid.
        """
        rng = self.rng
        if rng.random() < 0.5:
            return self._view()
        across, down = rng.integers(1, 6, 2)
        edges_x = _edges(rng, int(across))
        edges_y = _edges(rng, int(down))
        picture = np.empty((SIDE, SIDE), np.uint8)
        for y0, y1 in itertools.pairwise(edges_y):
            for x0, x1 in itertools.pairwise(edges_x):
                view = self._scrambled() if rng.random() < 0.15 else self._view()
                size = (int(x1 - x0), int(y1 - y0))
                picture[y0:y1, x0:x1] = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
        return picture

    def _scrambled(self) -> np.ndarray:
        """A head whose pieces lie in the wrong places, which is no face."""
        rng = self.rng
        subject = _any(rng, self.heads)
        matrix = self._matrix(subject.faces[0], float(rng.uniform(150, 240)), np.full(2, SIDE / 2))
        picture = sample_crop(subject.picture, matrix, SIDE)
        cells = int(rng.integers(3, 6))
        step = SIDE // cells
        pieces = [
            picture[y * step : (y + 1) * step, x * step : (x + 1) * step]
            for y in range(cells)
            for x in range(cells)
        ]
        order = rng.permutation(len(pieces))
        rows = [
            np.hstack([np.rot90(pieces[i], int(rng.integers(4))) for i in order[r::cells]])
            for r in range(cells)
        ]
        return np.ascontiguousarray(np.vstack(rows))

    def _view(self) -> np.ndarray:
        rng = self.rng
        picture = _any(rng, self.backgrounds)
        angle = float(rng.normal(0, 20)) if rng.random() < 0.3 else 0.0
        scale = SIDE / (min(picture.shape) * rng.uniform(0.4, 1.0))
        centre = rng.uniform(0.35, 0.65, 2) * picture.shape[::-1]
        matrix = _about(centre, scale, angle, np.array([SIDE / 2, SIDE / 2]))
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        return sample_crop(np.ascontiguousarray(picture), matrix, SIDE)

    def _crowd(self) -> Scene:
        subject = _any(self.rng, self.crowds)
        if not len(subject.faces):
            return self._frame()
        index = int(self.rng.integers(len(subject.faces)))
        size = float(np.exp(self.rng.uniform(np.log(SMALLEST), np.log(130))))
        return self._seen(subject, index, size)

    def _frame(self) -> Scene:
        subject = _any(self.rng, self.frames)
        if self.rng.random() < 0.5:
            size = float(self.rng.uniform(60, LARGEST))
        else:
            size = float(np.exp(self.rng.uniform(np.log(SMALLEST), np.log(150))))
        return self._seen(subject, 0, size)

    def _seen(self, subject: Subject, index: int, size: float) -> Scene:
        """A picture so that one of its faces has about `size` pixels; around it a background."""
        subject = self._maybe_mirrored(subject)
        spread = 0.42 if size < 150 else 0.15
        place = (0.5 + self.rng.uniform(-spread, spread, 2)) * SIDE
        matrix = self._matrix(subject.faces[index], size, place)
        picture = sample_crop(subject.picture, matrix, SIDE)
        if self.rng.random() < 0.75:
            inside = _warped_mask(subject.picture.shape, matrix)
            picture = np.where(inside > 127, picture, self._background())
        scene = Scene(picture)
        self._add(scene, subject, matrix)
        return scene

    def _matrix(self, face: np.ndarray, size: float, place: np.ndarray) -> np.ndarray:
        height = float(np.ptp(face[:, 1]))
        angle = float(self.rng.normal(0, 9) if self.rng.random() < 0.6 else 0)
        if self.rng.random() < 0.35:
            angle = float(self.rng.uniform(-TURN, TURN))
        return _about(face.mean(0), size / max(height, 1), angle, place)

    def _maybe_mirrored(self, subject: Subject) -> Subject:
        if self.rng.random() < 0.5 or not len(subject.faces):
            return subject
        width = subject.picture.shape[1] - 1
        faces = (subject.faces * [-1, 1] + [width, 0])[:, MIRROR].astype(np.float32)
        unsure = subject.unsure.copy()
        unsure[:, [0, 2]] = width - subject.unsure[:, [2, 0]]
        picture = np.ascontiguousarray(subject.picture[:, ::-1])
        return Subject(picture, faces, unsure, subject.tight)

    def _add(self, scene: Scene, subject: Subject, matrix: np.ndarray) -> None:
        scene.faces += [transform_points(matrix, face) for face in subject.faces]
        for box in subject.unsure:
            corners = np.array([box[[0, 1]], box[[2, 1]], box[[2, 3]], box[[0, 3]]])
            moved = transform_points(matrix, corners)
            scene.unsure.append(np.concatenate([moved.min(0), moved.max(0)]))

    def _paste(self, scene: Scene) -> None:
        """Paste one more person, where there is room."""
        rng = self.rng
        subject = self._maybe_mirrored(
            _any(rng, self.heads) if rng.random() < 0.7 else _any(rng, self.frames)
        )
        if not len(subject.faces):
            return
        for _ in range(4):
            size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST * 0.75))))
            place = (
                rng.uniform(0.02, 0.98, 2) * SIDE if size < 120 else rng.uniform(0.3, 0.7, 2) * SIDE
            )
            matrix = self._matrix(subject.faces[0], size, place)
            face = transform_points(matrix, subject.faces[0])
            if not self._crosses(scene, face):
                break
        else:
            return
        layer = sample_crop(subject.picture, matrix, SIDE)
        if subject.tight and rng.random() < 0.75:
            self._body(scene, face, layer)
        mask = self._cut_out(subject, matrix, face)
        self._lay(scene, layer, mask)
        self._add(scene, subject, matrix)

    def _crosses(self, scene: Scene, face: np.ndarray) -> bool:
        """Whether a person with this face would hide a face, or stand where one may be."""
        middle = face.mean(0)
        reach = np.ptp(face, axis=0).max()
        for other in scene.faces:
            gap = np.abs(other.mean(0) - middle).max()
            if gap < 0.9 * (reach + np.ptp(other, axis=0).max()):
                return True
            below = other.mean(0)[1] > middle[1]
            if below and abs(other.mean(0)[0] - middle[0]) < 1.6 * reach:
                return True
        return any(
            (box[0] < middle[0] + reach)
            and (box[2] > middle[0] - reach)
            and (box[1] < middle[1] + reach)
            and (box[3] > middle[1] - reach)
            for box in scene.unsure
        )

    def _cut_out(self, subject: Subject, matrix: np.ndarray, face: np.ndarray) -> np.ndarray:
        """What of the picture to lay down: the head, the person, or the whole rectangle."""
        inside = _warped_mask(subject.picture.shape, matrix)
        if self.rng.random() < 0.35:
            return inside
        mask = head_mask(face, self.rng)
        if not subject.tight:
            eyes, chin = _axis(face)
            down = chin - eyes
            across = np.array([down[1], -down[0]])
            wide = self.rng.uniform(1.0, 2.2)
            corners = [
                chin - down * 0.2 - across * 0.6, chin - down * 0.2 + across * 0.6,
                chin + down * 0.8 + across * wide, chin + down * 9 + across * wide,
                chin + down * 9 - across * wide, chin + down * 0.8 - across * wide,
            ]  # fmt: skip
            cv2.fillPoly(mask, [np.array(corners).astype(np.int32)], 255)
        return np.minimum(mask, inside)

    def _body(self, scene: Scene, face: np.ndarray, layer: np.ndarray) -> None:
        """Draw neck, shoulders and perhaps a whole figure under a cut-out head."""
        rng = self.rng
        eyes, chin = _axis(face)
        down = chin - eyes
        across = np.array([down[1], -down[0]])
        wide, long = rng.uniform(1.1, 2.0), rng.uniform(2.5, 12)
        low = chin + down * 0.55
        corners = [
            low - across * wide * 0.5, low + across * wide * 0.5,
            low + down * 0.5 + across * wide, low + down * long + across * wide * 0.8,
            low + down * long - across * wide * 0.8, low + down * 0.5 - across * wide,
        ]  # fmt: skip
        cloth = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(cloth, [np.array(corners).astype(np.int32)], 255)
        self._lay(scene, self._background(), cloth)
        neck = np.zeros((SIDE, SIDE), np.uint8)
        sides = [chin - across * 0.4 - down * 0.3, chin + across * 0.4 - down * 0.3]
        sides += [low + across * 0.45 + down * 0.2, low - across * 0.45 + down * 0.2]
        cv2.fillPoly(neck, [np.array(sides).astype(np.int32)], 255)
        x, y = np.clip(face[46], 0, SIDE - 1).astype(int)
        skin = np.full((SIDE, SIDE), float(layer[y, x]) * rng.uniform(0.6, 1.0), np.float32)
        self._lay(scene, skin.astype(np.uint8), neck)

    def _lay(self, scene: Scene, layer: np.ndarray, mask: np.ndarray) -> None:
        soft = cv2.GaussianBlur(mask, (0, 0), float(self.rng.uniform(0.4, 1.8)))
        alpha = soft.astype(np.float32) / 255
        scene.picture = (scene.picture * (1 - alpha) + layer * alpha).astype(np.uint8)

    def _faceless(self, scene: Scene) -> None:
        """Paste people whose faces are painted over, or left outside the view."""
        rng = self.rng
        subject = self._maybe_mirrored(
            _any(rng, self.frames) if rng.random() < 0.75 else _any(rng, self.heads)
        )
        size = float(np.exp(rng.uniform(np.log(20), np.log(LARGEST))))
        place = rng.uniform(0.1, 0.9, 2) * SIDE
        if rng.random() < 0.4 and not subject.tight:
            place = np.array([rng.uniform(-0.2, 1.2) * SIDE, -0.75 * size])
        matrix = self._matrix(subject.faces[0], size, place)
        face = transform_points(matrix, subject.faces[0])
        layer = sample_crop(subject.picture, matrix, SIDE)
        mask = _warped_mask(subject.picture.shape, matrix)
        self._lay(scene, layer, mask)
        hidden = head_mask(face, rng) if rng.random() < 0.5 else _hull(face)
        hidden = cv2.dilate(hidden, np.ones((3, 3), np.uint8))
        if rng.random() < 0.4:
            blank = np.full(
                (SIDE, SIDE), float(scene.picture[hidden > 0].mean() if hidden.any() else 0)
            )
            self._lay(scene, blank.astype(np.uint8), hidden)
        else:
            self._lay(scene, self._background(), hidden)

    def _finished(self, scene: Scene) -> Scene:
        rng = self.rng
        picture = scene.picture
        if rng.random() < 0.9:
            picture = augment.degrade(augment.relight(picture, rng), rng)
        height, width = SIDE, SIDE
        shape = rng.random()
        if shape < 0.35:
            height = int(rng.choice([180, 240, 213]))
        elif shape < 0.6:
            width = int(rng.choice([180, 240, 213]))
        picture = picture.copy()
        picture[height:] = 0
        picture[:, width:] = 0
        faces = []
        for face in scene.faces:
            box = np.concatenate([face.min(0), face.max(0)])
            inner = np.clip(box, 0, [width, height, width, height])
            part = (inner[2:] - inner[:2]).prod() / max((box[2:] - box[:2]).prod(), 1e-6)
            if part > 0.7 and box[3] - box[1] > SMALLEST * 0.9:
                faces.append(face)
            elif part > 0.05:
                scene.unsure.append(box)
        return Scene(picture, faces, scene.unsure)


def targets_of(face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box (4,) and the points (3, 2) that the detector should give for landmarks (106, 2)."""
    mouth = (face[MOUTH_LEFT_CORNER] + face[MOUTH_RIGHT_CORNER]) / 2
    points = np.stack([face[LEFT_EYE_CENTRE], face[RIGHT_EYE_CENTRE], mouth])
    return np.concatenate([face.min(0), face.max(0)]), points


def head_mask(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A head with its hair, about: uint8 (320, 320), 255 inside."""
    eyes, chin = _axis(face)
    down = chin - eyes
    length = float(np.linalg.norm(down))
    centre = eyes + down * rng.uniform(0.05, 0.15)
    axes = length * rng.uniform(0.75, 1.0), length * rng.uniform(1.0, 1.2)
    angle = float(np.degrees(np.arctan2(down[1], down[0]))) - 90
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(mask, (centre.tolist(), (axes[0] * 2, axes[1] * 2), angle), 255, -1)
    return np.maximum(mask, _hull(face))


def _hull(face: np.ndarray) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(face.astype(np.int32)), 255)
    return mask


def _axis(face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (face[LEFT_EYE_CENTRE] + face[RIGHT_EYE_CENTRE]) / 2, face[CHIN]


def _warped_mask(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """Where the picture lies in the scene: uint8 (320, 320)."""
    height, width = shape[:2]
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillConvexPoly(mask, transform_points(matrix, corners).astype(np.int32), 255)
    return mask


def _edges(rng: np.random.Generator, count: int) -> np.ndarray:
    """Where `count` cells of at least 24 pixels begin and end along a side."""
    room = SIDE - 24 * count
    cuts = np.sort(rng.integers(0, room + 1, count - 1))
    return np.concatenate([[0], cuts + 24 * np.arange(1, count), [SIDE]]).astype(int)


def _about(centre: np.ndarray, scale: float, angle: float, place: np.ndarray) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, scale)
    matrix[:, 2] += place - centre
    return matrix.astype(np.float32)


def _any(rng: np.random.Generator, items: list[Item]) -> Item:
    return items[int(rng.integers(len(items)))]
