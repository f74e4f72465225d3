"""What the networks are shown when the filter works on pictures or clips of faces.

The filter itself runs, with catalogs whose engines remember what they were given: calibration sees
exactly what the runtime's own preprocessing makes. Without a folder the bundled sample is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from mien.calibration.clips.edits import CLIP_SUFFIXES
from mien.calibration.judges.classifier import EmotionClassifier, fer_crop
from mien.calibration.tables.thresholds import EDITED
from mien.calibration.text.representative import draw_sentences
from mien.engines.catalog import Catalog
from mien.engines.engine import Engine
from mien.engines.errors import ModelError, UsageError
from mien.engines.network import Network
from mien.engines.networks import DETECTOR, EMOTION_CLASSIFIER, LANDMARKS
from mien.engines.text_faces import TEXT_FACE_NAMES
from mien.runtime.faces.alignment import Crop
from mien.runtime.faces.tracking import Face
from mien.runtime.filter import SETTLE_S, Filter
from mien.runtime.frame import Frame
from mien.runtime.luma import align_in_frame
from mien.runtime.methods import method_spec, method_specs
from mien.runtime.pictures.picture import PICTURE_SUFFIXES, read_picture
from mien.runtime.spec import FilterSpec, named_function
from mien.runtime.target import Target, parse_target
from mien.runtime.video import read_frames

SAMPLE = Path(__file__).parent.parent / "apps" / "sample"
INPUTS = 32  # representative inputs of a network
CLIP_STEP, CLIP_FRAMES = 2, 60  # every second frame of a clip, and no more of them than that
STILL_PASSES = 3  # a picture is shown this often, a second apart, so that all easing ends
FRAMES_AN_EMOTION = 15
MOST_FRAMES = 900
Feeds = dict[str, np.ndarray]
Clip = list[Frame]


@dataclass(frozen=True, slots=True)
class Edited:
    """A frame, its edit, what was asked for, and the faces that the filter saw in it.

    is_settled: whether that was asked for so long that the face has come to show it.
    """

    source: Frame
    edited: Frame
    emotion: str
    faces: tuple[Face, ...]
    is_settled: bool


@dataclass(frozen=True, slots=True)
class RememberingCatalog(Catalog):
    """A catalog whose engines keep what they are given, in `seen`, by network."""

    seen: dict[str, list[Feeds]] = field(default_factory=dict)

    def open(
        self, network: Network | str, *, provider: str = "cpu", threads: int | None = None
    ) -> Engine:
        """An engine, as of `Catalog`."""
        engine = Catalog.open(self, network, provider=provider, threads=threads)
        return _RememberingEngine(engine, self.seen.setdefault(engine.network.name, []))


class _RememberingEngine(Engine):
    def __init__(self, engine: Engine, seen: list[Feeds]) -> None:
        super().__init__(engine.network, engine.provider, engine.metadata)
        self._engine = engine
        self._seen = seen

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        self._seen.append({name: value.copy() for name, value in feeds.items()})
        return self._engine.infer(feeds)

    def _release(self) -> None:
        self._engine.close()


def read_clips(data: Path | None) -> list[Clip]:
    """The clips and pictures of a folder (or the one file) as frames; None is the bundled sample.

    Raises UsageError where there are none, VideoError for one that cannot be read.
    """
    folder = SAMPLE if data is None else data
    if not folder.exists():
        raise UsageError(f"no such folder: {folder}; give one with pictures or clips of faces")
    files = [folder] if folder.is_file() else sorted(p for p in folder.iterdir() if p.is_file())
    clips: list[Clip] = []
    for file in files:
        if file.suffix.lower() in CLIP_SUFFIXES:
            clips.append(
                list(itertools.islice(read_frames(file), 0, None, CLIP_STEP))[:CLIP_FRAMES]
            )
        elif file.suffix.lower() in PICTURE_SUFFIXES:
            still = read_picture(file).frame
            passes = range(STILL_PASSES)
            clips.append([replace(still, pts=n, time_base=Fraction(1)) for n in passes])
        if sum(map(len, clips)) > MOST_FRAMES:
            break
    if not clips:
        raise UsageError(f"{folder} holds no picture or clip; give a folder with faces")
    return clips


def ways_of(network: str) -> list[FilterSpec]:
    """How the filter may come to use a network. Raises ModelError where it does not."""
    if network in {known.name for known in (DETECTOR, LANDMARKS, EMOTION_CLASSIFIER)}:
        return [FilterSpec()]
    ways = []
    for name, spec in method_specs().items():
        chosen = {o.name: o.values or o.chooses for o in spec.options if o.values or o.chooses}
        for values in itertools.product(*chosen.values()):
            told = dict(zip(chosen, values, strict=True))
            if network in spec.networks_for(told):
                ways.append(FilterSpec(name, tuple(sorted(told.items()))))
    if not ways:
        raise ModelError(
            f"no part of the filter uses a network {network!r}; nothing can be measured"
        )
    return ways


def filter_of(way: FilterSpec, catalog: Catalog) -> Filter:
    """The filter of a way on the networks of a catalog. Raises MienError."""
    return Filter(None, method=way.method, models=catalog, **way.told)


def edits(clips: Sequence[Clip], way: FilterSpec, catalog: Catalog) -> Iterator[Edited]:
    """Every frame of every clip, edited; what is asked for changes every few frames."""
    with filter_of(way, catalog) as face_filter:
        targets = reachable(face_filter)
        turns = itertools.cycle(targets)
        for clip in clips:
            face_filter.reset()
            for index, frame in enumerate(clip):
                if index % FRAMES_AN_EMOTION == 0:
                    emotion = next(turns)
                    face_filter.target = targets[emotion]
                    asked_s = frame.time_s or 0.0
                edited = face_filter.apply(frame)
                is_settled = (frame.time_s or 0.0) - asked_s >= SETTLE_S
                yield Edited(frame, edited, emotion, face_filter.faces, is_settled)


def reachable(face_filter: Filter) -> dict[str, Target]:
    """The emotions that a filter's method can reach."""
    found = {}
    for emotion in EDITED:
        with suppress(UsageError):
            face_filter.target = parse_target(emotion)
            found[emotion] = parse_target(emotion)
    if not found:
        raise UsageError("the generator reaches none of the emotions; check its labels")
    return found


def _of_sentences(network: str, catalog: Catalog, count: int) -> list[Feeds]:
    """Inputs of a network that draws faces from text, while sentences of its words are drawn."""
    remembering = RememberingCatalog(catalog.entries)
    draw_sentences(remembering, count)
    return remembering.seen[network][:count]


def _is_whole(way: FilterSpec, catalog: Catalog) -> bool:
    """Whether a catalog has all networks of a way."""
    there = {entry.network for entry in catalog.entries}
    return there.issuperset(method_spec(way.method).networks_for(way.told))


def representative_inputs(
    network: str, clips: Sequence[Clip], catalog: Catalog, count: int = INPUTS
) -> list[Feeds]:
    """Inputs of a network, evenly from all it is given while `clips` are edited.

    Raises ModelError, UsageError where the clips show it nothing: they hold no face.
    """
    if network in TEXT_FACE_NAMES:
        return _of_sentences(network, catalog, count)
    # One whose networks are all there: a generator may serve a method that lacks another.
    (way, *_) = sorted(ways_of(network), key=lambda way: not _is_whole(way, catalog))
    remembering = RememberingCatalog(catalog.entries)
    if network == EMOTION_CLASSIFIER.name:
        classifier = EmotionClassifier(remembering.open(EMOTION_CLASSIFIER))
        for edit in edits(clips, way, catalog):
            for face in edit.faces:
                classifier(fer_crop(edit.edited, face.landmarks))
    elif show := dict(method_spec(way.method).shown_alone).get(network):
        engine, show_face = remembering.open(network), named_function(show)
        for edit in edits(clips, FilterSpec(), catalog):
            for face in edit.faces:
                crop = align_in_frame(edit.source, face.landmarks, Crop(64))
                show_face(engine, edit.source, crop)
    else:
        for _ in edits(clips, way, remembering):
            pass
    seen = remembering.seen.get(network, [])
    if not seen:
        raise UsageError(
            f"nothing in the pictures and clips makes the filter use {network!r}; "
            "give a folder with faces that can be seen plainly"
        )
    step = max(1, len(seen) // count)
    return seen[::step][:count]
