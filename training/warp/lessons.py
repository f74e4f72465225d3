"""What the Emotion Manipulation Mapper does to training faces: lessons for the warp editor.

`python -m mien.training warp-lessons --data DIR --out DIR [--models DIR] [--most N]`. A generator
of 128 pixels draws what an emotion does to a face as a whole: where brows and cheeks go, and how
the light on them changes. Both are taken out of its pictures as the method `emm` takes them
(`mien.runtime.methods.latent.field`): by how much landmarks differ, and what of the skin's
brightness no movement explains. The inside of a mouth is not among them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from mien.engines import LANDMARKS, Catalog, Engine
from mien.engines.face_space import EMM, ENCODER, GENERATOR, LATENT_CLASSIFIER
from mien.runtime.faces.alignment import AlignedFace
from mien.runtime.faces.region import face_region
from mien.runtime.faces.topology import CONTOUR, OUTER_LIPS
from mien.runtime.methods.base import Goal
from mien.runtime.methods.latent.edits import EmotionMapper
from mien.runtime.methods.latent.field import (
    Comparison,
    eyes_region,
    level,
    lips_region,
    skin_light,
)
from mien.runtime.methods.latent.space import FaceSpace, planes_of, resized
from mien.runtime.methods.motion import edge_ramp, moved
from mien.runtime.methods.warp.flow import dense_flow, hold_brows
from mien.runtime.methods.warp.mouth import hold_lips, lips_gap
from mien.runtime.methods.warp.speech import OPENS
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import FACES160, load_crops, write_arrays

# Contempt is not among them: the mapper saw few pictures of it and hardly moves a face.
TAUGHT: Final = EMOTIONS[:7]
SIZE: Final = 64  # cells of the light, a side
FLOW_CELLS: Final = 64
BORDER: Final = 0.1  # of the crop's side, over which the light fades
# Crop units by which lips part more than they may at run time, from which on the light around the
# mouth is left out: it would draw the outline of lips that are not there. And how far around.
PARTED, AROUND_LIPS = 0.03, 0.035
CHIN: Final = CONTOUR[12:21]
EVERY: Final = 200  # faces between two states on disk


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is asked of each face for each emotion of TAUGHT.

    rows: int64 (n,), the face's row in `load_crops`. displacement: float16 (n, 7, 106, 2), crop
    units. light: int8 (n, 7, SIZE, SIZE), 127 times the relative change of brightness.
    """

    rows: np.ndarray
    displacement: np.ndarray
    light: np.ndarray


class Teacher:
    """The mapper with its face space, asked for one face at a time; to be closed."""

    def __init__(self, catalog: Catalog) -> None:
        with ExitStack() as opening:  # what is open is closed where the next does not open

            def opened(name: str) -> Engine:
                return opening.enter_context(catalog.open(name, threads=1))

            self._space = FaceSpace(opened(GENERATOR), opened(ENCODER))
            self._mapper = EmotionMapper(opened(EMM), opened(LATENT_CLASSIFIER))
            self._compare = Comparison(opened(LANDMARKS.name))
            self._opened = opening.pop_all()

    def __enter__(self) -> Teacher:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def size(self) -> int:
        """Pixels a side of the crops that it looks at."""
        return self._space.crop.size

    def __call__(self, pixels: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Displacements (7, 106, 2) and light (7, SIZE, SIZE) of a crop uint8 (s, s)."""
        face = AlignedFace(pixels.astype(np.float32) / 255, np.eye(2, 3), landmarks)
        codes, mapper = self._space.encode(face), self._mapper.new_face()
        edited = [
            mapper(codes, Goal(np.eye(len(EMOTIONS), dtype=np.float32)[index]), 0.0)
            for index in range(len(TAUGHT))
        ]
        pictures = self._space.pictures(np.stack([codes, *edited]))
        found = [
            self._lesson(face, pictures[[0, 1 + place]], OPENS[place])
            for place in range(len(TAUGHT))
        ]
        displacements, lights = zip(*found, strict=True)
        return np.stack(displacements), np.stack(lights)

    def _lesson(
        self, face: AlignedFace, pictures: np.ndarray, opens: float
    ) -> tuple[np.ndarray, np.ndarray]:
        landmarks = face.landmarks
        made = self._compare(pictures, landmarks)
        asked = hold_brows(landmarks, hold_lips(landmarks, made.displacement))
        size = pictures.shape[-1]
        flow = np.stack(
            [cv2.resize(c, (size, size)) for c in dense_flow(landmarks, asked, FLOW_CELLS)]
        )
        rest = (made.after - moved(made.before, flow))[0]
        shown = landmarks + asked
        skin = skin_region(landmarks, shown, size)
        rest -= level(rest[None], skin)[0]
        seen = moved(resized(planes_of(face), size), flow)[0]
        kept = kept_around_lips(landmarks, shown, size, opens)
        light = skin_light(rest, seen, skin) * kept
        small = cv2.resize(light, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return made.displacement, small


def kept_around_lips(before: np.ndarray, after: np.ndarray, size: int, opens: float) -> np.ndarray:
    """How much of the light is kept: less around lips and chin where the mapper parts closed lips.

    before, after: (106, 2), crop units. opens: how much of the opening is shown at run time, 0..1.
    Returns float32 (size, size).
    """
    parted = (lips_gap(after) - lips_gap(before)) * (1 - opens)
    share = float(np.clip(parted / PARTED, 0, 1))
    zone = np.zeros((size, size), np.uint8)
    for points in (before, after):
        places = np.concatenate([points[list(OUTER_LIPS)], points[list(CHIN)]])
        corners = np.round((places * size - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(zone, [cv2.convexHull(corners)], 255, cv2.LINE_AA, 4)
    reach = 2 * max(1, round(AROUND_LIPS * size)) + 1
    wide = cv2.dilate(zone, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    soft = cv2.GaussianBlur(wide.astype(np.float32) / 255, (0, 0), AROUND_LIPS * size / 2)
    kept: np.ndarray = 1 - np.float32(share) * soft
    return kept


def skin_region(before: np.ndarray, after: np.ndarray, size: int) -> np.ndarray:
    """Where light may change: on the face, off lips and eyes, softly: float32 (size, size).

    before, after: (106, 2), the landmarks of the face and of the edited one, crop units.
    """
    region = np.minimum(face_region(before, size), face_region(after, size))
    free = (1 - lips_region(before, after, size)) * (1 - eyes_region(before, after, size))
    shown: np.ndarray = region * edge_ramp(size, BORDER) * free
    return shown.astype(np.float32)


# A crop uint8 (s, s) and its landmarks (106, 2), to its displacements and its light.
Asked = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def make_lessons(teacher: Asked, data: Path, out: Path, *, size: int, most: int) -> Lessons:
    """Lessons of the training people's press pictures, going on where an earlier run stopped.

    size: pixels a side of the crops that the teacher looks at.
    """
    crops = load_crops(data, size, out)
    rows = np.flatnonzero(~crops.validation & (crops.source == FACES160))
    rows = np.random.default_rng(0).permutation(rows)[: most or None]
    done = load_lessons(out)
    made = len(done.rows) if done else 0
    displacements = list(done.displacement) if done else []
    lights = list(done.light) if done else []
    for place in range(made, len(rows)):
        displacement, light = teacher(crops.pixels[rows[place]], crops.landmarks[rows[place]])
        displacements.append(displacement.astype(np.float16))
        lights.append(np.clip(np.round(light * 127), -127, 127).astype(np.int8))
        if (place + 1) % EVERY == 0 or place + 1 == len(rows):
            done = Lessons(rows[: place + 1], np.stack(displacements), np.stack(lights))
            write_arrays(
                out / "lessons.npz", **{name: getattr(done, name) for name in Lessons.__slots__}
            )
            print(f"{place + 1} of {len(rows)} faces", flush=True)
    if done is None:
        raise SystemExit(f"{data} holds no press picture of a training person")
    return done


def load_lessons(folder: Path) -> Lessons | None:
    """The lessons that were made so far, None where there are none."""
    file = folder / "lessons.npz"
    if not file.exists():
        return None
    with np.load(file) as stored:
        return Lessons(**{name: stored[name] for name in Lessons.__slots__})


def main(argv: list[str]) -> None:
    """Make the lessons; see the module."""
    parser = argparse.ArgumentParser(prog="python -m mien.training warp-lessons")
    parser.add_argument("--data", type=Path, required=True, help="the folder of faces160")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="with the networks of emm; else the shipped")
    parser.add_argument("--most", type=int, default=0, help="faces at most")
    args = parser.parse_args(argv)
    catalog = Catalog.load(args.models) if args.models else Catalog.bundled()
    with Teacher(catalog) as teacher:
        make_lessons(teacher, args.data, args.out, size=teacher.size, most=args.most)
