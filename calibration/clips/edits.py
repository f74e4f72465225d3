"""Edits of whole clips by the default filter, frame by frame, and the clips to measure on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from mien.runtime.faces.alignment import crop_matrix, invert_similarity, transform_points
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame, Plane
from mien.runtime.spec import DEFAULT_METHOD
from mien.runtime.target import parse_target

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")


def clips_of(path: Path) -> list[Path]:
    """The clips of a folder by name, or the one clip."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.iterdir() if p.suffix.lower() in CLIP_SUFFIXES)


def all_clips(paths: Sequence[Path]) -> list[Path]:
    """The clips of several folders, and single clips, each once, in the order given."""
    return list(dict.fromkeys(clip for path in paths for clip in clips_of(path)))


def default_editors(
    emotions: Sequence[str], models: Path | None = None, method: str = DEFAULT_METHOD
) -> dict[str, Filter]:
    """A filter for each emotion or mix; `models` and `method` as of `Filter`."""
    return {
        emotion: Filter(parse_target(emotion), models=models, method=method) for emotion in emotions
    }


def add_method_option(parser: argparse.ArgumentParser) -> None:
    """Add `--method`, as in `mien edit`."""
    parser.add_argument("--method", default=DEFAULT_METHOD, help="by default %(default)s")


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """Add `--models`: networks that replace bundled ones, as in `mien edit`."""
    parser.add_argument("--models", type=Path, help="a folder of models with a catalog")


REGION_MARGIN_PX = 2  # around the crop: bilinear sampling and chroma planes reach that far


class FoundFace(Protocol):
    """What is needed of a tracked face."""

    @property
    def landmarks(self) -> np.ndarray:
        """float32 (106, 2) in pixels of the frame."""


class Editor(Protocol):
    """What is needed of a `Filter`."""

    @property
    def faces(self) -> Sequence[FoundFace]:
        """The faces of the last frame."""

    def apply(self, frame: Frame) -> Frame:
        """The edited frame."""

    def reset(self) -> None:
        """Forget the frames before."""


@dataclass(frozen=True, slots=True)
class EditedFrame:
    """One frame and what each emotion made of it.

    outside: the largest change of a stored sample outside the faces' crops, by emotion.
    landmarks: float32 (106, 2) of the filter's first face, None where it found none.
    """

    source: Frame
    edited: Mapping[str, Frame]
    outside: Mapping[str, int]
    landmarks: np.ndarray | None


def edit_frames(frames: Iterable[Frame], editors: Mapping[str, Editor]) -> Iterator[EditedFrame]:
    """Every frame of a clip with all its edits; the editors forget what they saw before."""
    for editor in editors.values():
        editor.reset()
    for frame in frames:
        edited, outside = {}, {}
        landmarks = None
        for emotion, editor in editors.items():
            edited[emotion] = editor.apply(frame)
            faces = [face.landmarks for face in editor.faces]
            outside[emotion] = change_outside(frame, edited[emotion], faces)
            if faces and landmarks is None:
                landmarks = faces[0]
        yield EditedFrame(frame, edited, outside, landmarks)


def change_outside(before: Frame, after: Frame, faces: Sequence[np.ndarray]) -> int:
    """The largest change of a stored sample outside the crops of `faces` ((106, 2) each)."""
    quads = [_crop_corners(landmarks) for landmarks in faces]
    return max(
        (_plane_change(a, b, quads) for a, b in zip(before.planes, after.planes, strict=True)),
        default=0,
    )


def _crop_corners(landmarks: np.ndarray) -> np.ndarray:
    """The corners of the canonical crop, grown by the margin: (4, 2) frame pixels."""
    frame_from_crop = invert_similarity(crop_matrix(landmarks, 1))
    unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)
    corners = transform_points(frame_from_crop, unit)
    centre = corners.mean(0)
    half_px = np.linalg.norm(corners[1] - corners[0]) / 2
    grown: np.ndarray = centre + (corners - centre) * (1 + REGION_MARGIN_PX / max(half_px, 1e-3))
    return grown


def _plane_change(before: Plane, after: Plane, quads: Sequence[np.ndarray]) -> int:
    if after.samples is before.samples:
        return 0
    difference = np.abs(after.samples.astype(np.int32) - before.samples.astype(np.int32))
    if difference.ndim == 3:
        difference = difference.max(2)
    inside: np.ndarray = np.zeros(difference.shape, np.uint8)
    for quad in quads:
        # Sample i of a plane subsampled by s covers frame pixels i*s .. i*s + s - 1.
        corners = (quad + 0.5) / np.array(before.subsampling_xy) - 0.5
        fixed = np.round(corners * 16).astype(np.int32)
        cv2.fillConvexPoly(inside, fixed, 1, shift=4)
    inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    return int(np.where(inside > 0, 0, difference).max(initial=0))
