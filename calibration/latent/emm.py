"""Table 1 of the mapper's paper: seven measures of generated faces that were given an emotion.

The paper trains on CelebA-HQ and measures on RaFD, where everybody shows every emotion. Here faces
of held-out people of one emotion are given each other one; what the paper compares with a picture
of the target emotion is compared with one of the same person, for those who have one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from mien.calibration.judges.features import fit_gaussian, frechet_distance
from mien.calibration.latent.faces import (
    OpenSpace,
    SpaceFace,
    Tell,
    held_out_faces,
    seen_by_classifier,
)
from mien.calibration.latent.measures import Instruments, OwnNetworks, ms_ssim, open_instruments
from mien.calibration.tables.machine import machine_line
from mien.calibration.tables.table import markdown
from mien.engines.catalog import Catalog
from mien.engines.errors import UsageError
from mien.engines.face_space import EMM, LATENT_CLASSIFIER
from mien.engines.networks import FER_CLASSES
from mien.runtime.methods.base import Goal
from mien.runtime.methods.latent.edits import EmotionMapper
from mien.runtime.target import EMOTIONS

REAL: Final = 400  # held-out faces of each target at most, to compare with
COLUMNS: Final = ("FID", "LPIPS", "MS-SSIM", "IP", "CS", "AUs", "ED")
# Table 1 and 2 of the paper, on RaFD.
REPORTED: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "StyleMC": (91.594, 0.432, 0.603, 0.392, 0.578, 0.228, 0.725),
        "TediGAN": (87.601, 0.414, 0.737, 0.369, 0.649, 0.224, 0.764),
        "StyleCLIP": (86.858, 0.415, 0.778, 0.378, 0.649, 0.217, 0.722),
        "EMM": (88.688, 0.288, 0.755, 0.425, 0.655, 0.216, 0.830),
    }
)
DEFINITIONS: Mapping[str, str] = MappingProxyType(
    {
        "FID": "Frechet distance between all edits and real held-out faces of their emotions",
        "LPIPS": "distance between an edit and the generator's picture of the unedited code",
        "MS-SSIM": "of an edit and a real picture of the same person under the target emotion",
        "IP": "cosine of the identities of these two",
        "CS": 'cosine of an edit and the text "an emotion of ..."',
        "AUs": "mean absolute difference of the facial actions of edit and real picture",
        "ED": "share of the edits in which a classifier sees the target emotion",
    }
)

Edit = Callable[[np.ndarray, str], np.ndarray]  # a code (layers, width) and an emotion to a code


@dataclass(frozen=True, slots=True)
class EmmPlan:
    """What is to be measured. count: faces of the source that are edited."""

    data: Path
    source: str = "neutral"
    count: int = 60
    own: OwnNetworks = field(default_factory=OwnNetworks)
    models: Path | None = None
    provider: str = "cpu"


@dataclass(frozen=True, slots=True)
class EmmScore:
    """The seven measures of one target, or of all together.

    edits: how many. pairs: of them, with a real picture of the same person. A value is None where
    nothing says it: no pair, no text tower, too few pictures, a classifier without the emotion.
    """

    target: str
    edits: int
    pairs: int
    values: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class EmmReport:
    """All rows, the last one of all targets. networks: what computed each measure."""

    source: str
    rows: tuple[EmmScore, ...]
    networks: Mapping[str, str]
    machine: str


def measure_emm(plan: EmmPlan, tell: Tell) -> EmmReport:
    """The report of the mapper in the catalog. Raises MienError."""
    if plan.source not in EMOTIONS:
        raise UsageError(f"unknown emotion {plan.source!r} (known: {', '.join(EMOTIONS)})")
    catalog = Catalog.bundled() if plan.models is None else Catalog.load(plan.models)
    with OpenSpace(catalog, "emm", (EMM, LATENT_CLASSIFIER), provider=plan.provider) as space:
        mapper = EmotionMapper(space.open(EMM), space.open(LATENT_CLASSIFIER))
        targets = [e for e in EMOTIONS if e in mapper.targets and e != plan.source]
        instruments = open_instruments(plan.own, space, catalog)
        counts = dict.fromkeys(targets, max(plan.count, REAL)) | {plan.source: plan.count}
        faces = held_out_faces(space, plan.data, counts, tell)
        sources = [face for face in faces if face.emotion == plan.source]
        if not sources:
            raise UsageError(f"{plan.data} holds no held-out {plan.source} face; choose --source")
        rows = score_edits(space, instruments, edit_of(mapper), (sources, faces, targets), tell)
    return EmmReport(plan.source, tuple(rows), instruments.names, machine_line())


def edit_of(mapper: EmotionMapper) -> Edit:
    """What the mapper makes of codes that it has not seen before, at full strength."""

    def edit(code: np.ndarray, target: str) -> np.ndarray:
        weights = np.zeros(len(EMOTIONS), np.float32)
        weights[EMOTIONS.index(target)] = 1
        return mapper.new_face()(code, Goal(weights), 0.0)

    return edit


def score_edits(
    space: OpenSpace,
    instruments: Instruments,
    edit: Edit,
    asked: tuple[Sequence[SpaceFace], Sequence[SpaceFace], Sequence[str]],
    tell: Tell,
) -> list[EmmScore]:
    """A row for each target and one for all.

    asked: the faces to edit, all real faces there are, and the targets.
    """
    sources, faces, targets = asked
    codes = space.codes(sources)
    before = space.generate(codes)
    every: list[Looked] = []
    rows = []
    for target in targets:
        tell(f"editing faces to {target}", 0, len(sources))
        made = space.generate(np.stack([edit(code, target) for code in codes]))
        shown = [face for face in faces if face.emotion == target]
        real = {face.person: face for face in shown}
        looked = []
        for number, face in enumerate(sources):
            tell(f"editing faces to {target}", number, len(sources))
            pair = before[number], made[number]
            looked.append(look(instruments, face, pair, (target, real.get(face.person))))
        rows.append(score(target, looked, _features(instruments, shown)))
        every += looked
    reals = [face for face in faces if face.emotion in targets]
    return [*rows, score("all", every, _features(instruments, reals))]


@dataclass(frozen=True, slots=True)
class Looked:
    """What is seen in one edit: the values by column, and its features. has_pair: a real one."""

    values: Mapping[str, float]
    features: np.ndarray
    has_pair: bool


def look(
    instruments: Instruments,
    face: SpaceFace,
    pictures: tuple[np.ndarray, np.ndarray],
    wanted: tuple[str, SpaceFace | None],
) -> Looked:
    """What is seen in an edit. pictures: before and after. wanted: the target, and a real face."""
    (before, after), (target, real) = pictures, wanted
    place = face.landmarks
    crop = seen_by_classifier(after, place)
    values = {"LPIPS": instruments.distance(before, after, place)}
    if target in FER_CLASSES:
        values["ED"] = float(instruments.classifier.name(crop) == target)
    near = None if instruments.pair is None else instruments.pair.cosine(after, target)
    if near is not None:
        values["CS"] = near
    if real is not None:
        values["MS-SSIM"] = ms_ssim(after, real.picture)
        persons = (
            instruments.identity(after, place),
            instruments.identity(real.picture, real.landmarks),
        )
        values["IP"] = float(persons[0] @ persons[1])
        actions = (
            instruments.actions(after, place),
            instruments.actions(real.picture, real.landmarks),
        )
        values["AUs"] = float(np.abs(actions[0] - actions[1]).mean())
    return Looked(values, instruments.features(crop), real is not None)


def _features(instruments: Instruments, faces: Sequence[SpaceFace]) -> np.ndarray:
    """The features of real faces: (n, d)."""
    found = [instruments.features(seen_by_classifier(f.picture, f.landmarks)) for f in faces]
    return np.array(found)


def score(target: str, looked: Sequence[Looked], real: np.ndarray) -> EmmScore:
    """The means of what was seen, and the Frechet distance where there are enough pictures."""
    values: dict[str, float | None] = {}
    for column in COLUMNS:
        known = [one.values[column] for one in looked if column in one.values]
        values[column] = float(np.mean(known)) if known else None
    features = np.array([one.features for one in looked])
    if min(len(features), len(real)) >= features.shape[1]:
        values["FID"] = frechet_distance(fit_gaussian(features), fit_gaussian(real))
    return EmmScore(target, len(looked), sum(one.has_pair for one in looked), values)


def text_report(report: EmmReport) -> str:
    """The table, the paper's numbers below it, and what each column is."""
    header = (f"{report.source} to", "edits", "pairs", *COLUMNS)
    rows = [
        (row.target, str(row.edits), str(row.pairs), *(_cell(row.values[c]) for c in COLUMNS))
        for row in report.rows
    ]
    paper = [
        (f"paper, {name}", "", "", *(f"{value:.3f}" for value in values))
        for name, values in REPORTED.items()
    ]
    told = [
        f"- {c}: {DEFINITIONS[c]}. By: {report.networks.get(c, 'no network')}." for c in COLUMNS
    ]
    notes = [
        "The paper's numbers are of RaFD and other networks; its CS fits (1 + cosine) / 2.",
        f"Measured on {report.machine}.",
    ]
    return "\n".join([markdown(header, [*rows, *paper]), "", *told, "", *notes])


def json_report(report: EmmReport) -> dict[str, object]:
    """The report for JSON."""
    rows = [{**asdict(row), "values": dict(row.values)} for row in report.rows]
    return {
        "source": report.source,
        "rows": rows,
        "networks": dict(report.networks),
        "definitions": dict(DEFINITIONS),
        "paper": {
            name: dict(zip(COLUMNS, values, strict=True)) for name, values in REPORTED.items()
        },
        "machine": report.machine,
    }


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
