"""Held-out faces as codes of a face space, and what its generator makes of codes.

What is compared are the generator's own pictures, as both papers do: of a face's code, and of the
edited code. Faces are those of people that nothing was trained on, from faces160.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from mien.calibration.judges.classifier import fer_crop, still
from mien.calibration.smile.measure import SeenFace
from mien.calibration.smile.pictures import members, padded, stored_luma
from mien.engines.catalog import Catalog
from mien.engines.engine import Engine
from mien.engines.errors import ModelError, UsageError
from mien.engines.face_space import ENCODER, GENERATOR
from mien.engines.networks import LANDMARKS
from mien.runtime.faces.alignment import AlignedFace, roi_matrix
from mien.runtime.faces.expression import Measures, measure_face
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.filter import Filter
from mien.runtime.frame import Frame
from mien.runtime.luma import align_in_frame
from mien.runtime.methods.latent.field import luma_bytes
from mien.runtime.methods.latent.space import FaceSpace, check_there, planes_of, resized
from mien.runtime.target import ALIASES, EMOTIONS

Tell = Callable[[str, int, int], None]
GENERATED = 16  # codes at once
HELD_OUT = 10  # people whose hash it divides


@dataclass(frozen=True, slots=True)
class SpaceFace:
    """A held-out face as a face space takes it.

    landmarks: float32 (106, 2), units of the method's crop. picture: the face itself in that crop,
    float32 (c, s, s) in [0, 1], as large as the generator's pictures. aligned: what is encoded.
    """

    person: str
    emotion: str
    landmarks: np.ndarray
    picture: np.ndarray
    aligned: AlignedFace


class Finder(Protocol):
    """What is needed of a filter without a target."""

    @property
    def faces(self) -> Sequence[SeenFace]: ...

    def apply(self, frame: Frame) -> Frame: ...

    def reset(self) -> None: ...


class OpenSpace:
    """A face space and the networks opened beside it; a context manager.

    method: for the message where `networks` or the space's own are not in the catalog.
    Raises ModelError, DeviceError.
    """

    def __init__(
        self, catalog: Catalog, method: str, networks: Sequence[str], *, provider: str = "cpu"
    ) -> None:
        check_there(method, (GENERATOR, ENCODER, *networks), catalog)
        self._catalog, self._provider = catalog, provider
        with ExitStack() as opening:
            self._opened = opening
            self._space = FaceSpace(self.open(GENERATOR), self.open(ENCODER))
            self._detect = LandmarkDetector(self.open(LANDMARKS.name))
            self._opened = opening.pop_all()

    def __enter__(self) -> OpenSpace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    @property
    def layers(self) -> int:
        """How many codes a face has."""
        return self._space.layers

    def has(self, network: str) -> bool:
        """Whether the catalog has a network."""
        return any(entry.network == network for entry in self._catalog.entries)

    def open(self, network: str) -> Engine:
        """A network of the catalog, closed with the space. Raises ModelError, DeviceError."""
        return self.keep(self._catalog.open(network, provider=self._provider))

    def keep(self, engine: Engine) -> Engine:
        """An engine that is closed with the space."""
        return self._opened.enter_context(engine)

    def face(self, person: str, emotion: str, frame: Frame, landmarks: np.ndarray) -> SpaceFace:
        """A face in a frame; landmarks: float32 (106, 2) in its pixels."""
        face = align_in_frame(frame, landmarks, self._space.crop)
        picture = resized(planes_of(face), self._space.size)
        return SpaceFace(person, emotion, face.landmarks, picture, face)

    def codes(self, faces: Sequence[SpaceFace]) -> np.ndarray:
        """The codes of faces: float32 (n, layers, width)."""
        return np.stack([self._space.encode(face.aligned) for face in faces])

    def generate(self, codes: np.ndarray) -> np.ndarray:
        """The pictures of codes (n, layers, width): float32 (n, c, s, s) in [0, 1]."""
        parts = [codes[i : i + GENERATED] for i in range(0, len(codes), GENERATED)]
        return np.concatenate([self._space.pictures(part) for part in parts])

    def measures(self, picture: np.ndarray, landmarks: np.ndarray) -> Measures:
        """What a face in a picture does; landmarks: where it is about, crop units."""
        place = roi_matrix(landmarks * picture.shape[-1] - 0.5)
        return measure_face(self._detect(luma_bytes(picture), place).points)


def seen_by_classifier(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A picture (c, s, s) as the emotion classifier takes it: float32 (48, 48).

    Rigid points stay where they are, so the landmarks of a face serve its edits too.
    """
    return fer_crop(luma_bytes(picture), landmarks * picture.shape[-1] - 0.5)


def held_out_faces(
    space: OpenSpace, data: Path, counts: Mapping[str, int], tell: Tell
) -> list[SpaceFace]:
    """Up to so many faces of each emotion: of people of faces160 whose hash divides by ten.

    Always the same ones, from all over the set. Raises UsageError where there is none.
    """
    wanted = _chosen(data, counts)
    faces = []
    with Filter(None, face="largest") as finder:
        for number, (name, luma) in enumerate(_pictures(data, wanted)):
            tell("finding faces", number, len(wanted))
            person, emotion = wanted[name]
            landmarks = _found(finder, frame := still(luma))
            if landmarks is not None:
                faces.append(space.face(person, emotion, frame, landmarks))
    if not faces:
        raise UsageError(
            f"{data} holds no held-out face that is {', '.join(counts)}; give the folder of "
            "faces160"
        )
    return faces


def _chosen(data: Path, counts: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """Person and emotion by file. Whoever has more than one of the emotions comes first."""
    if not (data / "faces160.csv").is_file():
        raise UsageError(f"{data} holds no faces160.csv; give the folder of faces160")
    of_emotion: dict[str, list[tuple[str, str]]] = {emotion: [] for emotion in counts}
    shown: dict[str, set[str]] = {}
    with (data / "faces160.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            emotion = ALIASES.get(row["emotion"], row["emotion"])
            if emotion in of_emotion and int(row["person"], 16) % HELD_OUT == 0:
                of_emotion[emotion].append((row["file"], row["person"]))
                shown.setdefault(row["person"], set()).add(emotion)
    chosen: dict[str, tuple[str, str]] = {}
    for emotion, files in of_emotion.items():
        order = np.random.default_rng(EMOTIONS.index(emotion)).permutation(len(files))
        ranked = sorted(order, key=lambda i: -len(shown[files[i][1]]))
        chosen |= {files[i][0]: (files[i][1], emotion) for i in ranked[: counts[emotion]]}
    return chosen


def _pictures(data: Path, wanted: dict[str, tuple[str, str]]) -> Iterator[tuple[str, np.ndarray]]:
    for name, stored in members(data / "faces160.tar"):
        if name in wanted:
            yield name, padded(stored_luma(stored, f"{name} of faces160.tar"))


def _found(finder: Finder, frame: Frame) -> np.ndarray | None:
    finder.reset()
    finder.apply(frame)
    return finder.faces[0].landmarks if finder.faces else None


def drawn_codes(space: OpenSpace, prior: str, count: int, seed: int = 0) -> np.ndarray:
    """Codes of people that nobody is: `count` draws through a prior, not truncated.

    Raises ModelError where the prior gives other codes than the space takes.
    """
    engine = space.open(prior)
    shape = engine.network.inputs[0].shape
    rng = np.random.default_rng(seed)
    codes = []
    for _ in range(-(-count // shape[0])):
        z = rng.normal(size=shape).astype(np.float32)
        codes.append(engine.infer({"z": z, "psi": np.ones(1, np.float32)})["codes"])
    drawn: np.ndarray = np.concatenate(codes)[:count]
    if drawn.ndim != 3 or drawn.shape[1] != space.layers:
        raise ModelError(
            f"{prior} gives codes {drawn.shape[1:]}, the generator takes {space.layers} layers; "
            "use networks of one face space"
        )
    return drawn
