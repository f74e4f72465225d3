"""Measures the watermark: how well it is hidden, and what is read back after what pictures suffer.

python -m mien.calibration.clips.watermarks --clips PATH... --out FILE [--clean 10000] [--emotion
NAME]

Pieces of 3 s begin every half second of each clip. False alarms are counted on the clips as they
came, read with as many seeds as it takes: to a reader with another seed an unmarked piece is
another piece, with the texture and the motion of real faces.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np

from mien.engines import DETECTOR, LANDMARKS, Catalog
from mien.runtime.blending.blending import FaceEdit
from mien.runtime.faces.alignment import crop_matrix
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.tracking import FILE, Face, Tracker
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame, PixelLayout, Plane
from mien.runtime.target import Target
from mien.runtime.video.planes import frame_from_av
from mien.runtime.watermark.payload import Payload
from mien.runtime.watermark.reader import PIECE_S, Piece, Search, View, swings, views
from mien.runtime.watermark.watermark import (
    SEED,
    ChipPlan,
    Watermark,
    edit_region,
    face_ellipse,
)

PAYLOAD: Final = Payload(0x1234567)
STEP_S: Final = 0.5
ATTACKS: Final = ("none", "crf 23", "crf 28", "half size", "crop", "phone")
KEPT: Final = 0.8  # of each side that a crop leaves
GRAY: Final = PixelLayout("gray")


class _Recorder(Filter):
    """A filter that keeps the edits of its last frame, as `Filter` itself does not show them."""

    edits: list[tuple[Face, FaceEdit]]

    def _edit_face(
        self, frame: Frame, face: Face, target: Target | None, *, is_chosen: bool
    ) -> tuple[int, FaceEdit] | None:
        made = super()._edit_face(frame, face, target, is_chosen=is_chosen)
        if made is not None:
            self.edits.append((face, made[1]))
        return made


@dataclass(frozen=True, slots=True)
class Marked:
    """A clip with the mark in it.

    frames: edited and marked, yuv420p. rate: frames a second. psnr_db: in the face, 8-bit.
    is_exact: whether nothing changed outside. cost_ms: of each frame, one thread's own time.
    """

    frames: list[Frame]
    rate: Fraction
    psnr_db: float
    is_exact: bool
    cost_ms: list[float]


def decoded_frames(path: str | Path) -> tuple[list[Frame], Fraction]:
    """All frames of a clip, and how many there are a second."""
    with av.open(str(path)) as container:
        frames = [frame_from_av(picture, copy=True) for picture in container.decode(video=0)]
        return frames, Fraction(container.streams.video[0].average_rate or 30)


def marked(path: Path, emotion: str) -> Marked:
    """A clip edited by the default filter, with the mark over it."""
    frames, rate = decoded_frames(path)
    watermark, found, errors, cost_ms, is_exact = Watermark(PAYLOAD), [], [], [], True
    change = _Recorder(emotion)
    with change:
        change.effort = FILE
        for frame in frames:
            change.edits = []
            edited = change.apply(frame)
            before = edited.planes[0].samples
            luma = before.copy()
            for face, made in change.edits:
                region = edit_region(made.edit)
                began = time.thread_time()
                watermark.paint_into(
                    luma, face.landmarks, region, time_s=frame.time_s or 0.0, layout=edited.layout
                )
                cost_ms.append((time.thread_time() - began) * 1e3)
                error, is_same = _compared(before, luma, face, region)
                errors.append(error)
                is_exact &= is_same
            planes = (replace(edited.planes[0], samples=luma), *edited.planes[1:])
            found.append(replace(edited, planes=planes))
    psnr_db = 10 * np.log10(255**2 / np.mean(errors)) if errors else np.inf
    return Marked(found, rate, float(psnr_db), is_exact, cost_ms)


def _compared(
    before: np.ndarray, after: np.ndarray, face: Face, region: np.ndarray
) -> tuple[float, bool]:
    """The mean square of the mark in the face's edited part, and whether all else is the same."""
    size = len(region)
    centres = (np.arange(size) + 0.5) / size
    is_face = face_ellipse(centres[None, :], centres[:, None]) < 0.95
    seen_wh = (before.shape[1], before.shape[0])
    matrix = crop_matrix(face.landmarks, size)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inner = cv2.warpAffine(region * is_face.astype(np.float32), matrix, seen_wh, flags=flags) > 0.5
    outer = cv2.warpAffine(region, matrix, seen_wh, flags=flags) > 0
    change = after.astype(np.float32) - before
    return float(np.square(change[inner]).mean()), not change[~outer].any()


def encoded_file(frames: list[Frame], rate: Fraction, crf: int) -> io.BytesIO:
    """An MP4 file of frames, yuv420p, by libx264, medium."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        stream.options = {"crf": str(crf)}
        stream.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame(frame.width, frame.height, "yuv420p")
            for place, plane in zip(picture.planes, frame.planes, strict=True):
                rows = np.frombuffer(memoryview(place), np.uint8).reshape(-1, place.line_size)
                rows[: plane.samples.shape[0], : plane.samples.shape[1]] = plane.samples
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    file.seek(0)
    return file


def reencoded(frames: list[Frame], rate: Fraction, crf: int) -> list[Frame]:
    """Frames after libx264, with the times that they had."""
    with av.open(encoded_file(frames, rate, crf)) as container:
        shown = [frame_from_av(picture, copy=True) for picture in container.decode(video=0)]
    return [
        replace(new, pts=old.pts, time_base=old.time_base)
        for new, old in zip(shown, frames, strict=True)
    ]


def _moved(frame: Frame, move: Callable[[np.ndarray, tuple[int, int]], np.ndarray]) -> Frame:
    """A frame whose planes went through `move`, which is told their subsampling."""
    planes = tuple(
        Plane(np.ascontiguousarray(move(plane.samples, plane.subsampling_xy)), plane.subsampling_xy)
        for plane in frame.planes
    )
    height, width = planes[0].samples.shape
    return replace(frame, planes=planes, width=width, height=height)


def halved(frame: Frame) -> Frame:
    """Half a frame's size."""
    width, height = frame.width // 4 * 2, frame.height // 4 * 2
    return _moved(
        frame,
        lambda samples, steps: cv2.resize(
            samples, (width // steps[0], height // steps[1]), interpolation=cv2.INTER_AREA
        ),
    )


def cropped(frame: Frame) -> Frame:
    """The middle of a frame, with a fifth of each side gone."""
    left, top = (round(side * (1 - KEPT) / 2) // 2 * 2 for side in (frame.width, frame.height))
    width, height = (round(side * KEPT) // 2 * 2 for side in (frame.width, frame.height))

    def cut(samples: np.ndarray, steps: tuple[int, int]) -> np.ndarray:
        x, y = left // steps[0], top // steps[1]
        return samples[y : y + height // steps[1], x : x + width // steps[0]]

    return _moved(frame, cut)


class Phone:
    """A phone held up to the screen: perspective, blur, another gamma, haze and noise."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._corners = self._rng.uniform(-0.05, 0.05, (4, 2))

    def __call__(self, frame: Frame) -> Frame:
        """The frame as the phone records it."""
        return _moved(frame, self._recorded)

    def _recorded(self, samples: np.ndarray, steps: tuple[int, int]) -> np.ndarray:
        height, width = samples.shape
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        moved = (corners + self._corners * (width, height)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(corners, moved)
        border = cv2.BORDER_REPLICATE
        seen = cv2.warpPerspective(samples, matrix, (width, height), borderMode=border)
        if steps != (1, 1):
            return seen
        shown = cv2.GaussianBlur(seen, (0, 0), 0.9).astype(np.float64)
        shown = 242 * (shown / 255) ** 1.15 + 8 + self._rng.normal(0, 2.5, shown.shape)
        result: np.ndarray = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
        return result


def attacked(clip: Marked, name: str, seed: int) -> list[Frame]:
    """The clip after one of ATTACKS; all but the first three end at crf 23."""
    ways: dict[str, Callable[[Frame], Frame]] = {
        "half size": halved,
        "crop": cropped,
        "phone": Phone(seed),
    }
    if name == "none":
        return clip.frames
    if name.startswith("crf"):
        return reencoded(clip.frames, clip.rate, int(name[4:]))
    return reencoded([ways[name](frame) for frame in clip.frames], clip.rate, 23)


def sliding(seen: list[list[View]]) -> Iterator[Piece]:
    """Pieces of 3 s of each face, one every half second."""
    tracks: dict[int, list[View]] = {}
    for shown in seen:
        for view in shown:
            tracks.setdefault(view.track_id, []).append(view)
    for track_id, known in tracks.items():
        times_s = np.array([view.time_s for view in known])
        start = times_s[0]
        while start + PIECE_S <= times_s[-1] + 0.05:
            inside = np.flatnonzero((times_s >= start) & (times_s < start + PIECE_S))
            if len(inside) > 0.9 * PIECE_S * len(known) / max(1e-6, times_s[-1] - times_s[0]):
                crops = np.stack([known[index].crop for index in inside])
                yield Piece(track_id, crops, times_s[inside])
            start += STEP_S


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All that is measured, by clip and attack."""
    catalog = Catalog.bundled()
    rows, clean = [], []
    with catalog.open(DETECTOR) as detector, catalog.open(LANDMARKS) as landmarks:

        def seen_in(frames: list[Frame]) -> list[list[View]]:
            tracker = Tracker(FaceDetector(detector), LandmarkDetector(landmarks))
            return list(views(frames, tracker))

        for number, path in enumerate(arguments.clips):
            clip = marked(path, arguments.emotion)
            row: dict[str, Any] = {
                "clip": path.name,
                "psnr_db": round(clip.psnr_db, 2),
                "is_exact": clip.is_exact,
                "cost_ms": np.percentile(clip.cost_ms, [1, 50]).round(3).tolist(),
            }
            for name in arguments.attacks:
                shown = seen_in(attacked(clip, name, number))
                searches = [Search(swings(piece)) for piece in sliding(shown)]
                said = [search(ChipPlan()) for search in searches]
                row[name] = {
                    "pieces": len(said),
                    "right": sum(payload == PAYLOAD for _, payload in said),
                    "wrong": sum(payload not in (PAYLOAD, None) for _, payload in said),
                    "least_pilot": round(min((pilot for pilot, _ in said), default=0.0), 1),
                }
                _say(f"{path.name} {row['psnr_db']} dB, {name}: {row[name]}")
            rows.append(row)
            if arguments.clean:
                clean += list(sliding(seen_in(decoded_frames(path)[0])))
    return {"clips": rows, "clean": false_alarms(clean, arguments.clean)}


def false_alarms(clean: list[Piece], wanted: int) -> dict[str, Any]:
    """What is read from unmarked pieces, with so many seeds that `wanted` are looked at."""
    seeds = range(SEED, SEED + -(-wanted // max(1, len(clean))))
    plans = [ChipPlan(seed) for seed in seeds]
    pilots, alarms = [], 0
    for index, piece in enumerate(clean):
        search = Search(swings(piece))
        for plan in plans:
            pilot, payload = search(plan)
            pilots.append(pilot)
            alarms += payload is not None
        _say(f"clean {index + 1}/{len(clean)}: most {max(pilots):.2f}, alarms {alarms}")
    return {
        "pieces": len(clean),
        "seeds": len(plans),
        "looks": len(pilots),
        "alarms": alarms,
        "pilot": np.percentile(pilots, [50, 99, 99.9, 100]).round(2).tolist() if pilots else [],
    }


def _say(line: str) -> None:
    """Show how far it is."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> None:
    """Measure, and write a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--clean", type=int, default=10_000)
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=ATTACKS)
    arguments = parser.parse_args()
    arguments.out.write_text(json.dumps(measure(arguments), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
