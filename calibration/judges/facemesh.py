"""FaceMesh as the reference for landmarks: 478 points of a face in a picture."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np

from mien.engines.errors import EngineError, UsageError

POINT_COUNT = 478
ENDED = "FaceMesh ended; install mediapipe 0.10.21 in its environment"
REGION_PER_FACE = 2.6  # the side of the picture FaceMesh sees, by the longer side of the face
LEAST_REGION_PX = 320  # smaller ones are enlarged by a whole number: FaceMesh misses small faces


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a frame: pixels x0 <= x < x1, y0 <= y < y1, shown `zoom` times as large.

    asked_centre, side_px: the square it was asked to be, before the frame's border cut it.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    zoom: int = 1
    asked_centre: tuple[float, float] = (0.0, 0.0)
    side_px: float = 0.0


class LandmarkReference(Protocol):
    """What is needed of `FaceMesh`."""

    def __call__(self, rgb: np.ndarray, region: Region | None = None) -> np.ndarray | None:
        """Points float32 (478, 3) in pixels of `rgb`, None where no face is."""


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a worker that reads until its input is closed."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class FaceMesh:
    """The reference for landmarks, running in a process of its own; a context manager.

    python: the Python of an environment with mediapipe 0.10.21. Raises UsageError where it does
        not start.
    """

    def __init__(self, python: Path) -> None:
        worker = Path(__file__).with_name("facemesh_worker.py")
        try:
            self._process = subprocess.Popen(
                [str(python), str(worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise UsageError(
                f"cannot start {python}: {error.strerror}; give the Python of an environment "
                "with mediapipe 0.10.21"
            ) from error

    def __enter__(self) -> FaceMesh:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        end_process(self._process)

    def __call__(self, rgb: np.ndarray, region: Region | None = None) -> np.ndarray | None:
        """Points float32 (478, 3) in pixels of `rgb` (uint8 (H, W, 3)), None where no face is.

        Pixel centres lie at integers: mediapipe samples through OpenCV, and the points of a picture
        and its mirror image add up to its width less one as faces get small (measured on four
        clips at three sizes). Only `region` is looked at, where one is given. Raises EngineError.
        """
        part = rgb if region is None else rgb[region.y0 : region.y1, region.x0 : region.x1]
        zoom = 1 if region is None else region.zoom
        if zoom > 1:
            part = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        points = self._ask(part)
        if points is None or region is None:
            return points
        half = (zoom - 1) / 2  # of an enlarged pixel, from its centre to that of its source
        shift = np.array([region.x0 - half / zoom, region.y0 - half / zoom, 0], np.float32)
        moved: np.ndarray = points / np.float32(zoom) + shift
        return moved

    def _ask(self, picture: np.ndarray) -> np.ndarray | None:
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        try:
            sink.write(struct.pack("<II", *picture.shape[:2]))
            sink.write(np.ascontiguousarray(picture).tobytes())
            sink.flush()
            found = source.read(1)
            data = source.read(POINT_COUNT * 3 * 4) if found == b"\1" else b""
        except OSError as error:
            raise EngineError(ENDED) from error
        if not found or (found == b"\1" and len(data) < POINT_COUNT * 3 * 4):
            raise EngineError(ENDED)
        if found == b"\0":
            return None
        return np.frombuffer(data, "<f4").reshape(POINT_COUNT, 3).astype(np.float32)


def find_anywhere(reference: LandmarkReference, rgb: np.ndarray) -> np.ndarray | None:
    """Points (478, 3) of a face in `rgb`, also of one too small for FaceMesh in the whole frame."""
    points = reference(rgb)
    if points is not None:
        return points
    height, width = rgb.shape[:2]
    for part in (0.6, 0.4, 0.25):
        side = max(64, round(min(height, width) * part))
        for y in _starts(height, side):
            for x in _starts(width, side):
                region = Region(x, y, x + side, y + side, _zoom(side))
                points = reference(rgb, region)
                if points is not None:
                    return points
    return None


def region_around(
    points: np.ndarray, size_wh: tuple[int, int], last: Region | None = None
) -> Region:
    """The part of a frame in which to look for a face that was at `points` (n, 2 or more).

    `last` is kept while it holds the face with room around it: a region that moves with every
    frame would shake its points.
    """
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    half = float((high - low).max()) * REGION_PER_FACE / 2
    centre = (low + high) / 2
    if last is not None and last.side_px and 0.75 < last.side_px / (2 * half) < 1.33:
        drift = np.abs(centre - last.asked_centre).max()
        if drift < 0.3 * half:
            return last
    x0, y0 = (int(max(0, (c - half) // 8 * 8)) for c in centre)
    x1, y1 = (
        int(min(limit, -(-(c + half) // 8) * 8)) for c, limit in zip(centre, size_wh, strict=True)
    )
    asked = (float(centre[0]), float(centre[1]))
    return Region(x0, y0, x1, y1, _zoom(min(x1 - x0, y1 - y0)), asked, 2 * half)


def _zoom(side: int) -> int:
    return max(1, -(-LEAST_REGION_PX // max(side, 1)))


def _starts(length: int, side: int) -> list[int]:
    return sorted({*range(0, max(1, length - side), max(1, side // 2)), max(0, length - side)})
