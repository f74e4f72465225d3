"""Tables 1 and 2 of the parts paper, measured on held-out faces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mien.calibration.judges.classifier import EmotionClassifier
from mien.calibration.judges.features import (
    ClassifierFeatures,
    Features,
    InceptionFeatures,
    InputRange,
    check_enough,
    frechet_distance,
)
from mien.calibration.smile.measure import (
    ClassifiedSample,
    Sample,
    Tell,
    classify_sample,
    find_faces,
)
from mien.calibration.smile.pictures import held_out_pictures
from mien.calibration.smile.report import RowScore, Score, SmileReport, TableScores
from mien.calibration.smile.rows import (
    PICTURES,
    TRANSFERS,
    Filters,
    OpenEditor,
    OpenFinder,
    SmileRow,
    Transfer,
    classifier_of,
    rows_of,
)
from mien.calibration.tables.machine import machine_line
from mien.runtime.methods.gan import BLENDS

Progress = Callable[[str, int, int], None]  # what is done, how far, of how many


@dataclass(frozen=True, slots=True)
class SmilePlan:
    """What to measure, and with what.

    data: the folder of faces160 and FER-2013. classifier: the emotion classifier as ONNX, None for
    the catalog's. inception: an Inception as ONNX, None for the classifier's own features.
    inception_range: of its pictures, None where its metadata states it. count: pictures.
    models, provider: as `runtime.Filter` takes them. blends: of BLENDS. workers: pictures edited
    at once, each by a filter of its own.
    """

    data: Path
    classifier: Path | None = None
    inception: Path | None = None
    inception_range: InputRange | None = None
    count: int = PICTURES
    models: Path | None = None
    provider: str = "cpu"
    blends: tuple[str, ...] = BLENDS
    workers: int = 1


class RowFilters(Protocol):
    """What is needed of `Filters`."""

    def finder(self) -> OpenFinder: ...

    def why_missing(self, row: SmileRow) -> str | None: ...

    def open(self, row: SmileRow) -> OpenEditor: ...


@dataclass(frozen=True, slots=True)
class Instruments:
    """The networks that measure, and the filters that are measured."""

    classifier: EmotionClassifier
    features: Features
    filters: RowFilters


def measure_smile(plan: SmilePlan, progress: Progress) -> SmileReport:
    """Both tables. Raises UsageError, ModelError, DeviceError."""
    filters = Filters(plan.models, plan.provider)
    classifier = plan.classifier or classifier_of(filters.catalog)
    instruments = Instruments(
        EmotionClassifier.load(classifier), _features(plan, classifier), filters
    )
    check_enough(plan.count, instruments.features.dimensions)
    tables = measure_tables(
        held_out_pictures(plan.data, _emotions(TRANSFERS)), instruments, plan, progress
    )
    return SmileReport(
        instruments.features.distance_name, classifier.name, machine_line(), tuple(tables)
    )


def measure_tables(
    pictures: Mapping[str, Sequence[np.ndarray]],
    instruments: Instruments,
    plan: SmilePlan,
    progress: Progress,
) -> list[TableScores]:
    """A table for each transfer of the paper; pictures: uint8 (H, W) luma by emotion."""
    samples, seen = {}, {}
    with instruments.filters.finder() as finder:
        for emotion in _emotions(TRANSFERS):
            tell = _tell(progress, f"finding {emotion} faces")
            samples[emotion] = find_faces(finder, emotion, pictures[emotion], plan.count, tell)
    for emotion, sample in samples.items():
        tell = _tell(progress, f"classifying {emotion} faces")
        seen[emotion] = classify_sample(
            sample, instruments.classifier, instruments.features, tell=tell
        )
    tables = []
    for transfer in TRANSFERS:
        source, target = samples[transfer.source], seen[transfer.target]
        rows = []
        for row in rows_of(transfer, plan.blends):
            missing = instruments.filters.why_missing(row)
            if missing is not None:
                rows.append(RowScore(row, None, missing))
                continue
            classified = _edited(row, source, instruments, plan.workers, _tell(progress, row.title))
            rows.append(RowScore(row, _score(classified, target, transfer.target)))
        tables.append(
            TableScores(
                transfer,
                source,
                samples[transfer.target],
                unedited=_score(seen[transfer.source], target, transfer.target),
                real=Score(None, target.share(transfer.target)),
                recognised=seen[transfer.source].share(transfer.source),
                rows=tuple(rows),
            )
        )
    return tables


def _edited(
    row: SmileRow, sample: Sample, instruments: Instruments, workers: int, tell: Tell
) -> ClassifiedSample:
    """What the networks see in a sample after a row's edit."""
    with ExitStack() as opened:
        editors = [opened.enter_context(instruments.filters.open(row)) for _ in range(workers)]
        return classify_sample(
            sample, instruments.classifier, instruments.features, editors=editors, tell=tell
        )


def _score(classified: ClassifiedSample, target: ClassifiedSample, emotion: str) -> Score:
    distance = None
    if classified.features is not None and target.features is not None:
        distance = frechet_distance(target.features, classified.features)
    return Score(
        distance,
        classified.share(emotion),
        unchanged=classified.unchanged,
        incomplete=classified.incomplete,
        picture_ms=classified.picture_ms,
    )


def _features(plan: SmilePlan, classifier: Path) -> Features:
    if plan.inception is None:
        return ClassifierFeatures(classifier)
    return InceptionFeatures(
        plan.inception, input_range=plan.inception_range, provider=plan.provider
    )


def _emotions(transfers: Sequence[Transfer]) -> list[str]:
    every = [emotion for transfer in transfers for emotion in (transfer.source, transfer.target)]
    return list(dict.fromkeys(every))


def _tell(progress: Progress, what: str) -> Tell:
    return lambda done, total: progress(what, done, total)
