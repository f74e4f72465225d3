"""Whether the rims of glasses keep their place: how far an edit moves their edges.

`python -m mien.calibration.clips.rims --clips CLIP... --facemesh-python P --out report.json`, on
clips and pictures of people who wear glasses. Rims are found in each source frame: strong edges
around the eyes, where FaceMesh puts neither lid nor brow, and wherever the occlusion network sees
glasses. Each of their points is then looked for in the edit, along the edge's normal; an edit keeps
the head where it is, so what moves against the source moves against the head.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from mien.calibration.clips.edits import (
    Editor,
    add_models_option,
    all_clips,
    default_editors,
    edit_frames,
)
from mien.calibration.clips.measure import FollowedFace, plain
from mien.calibration.clips.shading import native_luma
from mien.calibration.judges.facemesh import FaceMesh, LandmarkReference
from mien.calibration.tables.sheet import rgb_picture
from mien.calibration.tables.thresholds import MEASURED
from mien.engines.catalog import Catalog
from mien.engines.errors import VideoError
from mien.engines.networks import OCCLUSION
from mien.runtime.faces.alignment import crop_matrix
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.luma import sample_luma
from mien.runtime.video import read_frames
from mien.runtime.whole_file import write_whole

HEIGHT_PX = 720  # of the picture in which everything here is measured
EDGE_SIGMA_PX = 1.0
STRONG = 0.025  # gradient a pixel, as a share of the luma around: rims, not creases
MOST_POINTS = 300  # of a frame, the strongest
LEAST_POINTS = 12  # fewer are chance, and the frame does not count
REACH_PX = 6.0  # how far an edge is looked for, each way
HALF_PROFILE_PX = 4.0  # of the profile that is matched, each way
STEP_PX = 0.25
FOUND = 0.8  # correlation of profiles from which an edge counts as found again
LEAST_CONTRAST = 0.25  # of its own: a fainter one is no longer that edge
GLASSES_SHARE = 0.5  # of a cell, from which the network is believed
# FaceMesh vertices: rings around lids, brows and the ridge of the nose.
LIDS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
NOSE = ((6, 196, 3, 51, 45, 4, 275, 281, 248, 419),)  # its ridge, whose highlight has edges too
# What holds edges that are no rims, and by how many outer-eye distances it is grown: creases of the
# upper lid, lashes and the hair around a brow.
LEFT_OUT = ((LIDS, 0.07), (BROWS, 0.06), (NOSE, 0.02))
BAGS = (
    0.05,
    0.10,
)  # the lids are left out as far below themselves too: wrinkles, where cheeks rise
OUTER_EYES = (33, 263)
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


class GlassesMask(Protocol):
    """What is needed of `NetworkMask`."""

    def __call__(self, frame: Frame, landmarks: np.ndarray) -> np.ndarray:
        """Where glasses are: bool (720, w), in the picture that is measured."""


@dataclass(frozen=True, slots=True)
class RimPoints:
    """Points on strong edges: places and unit normals, float64 (n, 2) each, x first."""

    places: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True, slots=True)
class RimShift:
    """How far rims moved, in pixels at 720 lines.

    median, high: of the shifts of all points without their sign, and their 95th percentile.
    lost: the share of points that the edit does not show within reach. points, frames: looked at.
    """

    median: float
    high: float
    lost: float
    points: int
    frames: int


def at_720(frame: Frame) -> np.ndarray:
    """The luma of the frame with 720 lines: float32 (720, w), 0 black and 1 white."""
    luma = native_luma(frame)
    scale = HEIGHT_PX / luma.shape[0]
    size_wh = (round(luma.shape[1] * scale), HEIGHT_PX)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(luma, size_wh, interpolation=method)


def rim_points(luma: np.ndarray, mesh: np.ndarray, glasses: np.ndarray | None) -> RimPoints:
    """Points on the edges of rims: where skin around the eyes has edges that skin has not.

    luma: float32 (720, w). mesh: FaceMesh points (478, 2 or more) in its pixels. glasses: bool, as
    of `GlassesMask`, places that are believed whatever lies there; None for none.
    """
    allowed = around_eyes(luma.shape, mesh)
    if glasses is not None:
        allowed |= glasses
    smooth = cv2.GaussianBlur(luma, (0, 0), EDGE_SIGMA_PX)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    strength = np.hypot(gx, gy)
    own = cv2.GaussianBlur(luma, (0, 0), 8 * EDGE_SIGMA_PX)
    strong = allowed & (strength > STRONG * own) & _is_ridge(strength, gx, gy)
    y, x = np.nonzero(strong)
    if len(x) > MOST_POINTS:
        best = np.argsort(strength[y, x])[-MOST_POINTS:]
        y, x = y[best], x[best]
    normals = np.stack([gx[y, x], gy[y, x]], 1) / np.maximum(strength[y, x], 1e-6)[:, None]
    return RimPoints(np.stack([x, y], 1).astype(np.float64), normals.astype(np.float64))


def around_eyes(shape: tuple[int, ...], mesh: np.ndarray) -> np.ndarray:
    """Where rims may lie and lids and brows do not: bool of `shape`."""
    points = mesh[:, :2].astype(np.float64)
    eyes = points[list(OUTER_EYES)]
    unit = float(np.linalg.norm(eyes[1] - eyes[0]))
    across = (eyes[1] - eyes[0]) / max(unit, 1e-6)
    down = np.array([-across[1], across[0]])
    corners = [(-0.16, -0.22), (1.16, -0.22), (1.16, 0.36), (-0.16, 0.36)]
    box = np.array([eyes[0] + unit * (u * across + v * down) for u, v in corners])
    allowed = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(allowed, [np.round(box).astype(np.int32)], 1)
    for rings, margin in LEFT_OUT:
        features = np.zeros(shape[:2], np.uint8)
        for ring, below in itertools.product(rings, (0.0, *BAGS) if rings is LIDS else (0.0,)):
            outline = points[list(ring)] + below * unit * down
            cv2.fillPoly(features, [np.round(outline).astype(np.int32)], 1)
        side = 2 * round(margin * unit) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        allowed[cv2.dilate(features, kernel) > 0] = 0
    inside: np.ndarray = allowed > 0
    return inside


def edge_shifts(before: np.ndarray, after: np.ndarray, rims: RimPoints) -> np.ndarray:
    """How far each edge moved along its normal, in pixels: float64 (n,), NaN where it is lost.

    before, after: float32 (h, w). The profile across the edge is looked for in the edit, by
    correlation, so that a change of brightness is no shift; parabolas give parts of a step.
    """
    half, reach = round(HALF_PROFILE_PX / STEP_PX), round(REACH_PX / STEP_PX)
    own = _profiles(before, rims, half)
    wide = _profiles(after, rims, half + reach)
    windows = np.lib.stride_tricks.sliding_window_view(wide, 2 * half + 1, axis=1)
    scores, contrasts = _correlations(own, windows)
    best = scores.argmax(1)
    rows = np.arange(len(scores))
    inner = np.clip(best, 1, scores.shape[1] - 2)
    left, here, right = (scores[rows, inner + d] for d in (-1, 0, 1))
    bend = left - 2 * here + right
    part = np.where(np.abs(bend) > 1e-9, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0)
    shifts = (inner + np.clip(part, -1, 1) - reach) * STEP_PX
    lost = (scores[rows, best] < FOUND) | (contrasts[rows, best] < LEAST_CONTRAST)
    lost |= (best == 0) | (best == scores.shape[1] - 1)
    return np.where(lost, np.nan, shifts)


def _is_ridge(strength: np.ndarray, gx: np.ndarray, gy: np.ndarray) -> np.ndarray:
    """Where `strength` is largest along its gradient: bool."""
    height, width = strength.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    size = np.maximum(strength, 1e-6)
    sides = [
        cv2.remap(strength, x + s * gx / size, y + s * gy / size, cv2.INTER_LINEAR)
        for s in (np.float32(-1), np.float32(1))
    ]
    ridge: np.ndarray = (strength >= sides[0]) & (strength > sides[1])
    return ridge


def _profiles(luma: np.ndarray, rims: RimPoints, half: int) -> np.ndarray:
    """Luma along each normal, at steps -half..half: float32 (n, 2 half + 1)."""
    if not len(rims.places):
        return np.zeros((0, 2 * half + 1), np.float32)
    steps = np.arange(-half, half + 1) * STEP_PX
    along = rims.places[:, None] + steps[None, :, None] * rims.normals[:, None]
    x, y = (np.ascontiguousarray(along[..., axis], np.float32) for axis in (0, 1))
    return cv2.remap(luma, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _correlations(own: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each profile (n, k) with each of its windows (n, m, k), and their contrasts: (n, m)."""
    a = own - own.mean(1, keepdims=True)
    b = windows - windows.mean(2, keepdims=True)
    own_size, size = np.linalg.norm(a, axis=1)[:, None], np.linalg.norm(b, axis=2)
    found = np.einsum("nk,nmk->nm", a, b) / np.maximum(own_size * size, 1e-9)
    return found, size / np.maximum(own_size, 1e-9)


class NetworkMask:
    """Where the occlusion network sees glasses."""

    def __init__(self, models: Path | None) -> None:
        catalog = Catalog.bundled() if models is None else Catalog.load(models)
        self._engine = catalog.open(OCCLUSION)

    def __call__(self, frame: Frame, landmarks: np.ndarray) -> np.ndarray:
        """Where glasses are: bool (720, w)."""
        side = OCCLUSION.inputs[0].shape[-1]
        matrix = crop_matrix(landmarks, side)
        face = sample_luma(frame, matrix, side).astype(np.float32) / 255
        glasses = self._engine.infer({"face": face[None, None]})["covered"][0, 0]
        scale = HEIGHT_PX / frame.height
        to_crop = matrix @ np.array([[1 / scale, 0, 0], [0, 1 / scale, 0], [0, 0, 1]])
        size_wh = (round(frame.width * scale), HEIGHT_PX)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        shown: np.ndarray = cv2.warpAffine(glasses, to_crop, size_wh, flags=flags) > GLASSES_SHARE
        return shown


def measure_rims(
    frames: Iterable[Frame],
    reference: LandmarkReference,
    editors: Mapping[str, Editor],
    glasses: GlassesMask | None,
) -> dict[str, RimShift]:
    """How far each emotion moves the rims of a clip of one person."""
    followed = FollowedFace(reference)
    shifts: dict[str, list[np.ndarray]] = {emotion: [] for emotion in editors}
    for step in edit_frames(frames, editors):
        mesh = followed.find(rgb_picture(step.source))
        followed.advance()
        if mesh is None or step.landmarks is None:
            continue
        own = at_720(step.source)
        seen = None if glasses is None else glasses(step.source, step.landmarks)
        rims = rim_points(own, mesh * (HEIGHT_PX / step.source.height), seen)
        if len(rims.places) < LEAST_POINTS:
            continue
        for emotion, frame in step.edited.items():
            shifts[emotion].append(edge_shifts(own, at_720(frame), rims))
    return {emotion: over_points(found) for emotion, found in shifts.items()}


def over_points(shifts: Sequence[np.ndarray]) -> RimShift:
    """Of the shifts of all points of all frames, NaN for lost ones."""
    every = np.abs(np.concatenate([*shifts, np.zeros(0)]))
    found = every[np.isfinite(every)]
    if not found.size:
        nothing = float("nan")
        return RimShift(nothing, nothing, 1.0 if every.size else nothing, every.size, len(shifts))
    median, high = np.percentile(found, [50, 95])
    lost = 1 - found.size / every.size
    return RimShift(float(median), float(high), lost, every.size, len(shifts))


def frames_of(path: Path, step: int, most: int | None) -> Iterator[Frame]:
    """Every `step`-th of the first `most` frames of a clip, or the one picture.

    Raises VideoError.
    """
    if path.suffix.lower() not in PICTURES:
        yield from itertools.islice(read_frames(path), 0, most, step)
        return
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise VideoError(f"{path} is not a picture that can be read")
    layout = PixelLayout("rgb", full_range=True, rgb_order=(2, 1, 0))
    yield Frame((Plane(pixels, (1, 1)),), layout, pixels.shape[1], pixels.shape[0])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure whether the rims of glasses keep their place; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.clips.rims", description=__doc__)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="clips and pictures")
    parser.add_argument("--facemesh-python", type=Path, required=True)
    parser.add_argument("--emotions", default=",".join(MEASURED))
    parser.add_argument("--step", type=int, default=2, help="every STEP-th frame of a clip")
    parser.add_argument("--frames", type=int, help="only the first frames of each clip")
    parser.add_argument("--out", type=Path, required=True)
    add_models_option(parser)
    options = parser.parse_args(argv)
    editors = default_editors(options.emotions.split(","), options.models)
    glasses = NetworkMask(options.models)
    told = {}
    with FaceMesh(options.facemesh_python) as reference:
        for path in all_clips(options.clips):
            frames = frames_of(path, options.step, options.frames)
            measured = measure_rims(frames, reference, editors, glasses)
            told[path.stem] = {emotion: plain(asdict(rim)) for emotion, rim in measured.items()}
    text = json.dumps({"clips": told}, indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)


if __name__ == "__main__":
    main()
