"""Whether faces are found where FaceMesh finds them, and nowhere else.

`python -m mien.calibration.clips.finding --clips DIR [CLIP...] [--faceless PICTURE...]
--facemesh-python P --out report.json` runs the bundled detector on every tenth frame of each clip.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mien.calibration.clips.edits import all_clips
from mien.calibration.judges.facemesh import FaceMesh, LandmarkReference, find_anywhere
from mien.calibration.tables.sheet import rgb_picture
from mien.engines.catalog import Catalog
from mien.engines.errors import VideoError
from mien.engines.networks import DETECTOR
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.frame import Frame
from mien.runtime.video import read_frames
from mien.runtime.whole_file import write_whole

FRAME_STEP = 10
LEAST_OVERLAP = 0.3  # intersection over union of two boxes that are one face


@dataclass(frozen=True, slots=True)
class Finding:
    """Frames looked at, those with a face by FaceMesh, those of them where it was found too."""

    frames: int
    with_face: int
    found: int


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    both = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    return float(shared / max(both, 1e-9))


def measure_finding(
    frames: Iterable[Frame], reference: LandmarkReference, detector: FaceDetector
) -> Finding:
    """How many of every tenth of `frames` have a face, and in how many it was found."""
    looked = with_face = found = 0
    for frame in itertools.islice(frames, 0, None, FRAME_STEP):
        looked += 1
        points = find_anywhere(reference, rgb_picture(frame))
        if points is None:
            continue
        with_face += 1
        box = np.concatenate([points[:468, :2].min(0), points[:468, :2].max(0)])
        boxes = [np.array(d.box) for d in detector(frame)]
        found += any(overlap(box, other) >= LEAST_OVERLAP for other in boxes)
    return Finding(looked, with_face, found)


def false_faces(picture: Path, detector: FaceDetector) -> int:
    """How many faces are found in a picture that has none. Raises VideoError."""
    luma = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    if luma is None:
        raise VideoError(f"{picture} is not a picture that can be read")
    return len(detector(luma))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure whether faces are found; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.clips.finding", description=__doc__)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="folders, or clips")
    parser.add_argument("--faceless", type=Path, nargs="*", default=[], help="pictures, no faces")
    parser.add_argument("--facemesh-python", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    detector = FaceDetector(Catalog.bundled().open(DETECTOR))
    told: dict[str, dict[str, object]] = {"clips": {}, "faceless": {}}
    with FaceMesh(options.facemesh_python) as reference:
        for path in all_clips(options.clips):
            finding = measure_finding(read_frames(path), reference, detector)
            told["clips"][path.stem] = {
                "frames": finding.frames,
                "with_face": finding.with_face,
                "found": finding.found,
            }
    for path in options.faceless:
        told["faceless"][path.name] = false_faces(path, detector)
    text = json.dumps(told, indent=1) + "\n"
    write_whole(options.out, text.encode(), overwrite=True)


if __name__ == "__main__":
    main()
