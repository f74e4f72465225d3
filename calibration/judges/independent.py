"""What networks of other origin see in edits: the emotion, and whether it is the same person.

`python -m mien.calibration.judges.independent --data DIR [--clips DIR [CLIP...]] --judges-code FILE
--judges ROOT --out report.json`. FILE and ROOT are the user's own (see `independent_worker`):
face-api's expression network, trained on other pictures than FER-2013, and dlib's identity
embedding. Nothing here is trained with them; docs/quality.md says which settings were chosen with
an eye on what they say.
"""

from __future__ import annotations

import argparse
import itertools
import json
import struct
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from mien.calibration.clips.edits import (
    Editor,
    add_method_option,
    add_models_option,
    all_clips,
    default_editors,
    edit_frames,
)
from mien.calibration.judges.facemesh import end_process
from mien.calibration.judges.named_emotion import CLIP_STEP, pictures
from mien.calibration.tables.sheet import rgb_picture
from mien.calibration.tables.thresholds import EDITED
from mien.engines.errors import EngineError, UsageError
from mien.engines.system.process import this_python
from mien.runtime.faces.alignment import fer_matrix, sample_crop
from mien.runtime.frame import Frame
from mien.runtime.video import read_frames
from mien.runtime.whole_file import write_whole

EXPRESSION, IDENTITY = 0, 1  # as the worker numbers them
SIDES = (112, 150)  # pixels of each network's picture
MARGINS = (0.1, 0.12)  # around the tight crop of a face, of its side: what a detector's box shows
SAME_PERSON = 0.6  # embeddings nearer than that are one person's, as dlib states it
ENDED = "the networks of other origin ended; check --judges-code, --judges and --judges-python"


class OtherNetworks(Protocol):
    """What is needed of `IndependentNetworks`."""

    def emotion(self, frame: Frame, landmarks: np.ndarray) -> str:
        """The likeliest emotion, in mien's words."""

    def identity(self, frame: Frame, landmarks: np.ndarray) -> np.ndarray:
        """An embedding of the person, float32 (128,)."""


@dataclass(frozen=True, slots=True)
class Others:
    """Where both networks are; see `IndependentNetworks`."""

    python: Path
    code: Path
    root: Path

    def open(self) -> IndependentNetworks:
        """Start them. Raises UsageError where they do not start."""
        return IndependentNetworks(self.python, self.code, self.root)


class IndependentNetworks:
    """Both networks, in a process of their own; a context manager.

    python: of an environment with torch. code, root: as of `independent_worker`.
    Raises UsageError where it does not start.
    """

    def __init__(self, python: Path, code: Path, root: Path) -> None:
        worker = Path(__file__).with_name("independent_worker.py")
        for path in (code, root):
            if not path.exists():
                raise UsageError(f"{path} does not exist; give --judges-code FILE --judges ROOT")
        try:
            self._process = subprocess.Popen(
                [str(python), str(worker), str(code.resolve()), str(root.resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            raise UsageError(
                f"cannot start {python}: {error.strerror}; give --judges-python, of an "
                "environment with torch"
            ) from error
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first:
            self.close()
            raise UsageError(ENDED)
        self._names: list[str] = json.loads(first)

    def __enter__(self) -> IndependentNetworks:
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

    def emotion(self, frame: Frame, landmarks: np.ndarray) -> str:
        """The likeliest emotion. Raises EngineError."""
        return self._names[int(self._ask(EXPRESSION, frame, landmarks).argmax())]

    def identity(self, frame: Frame, landmarks: np.ndarray) -> np.ndarray:
        """The embedding, float32 (128,). Raises EngineError."""
        return self._ask(IDENTITY, frame, landmarks)

    def _ask(self, which: int, frame: Frame, landmarks: np.ndarray) -> np.ndarray:
        side = SIDES[which]
        matrix = wide_matrix(landmarks, side, MARGINS[which])
        crop = sample_crop(rgb_picture(frame), matrix, side)
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        try:
            sink.write(struct.pack("<II", which, side) + np.ascontiguousarray(crop).tobytes())
            sink.flush()
            header = source.read(4)
            count = struct.unpack("<I", header)[0] if len(header) == 4 else 0
            data = source.read(4 * count)
        except OSError as error:
            raise EngineError(ENDED) from error
        if not count or len(data) < 4 * count:
            raise EngineError(ENDED)
        return np.frombuffer(data, "<f4").astype(np.float32)


def wide_matrix(landmarks: np.ndarray, side: int, margin: float) -> np.ndarray:
    """A face's tight crop with `margin` of its side around it: float32 (2, 3), crop from frame."""
    tight = fer_matrix(landmarks, side).astype(np.float64)
    scale = 1 / (1 + 2 * margin)
    tight[:, 2] += 0.5 + margin * side
    wide: np.ndarray = tight * scale
    wide[:, 2] -= 0.5
    return wide.astype(np.float32)


@dataclass(slots=True)
class Seen:
    """What the networks see in edits, gathered picture by picture.

    named: by what was asked for (`source` for the unedited face), how often what was named.
    distances: between the identities of source and edit. neighbours: by what was asked for, the
        likeness (cosine) of each pair of neighbouring frames.
    faces: looked at. missed: pictures in which the filter found no face; they count as failed.
    """

    named: dict[str, Counter[str]] = field(default_factory=dict)
    distances: dict[str, list[float]] = field(default_factory=dict)
    neighbours: dict[str, list[float]] = field(default_factory=dict)
    faces: int = 0
    missed: int = 0

    def expressions(self) -> dict[str, object]:
        """Shares named as asked and the confusion matrix, for JSON."""
        asked = [e for e in self.named if e != "source"]
        shown = max(1, self.faces + self.missed)
        accuracy = {e: round(self.named[e][e] / shown, 4) for e in asked}
        classes = sorted({name for said in self.named.values() for name in said})
        return {
            "faces": self.faces,
            "missed": self.missed,
            "accuracy": accuracy,
            "mean": round(float(np.mean(list(accuracy.values()))), 4) if accuracy else None,
            "classes": classes,
            "confusion": {a: [said[c] for c in classes] for a, said in self.named.items()},
        }

    def identities(self) -> dict[str, object]:
        """By emotion: share that is the same person, median distance, calm; for JSON."""
        source = self.neighbours.get("source", [])
        return {
            emotion: {
                "pictures": len(distances),
                "same_person": round(same_person(distances), 4),
                "median_distance": round(float(np.median(distances)), 4),
                "calm": identity_calm(source, self.neighbours.get(emotion, [])),
            }
            for emotion, distances in self.distances.items()
            if distances
        }


def same_person(distances: Sequence[float]) -> float:
    """The share of distances that are one person's."""
    return float(np.mean(np.asarray(distances) < SAME_PERSON))


def identity_calm(source: Sequence[float], edited: Sequence[float]) -> float | None:
    """Mean likeness of neighbouring frames of the edit by that of the source; None without any."""
    if not source or not edited:
        return None
    return round(float(np.mean(edited) / np.mean(source)), 5)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine between two embeddings."""
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def look_at_emotions(
    sequences: Iterable[Iterable[Frame]],
    networks: OtherNetworks,
    editors: Mapping[str, Editor],
    *,
    step: int = 1,
) -> Seen:
    """Emotions and identities in every `step`-th frame of each sequence, and in its edits."""
    seen = Seen({asked: Counter() for asked in ("source", *editors)}, {e: [] for e in editors})
    for sequence in sequences:
        for edit in itertools.islice(edit_frames(sequence, editors), step - 1, None, step):
            if edit.landmarks is None:
                seen.missed += 1
                continue
            seen.faces += 1
            # Rigid points stay where they are, so one place serves the face and its edits.
            place = edit.landmarks
            own = networks.identity(edit.source, place)
            seen.named["source"][networks.emotion(edit.source, place)] += 1
            for asked, frame in edit.edited.items():
                seen.named[asked][networks.emotion(frame, place)] += 1
                distance = np.linalg.norm(networks.identity(frame, place) - own)
                seen.distances[asked].append(float(distance))
    return seen


def look_at_neighbours(
    clip: Iterable[Frame], networks: OtherNetworks, editors: Mapping[str, Editor]
) -> Seen:
    """Identities in every frame of a clip and its edits, and how calm they are."""
    asked = ("source", *editors)
    seen = Seen(distances={e: [] for e in editors}, neighbours={e: [] for e in asked})
    last: dict[str, np.ndarray] = {}
    for edit in edit_frames(clip, editors):
        if edit.landmarks is None:
            seen.missed += 1
            last = {}
            continue
        seen.faces += 1
        frames = {"source": edit.source, **edit.edited}
        now = {name: networks.identity(frame, edit.landmarks) for name, frame in frames.items()}
        for name, identity in now.items():
            if name in last:
                seen.neighbours[name].append(likeness(last[name], identity))
            if name != "source":
                seen.distances[name].append(float(np.linalg.norm(identity - now["source"])))
        last = now
    return seen


def main(argv: Sequence[str] | None = None) -> None:
    """Measure edits with networks of other origin; see the module."""
    parser = argparse.ArgumentParser(
        prog="mien.calibration.judges.independent", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of faces160")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="folders, or clips")
    parser.add_argument("--judges-code", type=Path, required=True, help="a Python file")
    parser.add_argument("--judges", type=Path, required=True, help="the folder of its weights")
    parser.add_argument("--judges-python", type=Path, default=this_python())
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--frames", type=int, help="only the first frames of each clip")
    parser.add_argument("--out", type=Path, required=True)
    add_models_option(parser)
    add_method_option(parser)
    options = parser.parse_args(argv)
    editors = default_editors(EDITED, options.models, options.method)
    clips = all_clips(options.clips)
    with IndependentNetworks(
        options.judges_python, options.judges_code, options.judges
    ) as networks:
        faces = look_at_emotions(pictures(options.data, options.count), networks, editors)
        expressions = {"held_out": faces.expressions()}
        identities = {"held_out": faces.identities()}
        if clips:
            sequences = (itertools.islice(read_frames(path), options.frames) for path in clips)
            seen = look_at_emotions(sequences, networks, editors, step=CLIP_STEP)
            expressions["clips"] = seen.expressions()
        for path in clips:
            frames = itertools.islice(read_frames(path), options.frames)
            identities[path.stem] = look_at_neighbours(frames, networks, editors).identities()
    told = {"expressions": expressions, "identity": identities}
    write_whole(options.out, (json.dumps(told, indent=1) + "\n").encode(), overwrite=True)


if __name__ == "__main__":
    main()
