"""Tables I to V of "My Emotion on your face": what else changes where an attribute is changed.

Every face is brought to 0 and to 1 of each attribute, by what a regressor reads in it, and the two
pictures are compared: the other attributes by the regressor (Tables I to IV, divided by what the
attribute itself changed), the emotions by a classifier (Table V). A second matrix of directions,
trained without the landmarks' loss (HFLD), is measured beside the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np

from mien.calibration.judges.classifier import EmotionClassifier
from mien.calibration.latent.faces import (
    OpenSpace,
    Tell,
    drawn_codes,
    held_out_faces,
    seen_by_classifier,
)
from mien.calibration.smile.rows import classifier_of
from mien.calibration.tables.machine import machine_line
from mien.calibration.tables.table import markdown
from mien.engines.catalog import Catalog
from mien.engines.engine import Engine
from mien.engines.errors import ModelError
from mien.engines.face_space import DIRECTIONS, PRIOR, REGRESSOR
from mien.engines.networks import FER_CLASSES
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.runtime.methods.latent.space import stated_words
from mien.runtime.target import EMOTIONS

LEAST_REACHED: Final = 0.05  # of an attribute's change, where others are divided by it
# Table V of the paper: emotion scores of DeepFace in percent, without and with HFLD.
REPORTED: Mapping[str, Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "male": MappingProxyType(
            {"angry": (11.17, 8.66), "disgusted": (0.57, 0.51), "fearful": (7.52, 5.31),
             "happy": (14.38, 10.17), "sad": (20.57, 16.02), "surprised": (0.99, 0.81),
             "neutral": (15.44, 13.58)}
        ),
        "bald": MappingProxyType(
            {"angry": (16.85, 14.33), "disgusted": (0.74, 0.65), "fearful": (8.65, 8.35),
             "happy": (21.36, 16.56), "sad": (28.07, 24.70), "surprised": (1.39, 1.04),
             "neutral": (24.19, 22.03)}
        ),
        "black_hair": MappingProxyType(
            {"angry": (12.46, 9.81), "disgusted": (0.33, 0.26), "fearful": (7.38, 5.96),
             "happy": (24.62, 12.47), "sad": (25.69, 19.14), "surprised": (1.29, 0.87),
             "neutral": (21.17, 14.95)}
        ),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DirectionsPlan:
    """What is to be measured.

    count: faces. baseline: an ONNX file of directions without HFLD. drawn: people that the prior
    draws, as in the paper, instead of held-out ones.
    """

    data: Path
    count: int = 200
    baseline: Path | None = None
    classifier: Path | None = None
    drawn: bool = False
    models: Path | None = None
    provider: str = "cpu"


@dataclass(frozen=True, slots=True)
class AttributeScore:
    """What changes where one attribute goes from 0 to 1.

    reached: the mean change of the attribute itself. ratios: of the others, the mean absolute
    change by that. emotions: mean absolute change of each emotion's probability, in percent.
    """

    attribute: str
    reached: float
    ratios: Mapping[str, float]
    emotions: Mapping[str, float]

    @property
    def disturbance(self) -> float:
        """The mean of the emotions' changes, in percent."""
        return float(np.mean(list(self.emotions.values())))


@dataclass(frozen=True, slots=True)
class DirectionsReport:
    """A table of each matrix by its name: `with HFLD`, and `without HFLD` where it was given."""

    faces: int
    tables: Mapping[str, tuple[AttributeScore, ...]]
    networks: Mapping[str, str]
    machine: str


class AttributeReader:
    """Reads attributes in pictures. names: of them, as the graph states. Raises ModelError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.names = stated_words(engine.metadata, "attributes")
        self._shape = engine.network.inputs[0].shape
        given = engine.network.outputs[0].shape[-1]
        if len(self.names) != given:
            raise ModelError(
                f"{engine.network.name} gives {given} attributes and names {len(self.names)}; "
                "export it again with --attributes"
            )

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """The attributes of a picture (c, s, s) in [0, 1]: float32 (k,), within [0, 1]."""
        channels, height, width = self._shape[1:]
        planes = picture.mean(0, keepdims=True) if channels == 1 else picture
        sized = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in planes]
        shown = np.broadcast_to(np.stack(sized), self._shape)
        read = self._engine.infer({"image": (2 * shown - 1).astype(np.float32)})["attributes"][0]
        kept: np.ndarray = read.clip(0, 1)
        return kept


def measure_directions(plan: DirectionsPlan, tell: Tell) -> DirectionsReport:
    """The report of the directions in the catalog. Raises MienError."""
    catalog = Catalog.bundled() if plan.models is None else Catalog.load(plan.models)
    judge = plan.classifier or classifier_of(catalog)
    with OpenSpace(catalog, "directions", (DIRECTIONS, REGRESSOR), provider=plan.provider) as space:
        reader, classifier = AttributeReader(space.open(REGRESSOR)), EmotionClassifier.load(judge)
        walks = {"with HFLD": space.open(DIRECTIONS)}
        if plan.baseline is not None:
            walks["without HFLD"] = space.keep(OnnxRuntimeEngine(plan.baseline, DIRECTIONS))
        check_walks(walks, reader.names, space.layers)
        counts = dict.fromkeys(EMOTIONS, -(-plan.count // len(EMOTIONS)))
        faces = held_out_faces(space, plan.data, counts, tell)
        places = [face.landmarks for face in faces]
        if plan.drawn:
            codes = drawn_codes(space, PRIOR, plan.count)
            places = [np.mean(places, axis=0).astype(np.float32)] * len(codes)
        else:
            codes = space.codes(faces)
        tables = {}
        for name, walk in walks.items():
            table = []
            for place, attribute in enumerate(reader.names):
                tell(f"directions {name}", place, len(reader.names))
                ends = both_ends(space, reader, walk, (codes, place))
                table.append(score(attribute, reader, classifier, (ends, places)))
            tables[name] = tuple(table)
    networks = {"attributes": REGRESSOR, "emotions": judge.name}
    networks["faces"] = PRIOR if plan.drawn else "held-out people of faces160"
    return DirectionsReport(len(codes), tables, networks, machine_line())


def check_walks(walks: Mapping[str, Engine], names: Sequence[str], layers: int) -> None:
    """Raise ModelError where directions are of other attributes than are read, or other codes."""
    for name, walk in walks.items():
        stated = stated_words(walk.metadata, "attributes")
        if stated != tuple(names):
            raise ModelError(
                f"the directions {name} are of {', '.join(stated) or 'no attributes'}, the "
                f"regressor reads {', '.join(names)}; use networks that were trained together"
            )
        found = walk.network.inputs[0].shape[1]
        if found != layers:
            raise ModelError(
                f"the directions {name} move codes of {found} layers, the encoder gives {layers}; "
                "use networks of one face space"
            )


def both_ends(
    space: OpenSpace, reader: AttributeReader, walk: Engine, asked: tuple[np.ndarray, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of codes at 0 and at 1 of an attribute: float32 (n, c, s, s) each.

    asked: codes (n, layers, width) and the attribute's place. Each code is moved by what the
    regressor reads as missing, once: w' = w + T (a - R(G(w))).
    """
    codes, place = asked
    own = np.array([reader(picture)[place] for picture in space.generate(codes)])
    ends = []
    for wanted in (0.0, 1.0):
        moved = [
            moved_by(walk, code, place, wanted - by) for code, by in zip(codes, own, strict=True)
        ]
        ends.append(space.generate(np.stack(moved)))
    return ends[0], ends[1]


def moved_by(walk: Engine, code: np.ndarray, place: int, amount: float) -> np.ndarray:
    """A code (layers, width) moved along one direction."""
    batch, count = walk.network.inputs[1].shape
    steps = np.zeros((batch, count), np.float32)
    steps[:, place] = amount
    feeds = {
        "codes": np.repeat(code[None], batch, 0).astype(np.float32),
        "steps": steps,
        "mask": np.ones(len(code), np.float32),
    }
    edited: np.ndarray = walk.infer(feeds)["edited"][0]
    return edited


def score(
    attribute: str,
    reader: AttributeReader,
    classifier: EmotionClassifier,
    shown: tuple[tuple[np.ndarray, np.ndarray], Sequence[np.ndarray]],
) -> AttributeScore:
    """What differs between pictures at 0 and at 1. shown: these, and each face's landmarks."""
    ends, places = shown
    read = [np.array([reader(picture) for picture in pictures]) for pictures in ends]
    seen = [
        np.array(
            [classifier(seen_by_classifier(p, at)) for p, at in zip(pictures, places, strict=True)]
        )
        for pictures in ends
    ]
    place = reader.names.index(attribute)
    reached = float((read[1] - read[0])[:, place].mean())
    apart = np.abs(read[1] - read[0]).mean(0) / max(reached, LEAST_REACHED)
    moods = 100 * np.abs(seen[1] - seen[0]).mean(0)
    ratios = {name: float(apart[i]) for i, name in enumerate(reader.names) if i != place}
    return AttributeScore(
        attribute, reached, ratios, dict(zip(FER_CLASSES, map(float, moods), strict=True))
    )


def text_report(report: DirectionsReport) -> str:
    """The tables of ratios, the table of emotions with the paper's, and what they are."""
    names = [row.attribute for row in next(iter(report.tables.values()))]
    parts = []
    for title, table in report.tables.items():
        rows = [
            (row.attribute, f"{row.reached:.2f}", *(_ratio(row, name) for name in names))
            for row in table
        ]
        parts.append(markdown((f"change, {title}", "reached", *names), rows))
    parts.append(markdown(("emotions, %", "", *FER_CLASSES, "mean"), _emotion_rows(report)))
    told, by = f"{report.faces} faces, {report.networks['faces']}", report.networks
    notes = [
        f"{told}. reached: how much the attribute itself changed, of 1.",
        "Others: mean absolute change by that. Emotions: mean absolute change of the probability.",
        f"Attributes by {by['attributes']}, emotions by {by['emotions']}; the paper's by DeepFace.",
        *_less(report),
        f"Measured on {report.machine}.",
    ]
    return "\n\n".join([*parts, "\n".join(notes)])


def _ratio(row: AttributeScore, name: str) -> str:
    return "" if name == row.attribute else f"{row.ratios[name]:.2f}"


def _emotion_rows(report: DirectionsReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for title, table in report.tables.items():
        for row in table:
            cells = [f"{row.emotions[e]:.2f}" for e in FER_CLASSES]
            rows.append((row.attribute, title, *cells, f"{row.disturbance:.2f}"))
    for attribute, by_emotion in REPORTED.items():
        for column, title in enumerate(("without HFLD", "with HFLD")):
            values = [by_emotion[e][column] for e in FER_CLASSES]
            cells = [f"{value:.2f}" for value in values]
            mean = f"{np.mean(values):.2f}"
            rows.append((f"paper, {attribute}", title, *cells, mean))
    return rows


def disturbance_saved(report: DirectionsReport) -> float | None:
    """By how much less emotions change with HFLD than without, a share; None without a baseline.

    The mean over attributes of each one's disturbance by what it reached, since a matrix that does
    less disturbs less.
    """
    if len(report.tables) < 2:
        return None
    means = [
        float(np.mean([row.disturbance / max(row.reached, LEAST_REACHED) for row in table]))
        for table in (report.tables["with HFLD"], report.tables["without HFLD"])
    ]
    return 1 - means[0] / max(means[1], 1e-9)


def _less(report: DirectionsReport) -> list[str]:
    saved = disturbance_saved(report)
    if saved is None:
        return []
    return [f"Emotions change {100 * saved:.0f} % less with HFLD, by what is reached."]


def json_report(report: DirectionsReport) -> dict[str, object]:
    """The report for JSON."""
    tables = {
        name: [
            {
                **asdict(row),
                "ratios": dict(row.ratios),
                "emotions": dict(row.emotions),
                "disturbance": row.disturbance,
            }
            for row in table
        ]
        for name, table in report.tables.items()
    }
    return {
        "faces": report.faces,
        "tables": tables,
        "disturbance_saved": disturbance_saved(report),
        "networks": dict(report.networks),
        "machine": report.machine,
    }
