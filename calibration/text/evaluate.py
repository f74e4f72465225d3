"""`mien evaluate text`: how well drawn faces are what was asked for, and how like real ones.

Without data: how often the emotion word is obeyed, and the paper's compound. With captions of real
pictures: R-precision, and the distances to these pictures.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from mien.calibration.judges.classifier import still
from mien.calibration.judges.features import (
    ClassifierFeatures,
    Features,
    InceptionFeatures,
    InputRange,
    fit_gaussian,
    frechet_distance,
)
from mien.calibration.judges.independent import OtherNetworks, Others
from mien.calibration.text.measures import (
    CANDIDATES,
    TOP,
    FaceReader,
    Precision,
    perceptual_distance,
    r_precision,
)
from mien.engines import Catalog, Engine
from mien.engines.errors import ModelError, UsageError
from mien.engines.networks import EMOTION_CLASSIFIER, FER_CLASSES
from mien.engines.text_faces import ENCODER, IMAGE_ENCODER
from mien.runtime.text.faces import TextFaces
from mien.runtime.text.ranking import signed_planes
from mien.runtime.text.sentence import Sentence

COMPOUND: Final = ("happy", "surprised")
COLUMNS: Final = ("caption", "group", "picture")
FEWEST: Final = 20  # captions, for their numbers to say something
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class TextPlan:
    """What is measured.

    models: with the networks. captions: a CSV with the columns caption, group, and picture, whose
    paths begin at its folder; None to measure the emotion words alone. count: faces for each
    emotion. most: captions at most. ranked: of how many faces each is the best; the paper's Table 4
    draws one. others: a second classifier, which no training saw.
    """

    models: Catalog
    captions: Path | None = None
    count: int = 32
    most: int = 30_000
    seed: int = 0
    ranked: int = 1
    provider: str = "cpu"
    inception: Path | None = None
    inception_range: InputRange | None = None
    others: Others | None = None


@dataclass(frozen=True, slots=True)
class TextReport:
    """The numbers, and which network each was computed with.

    obeyed: by emotion, how often the classifier names it first, and obeyed_others how often a
    network of other origin does, empty without one. compound: how often both of COMPOUND are among
    the classifier's first TOP. faceless: pictures in which no face is found; they count as failed.
    The others are None without captions, or without what they are computed with.
    """

    obeyed: dict[str, float]
    obeyed_others: dict[str, float]
    compound: float | None
    faceless: int
    drawn: int
    precision: Precision | None
    distance: tuple[str, float] | None
    perceptual: float | None
    networks: dict[str, str]


@dataclass(frozen=True, slots=True)
class Caption:
    """One row of the captions."""

    sentence: Sentence
    group: str
    picture: Path | None


def measure_text(plan: TextPlan, told: Told) -> TextReport:
    """Measure. told: is given what is done, and how much of it. Raises MienError."""
    networks = {"emotions": EMOTION_CLASSIFIER.name}
    if plan.others is not None:
        networks["emotions_others"] = plan.others.code.stem
    with TextFaces.open(plan.models, provider=plan.provider) as faces:
        rows = [] if plan.captions is None else read_captions(plan.captions, faces, plan.most)
        reader = FaceReader()
        try:
            obeyed = _emotions(plan, faces, reader, told)
            report = TextReport(*obeyed, None, None, None, networks)
            if not rows:
                return report
            made = _drawn(plan, faces, rows, told)
            distance = _distance(plan, reader, rows, made)
        finally:
            reader.close()
    precision, perceptual = _by_encoder(plan, rows, made, networks)
    if distance is not None:
        networks["distance"] = (
            EMOTION_CLASSIFIER.name if plan.inception is None else str(plan.inception.name)
        )
    return replace(report, precision=precision, distance=distance, perceptual=perceptual)


def read_captions(path: Path, faces: TextFaces, most: int) -> list[Caption]:
    """The captions of a CSV. Raises UsageError, also for one that the model cannot read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if not {"caption", "group"} <= set(table.fieldnames or ()):
                raise UsageError(f"{path} needs a header with {', '.join(COLUMNS)}")
            rows = [row for row, _ in zip(table, range(most), strict=False)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the captions {path}: {error}") from error
    if len(rows) < FEWEST:
        raise UsageError(f"{path} has {len(rows)} captions; give at least {FEWEST}")
    found = []
    for number, row in enumerate(rows, 2):
        try:
            sentence = faces.read(row["caption"] or "")
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        picture = path.parent / row["picture"] if row.get("picture") else None
        found.append(Caption(sentence, row["group"] or "", picture))
    return found


def _emotions(
    plan: TextPlan, faces: TextFaces, reader: FaceReader, told: Told
) -> tuple[dict[str, float], dict[str, float], float | None, int, int]:
    """The first fields of a report: what is said of faces of emotion words."""
    known = set(faces.vocabulary.words)
    asked: list[tuple[str, ...]] = [(emotion,) for emotion in FER_CLASSES if emotion in known]
    if known.issuperset(COMPOUND):
        asked.append(COMPOUND)
    if not asked:
        raise UsageError("this model knows no emotion by its word; nothing can be measured")
    shares: dict[tuple[str, ...], float] = {}
    by_others: dict[str, float] = {}
    missed = 0
    with ExitStack() as opened:
        others = None if plan.others is None else opened.enter_context(plan.others.open())
        for words in asked:
            sentence = faces.read(f"a {' and '.join(words)} person")
            hits = other_hits = 0
            for number in range(plan.count):
                told("faces of emotions", number, plan.count)
                seed = plan.seed * 100_003 + number
                picture = faces.draw(sentence, count=plan.ranked, seed=seed)[0].pixels
                seen = reader(picture)
                missed += not seen
                hits += set(words) <= set(seen[: 1 if len(words) == 1 else TOP])
                if others is not None and len(words) == 1:
                    other_hits += _named_by(others, reader, picture) == words[0]
            shares[words] = hits / plan.count
            if others is not None and len(words) == 1:
                by_others[words[0]] = other_hits / plan.count
    compound = shares.pop(COMPOUND, None)
    obeyed = {words[0]: share for words, share in shares.items()}
    return obeyed, by_others, compound, missed, plan.count * len(asked)


def _named_by(others: OtherNetworks, reader: FaceReader, picture: np.ndarray) -> str | None:
    """What a network of other origin sees in a picture, uint8 BGR; None without a face."""
    landmarks = reader.landmarks(picture)
    return None if landmarks is None else others.emotion(still(picture), landmarks)


def _drawn(
    plan: TextPlan, faces: TextFaces, rows: Sequence[Caption], told: Told
) -> list[np.ndarray]:
    """A face for each caption, uint8 BGR."""
    made = []
    for number, row in enumerate(rows):
        told("faces of captions", number, len(rows))
        seed = plan.seed * 100_003 + number
        made.append(faces.draw(row.sentence, count=plan.ranked, seed=seed)[0].pixels)
    return made


def _real(row: Caption) -> np.ndarray:
    """The picture of a caption, uint8 BGR. Raises UsageError."""
    picture = cv2.imread(str(row.picture), cv2.IMREAD_COLOR)
    if picture is None:
        raise UsageError(f"cannot read the picture {row.picture} of a caption")
    return np.asarray(picture)


def _distance(
    plan: TextPlan, reader: FaceReader, rows: Sequence[Caption], made: Sequence[np.ndarray]
) -> tuple[str, float] | None:
    """The Frechet distance to the pictures of the captions; None where there are too few."""
    pairs = [(row, picture) for row, picture in zip(rows, made, strict=True) if row.picture]
    network: Features
    if plan.inception is None:
        network = ClassifierFeatures(Catalog.bundled().entry(EMOTION_CLASSIFIER).path)
    else:
        network = InceptionFeatures(plan.inception, input_range=plan.inception_range)
    if len(pairs) < network.dimensions:
        return None
    sets: list[list[np.ndarray]] = [[], []]
    for row, picture in pairs:
        for held, shown in zip(sets, (_real(row), picture), strict=True):
            seen = _as_seen(network, reader, shown)
            if seen is not None:
                held.append(seen)
    if min(map(len, sets)) < network.dimensions:
        return None
    first, second = (fit_gaussian(np.stack(held)) for held in sets)
    return network.distance_name, frechet_distance(first, second)


def _as_seen(network: Features, reader: FaceReader, picture: np.ndarray) -> np.ndarray | None:
    """The features of a picture; None where they need a face and there is none."""
    if isinstance(network, InceptionFeatures):
        return network.of_colour(picture[..., ::-1].astype(np.float32) / 255)
    crop = reader.crop(picture)
    return None if crop is None else network(crop)


def _by_encoder(
    plan: TextPlan,
    rows: Sequence[Caption],
    made: Sequence[np.ndarray],
    networks: dict[str, str],
) -> tuple[Precision | None, float | None]:
    """R-precision and the perceptual distance, by DAMSM's pair where the models have it."""
    if IMAGE_ENCODER not in {entry.network for entry in plan.models.entries}:
        return None, None
    networks["r_precision"] = f"{ENCODER} and {IMAGE_ENCODER}"
    with (
        plan.models.open(ENCODER, provider=plan.provider) as text,
        plan.models.open(IMAGE_ENCODER, provider=plan.provider) as image,
    ):
        codes: list[np.ndarray] = []
        far: list[float] = []
        for row, picture in zip(rows, made, strict=True):
            found = _encoded(image, picture)
            codes.append(found["code"][0])
            if row.picture is not None:
                real = _encoded(image, _real(row))
                far.append(perceptual_distance(found["regions"][0], real["regions"][0]))
        batch = text.network.inputs[0].shape[0]
        sentences = [
            text.infer({"tokens": np.repeat(row.sentence.tokens, batch, 0)})["sentence"][0]
            for row in rows
        ]
    if far:
        networks["perceptual"] = IMAGE_ENCODER
    groups = [row.group for row in rows]
    if len(set(groups)) < 2:
        raise UsageError("all captions are of one group; R-precision needs others to compare with")
    found_precision = r_precision(np.stack(codes), np.stack(sentences), groups, seed=plan.seed)
    return found_precision, float(np.mean(far)) if far else None


def _encoded(engine: Engine, picture: np.ndarray) -> dict[str, np.ndarray]:
    """The code and the regions of a picture, uint8 BGR. Raises ModelError."""
    batch, _, _, size = engine.network.inputs[0].shape
    planes = signed_planes(picture[..., ::-1], size)
    found = engine.infer({"image": np.repeat(planes[None], batch, 0)})
    if not {"code", "regions"} <= found.keys():
        raise ModelError(f"{IMAGE_ENCODER} gives no code or no regions; export it again")
    return found


def text_lines(report: TextReport) -> str:
    """The report for people, with the network of each number."""
    lines = [f"faces drawn for emotions: {report.drawn}, without a face: {report.faceless}"]
    lines += [
        f"  {emotion}: {share:.2f} named so by {report.networks['emotions']}"
        for emotion, share in report.obeyed.items()
    ]
    if report.obeyed:
        lines.append(f"  mean: {np.mean(list(report.obeyed.values())):.2f}")
    if report.obeyed_others:
        said = ", ".join(f"{name} {share:.2f}" for name, share in report.obeyed_others.items())
        mean = np.mean(list(report.obeyed_others.values()))
        lines.append(f"by {report.networks['emotions_others']}: {said}, mean {mean:.2f}")
    if report.compound is not None:
        lines.append(
            f"{' and '.join(COMPOUND)}: {report.compound:.2f} have both among the first {TOP}"
        )
    if report.precision is not None:
        found = report.precision
        lines.append(
            f"R-precision, 1 of {found.candidates}: {100 * found.mean:.2f} +- "
            f"{100 * found.deviation:.2f} % of {found.pictures} pictures, by "
            f"{report.networks['r_precision']}"
        )
        if found.candidates < CANDIDATES:
            lines.append(f"  the paper's is 1 of {CANDIDATES}; give more captions")
    if report.distance is not None:
        name, value = report.distance
        lines.append(f"{name}: {value:.2f}, by {report.networks['distance']}")
    if report.perceptual is not None:
        lines.append(
            f"LPIPS-like distance: {report.perceptual:.3f}, by {report.networks['perceptual']}"
        )
    return "\n".join(lines)


def json_report(report: TextReport) -> dict[str, object]:
    """The report for JSON; what was not measured is null."""
    precision = report.precision
    return {
        "obeyed": {emotion: round(share, 4) for emotion, share in report.obeyed.items()},
        "obeyed_others": {name: round(s, 4) for name, s in report.obeyed_others.items()},
        "compound": report.compound,
        "drawn": report.drawn,
        "faceless": report.faceless,
        "r_precision": None if precision is None else round(precision.mean, 4),
        "r_precision_deviation": None if precision is None else round(precision.deviation, 4),
        "candidates": None if precision is None else precision.candidates,
        "distance": None if report.distance is None else round(report.distance[1], 4),
        "distance_name": None if report.distance is None else report.distance[0],
        "perceptual": None if report.perceptual is None else round(report.perceptual, 4),
        "networks": report.networks,
    }
