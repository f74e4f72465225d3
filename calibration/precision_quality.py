"""What another precision does to the final picture: two filters side by side on the same frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mien.calibration.judge import EmotionJudge, fer_crop
from mien.calibration.representative import Edited, Shot, Way, edits
from mien.engines.catalog import Catalog
from mien.engines.networks import LANDMARKS
from mien.runtime.faces.alignment import roi_matrix
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.topology import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from mien.runtime.frame import Frame

IDENTICAL_DB = 99.0  # stands for frames without any difference


@dataclass(frozen=True, slots=True)
class EditQuality:
    """Edits by the new networks against those by the old ones.

    frames: with a face. lost: frames in which only one of the two saw a face.
    psnr_db: the lowest over frames, each over all its samples. typical_psnr_db: their median.
    landmark_shift, edited_shift: the mean distance of the landmarks that the filter tracks, and of
        those found in its edited frames, by the distance of the outer corners of the eyes.
    calm: the edited faces' frame-to-frame acceleration, by that of the old networks.
    named, named_before: share of edits, once they have settled, that the bundled judge names as
        asked. same_name: share in which it names both alike.
    """

    frames: int
    lost: int
    psnr_db: float
    typical_psnr_db: float
    landmark_shift: float
    edited_shift: float
    calm: float
    named: float
    named_before: float
    same_name: float


@dataclass(slots=True)
class _Notes:
    psnr_db: list[float] = field(default_factory=list)
    tracked: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    names: list[tuple[str, str, str]] = field(default_factory=list)
    lost: int = 0


def compare_edits(
    shots: Sequence[Shot], way: Way, before: Catalog, after: Catalog
) -> EditQuality | None:
    """How the edits of two catalogs differ; None where no face is seen."""
    judge = EmotionJudge.bundled()
    notes = _Notes()
    calms: tuple[list[float], list[float]] = ([], [])
    with Catalog.bundled().open(LANDMARKS) as engine:
        detector = LandmarkDetector(engine)
        pairs = zip(edits(shots, way, before), edits(shots, way, after), strict=True)
        for shot in shots:
            traces: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
            for _ in shot:
                old, new = next(pairs)
                found = _note(notes, old, new, judge, detector)
                if found is not None:
                    for trace, points in zip(traces, found, strict=True):
                        trace.append(points)
            for shaking, trace in zip(calms, traces, strict=True):
                shaking.extend(_accelerations(trace))
    if not notes.psnr_db:
        return None
    return _summary(notes, *calms)


def psnr_db(a: Frame, b: Frame) -> float:
    """Peak signal to noise of one frame against another, over the samples of all planes."""
    squares, count = 0.0, 0
    for one, other in zip(a.planes, b.planes, strict=True):
        difference = one.samples.astype(np.float64) - other.samples
        squares += float((difference**2).sum())
        count += difference.size
    peak = float((1 << a.layout.depth) - 1) * (1 << a.layout.shift)
    if squares == 0:
        return IDENTICAL_DB
    return min(IDENTICAL_DB, 10 * float(np.log10(peak**2 * count / squares)))


def _note(
    notes: _Notes, old: Edited, new: Edited, judge: EmotionJudge, detector: LandmarkDetector
) -> tuple[np.ndarray, np.ndarray] | None:
    """The landmarks of the first face in both edits, in eye distances; None without a face."""
    if not old.faces or not new.faces:
        notes.lost += bool(old.faces) != bool(new.faces)
        return None
    notes.psnr_db.append(psnr_db(old.edited, new.edited))
    points = old.faces[0].landmarks
    eyes = float(np.linalg.norm(points[RIGHT_EYE_OUTER] - points[LEFT_EYE_OUTER]))
    notes.tracked.append(_distance(points, new.faces[0].landmarks) / eyes)
    region = roi_matrix(points)  # one and the same for both, so that only the edits differ
    shown = [detector(edit.edited, region).points for edit in (old, new)]
    notes.shown.append(_distance(*shown) / eyes)
    if old.is_settled:
        said = [judge.name(fer_crop(edit.edited, points)) for edit in (old, new)]
        notes.names.append((old.emotion, said[0], said[1]))
    return shown[0] / eyes, shown[1] / eyes


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b, axis=1).mean())


def _accelerations(trace: Sequence[np.ndarray]) -> list[float]:
    """How much landmarks shake: the mean second difference, for each frame with two neighbours."""
    triples = zip(trace, trace[1:], trace[2:], strict=False)
    return [float(np.linalg.norm(a - 2 * b + c, axis=1).mean()) for a, b, c in triples]


def _summary(
    notes: _Notes, calm_before: Sequence[float], calm_after: Sequence[float]
) -> EditQuality:
    rest = float(np.mean(calm_before)) if calm_before else 0.0
    return EditQuality(
        frames=len(notes.psnr_db),
        lost=notes.lost,
        psnr_db=min(notes.psnr_db),
        typical_psnr_db=float(np.median(notes.psnr_db)),
        landmark_shift=float(np.mean(notes.tracked)),
        edited_shift=float(np.mean(notes.shown)),
        calm=float(np.mean(calm_after)) / rest if rest > 0 else 1.0,
        named=_share(asked == new for asked, _, new in notes.names),
        named_before=_share(asked == old for asked, old, _ in notes.names),
        same_name=_share(old == new for _, old, new in notes.names),
    )


def _share(hits: Iterable[bool]) -> float:
    told = list(hits)
    return sum(told) / max(1, len(told))
