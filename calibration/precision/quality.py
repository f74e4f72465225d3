"""Whether another precision of a network is as good: its outputs, and the edits made with it.

Outputs are compared on representative inputs, final pictures by two filters side by side on the
same frames. The emotion classifier edits nothing, so it is asked whether it still says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto, helper

from mien.calibration.judges.classifier import EmotionClassifier, fer_crop
from mien.calibration.precision.graph import FLOAT, Graph
from mien.calibration.representative import Clip, Edited, Feeds, edits
from mien.calibration.tables.thresholds import (
    INT8_CALM_CEILING,
    INT8_NAMED_LOSS_CEILING,
    INT8_SHIFT_CEILING,
)
from mien.engines.catalog import Catalog
from mien.engines.network import Network, TensorSpec
from mien.engines.networks import LANDMARKS
from mien.engines.ort.backend import open_session
from mien.runtime.faces.alignment import roi_matrix
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.topology import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from mien.runtime.frame import Frame
from mien.runtime.spec import FilterSpec

COMPARED_INPUTS = 128  # that it is compared on, where the pictures and clips give as many
PROBABILITIES = "probabilities"
FP16_SAME_NAME_THRESHOLD = 0.99
INT8_SAME_NAME_THRESHOLD = 0.98


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a classifier says, against what it says in FP32.

    inputs: that both were shown. same_name: share of them that both name alike. largest: the
    largest difference of a probability.
    """

    inputs: int
    same_name: float
    largest: float

    def markdown(self) -> str:
        """A sentence for the card."""
        return (
            f"It edits nothing, so no edited frame is compared. Of {self.inputs} faces in edited "
            f"frames it names {100 * self.same_name:.1f} % as in FP32; no probability differs by "
            f"more than {self.largest:.2g}."
        )


def agreement_of(expected: Sequence[Feeds], received: Sequence[Feeds]) -> Agreement:
    """How far two precisions agree, by their outputs for the same inputs."""
    before, after = (
        np.concatenate([outputs[PROBABILITIES] for outputs in both])
        for both in (expected, received)
    )
    return Agreement(
        inputs=len(before),
        same_name=float(np.mean(before.argmax(1) == after.argmax(1))),
        largest=float(np.abs(before - after).max()),
    )


def agreement_refusal(agreement: Agreement, threshold: float) -> str:
    """What is worse than it may be, in words; empty where nothing is."""
    if agreement.same_name >= threshold:
        return ""
    return (
        f"it names {100 * agreement.same_name:.1f} % of the faces as in FP32 "
        f"(at least {100 * threshold:g})"
    )


LEAST_SCALE = 1e-6
SCALE_OF_RANGE = 0.1  # an output that hardly changes is measured against this part of its range


@dataclass(frozen=True, slots=True)
class OutputError:
    """The error of one output.

    largest, rms: in the output's own unit. relative: rms by how much the output itself varies over
    the representative inputs (its standard deviation, or a tenth of its declared range where that
    is more).
    """

    output: str
    largest: float
    rms: float
    relative: float


def run_model(model: ModelProto, feeds: Sequence[Feeds]) -> list[Feeds]:
    """The outputs of a graph for each of `feeds`, on the processor."""
    session = open_session(model.SerializeToString(), Path("(in memory)"), provider="cpu")
    names = [output.name for output in model.graph.output]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def output_errors(
    expected: Sequence[Feeds], received: Sequence[Feeds], network: Network
) -> tuple[OutputError, ...]:
    """The error of each output of a network."""
    return tuple(_error(spec, expected, received) for spec in network.outputs)


def worst(errors: Sequence[OutputError]) -> float:
    """The largest relative error; infinite where one is not a number."""
    largest = max(error.relative for error in errors)
    return largest if np.isfinite(largest) else float("inf")


def largest_values(graph: Graph, feeds: Sequence[Feeds]) -> dict[str, float]:
    """The largest absolute value in each FP32 value of a graph, weights left out."""
    tapped = ModelProto()
    tapped.CopyFrom(graph.model)
    there = {output.name for output in tapped.graph.output}
    for node in graph.nodes:
        tapped.graph.output.extend(
            helper.make_tensor_value_info(name, FLOAT, None)
            for name in node.output
            if graph.is_float(name) and name not in there
        )
    found: dict[str, float] = {}
    for feed, values in zip(feeds, run_model(tapped, feeds), strict=True):
        for name, value in {**feed, **values}.items():
            if value.dtype == np.float32 and value.size:
                found[name] = max(found.get(name, 0.0), float(np.abs(value).max()))
    return found


def _error(spec: TensorSpec, expected: Sequence[Feeds], received: Sequence[Feeds]) -> OutputError:
    before = np.stack([feed[spec.name] for feed in expected]).astype(np.float64)
    after = np.stack([feed[spec.name] for feed in received]).astype(np.float64)
    difference = np.abs(after - before)
    rms = float(np.sqrt(np.mean(difference**2)))
    # A coordinate varies about its own mean, not about that of all coordinates.
    scale = float(np.sqrt(np.mean((before - before.mean(0)) ** 2))) if len(before) > 1 else 0.0
    scale = max(scale, LEAST_SCALE, float(before.std()) * SCALE_OF_RANGE)
    if spec.range is not None:
        scale = max(scale, SCALE_OF_RANGE * (spec.range[1] - spec.range[0]))
    return OutputError(spec.name, float(difference.max(initial=0.0)), rms, rms / scale)


IDENTICAL_DB = 99.0  # stands for frames without any difference


@dataclass(frozen=True, slots=True)
class EditQuality:
    """Edits by the new networks against those by the old ones.

    frames: with a face. lost: frames in which only one of the two saw a face.
    psnr_db: the lowest over frames, each over all its samples. typical_psnr_db: their median.
    landmark_shift, edited_shift: the mean distance of the landmarks that the filter tracks, and of
        those found in its edited frames, by the distance of the outer corners of the eyes.
    calm: the edited faces' frame-to-frame acceleration, by that of the old networks.
    named, named_before: share of edits, once they have settled, that the bundled classifier names
        as asked. same_name: share in which it names both alike.
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
    clips: Sequence[Clip], way: FilterSpec, before: Catalog, after: Catalog
) -> EditQuality | None:
    """How the edits of two catalogs differ; None where no face is seen."""
    classifier = EmotionClassifier.bundled()
    notes = _Notes()
    calms: tuple[list[float], list[float]] = ([], [])
    with Catalog.bundled().open(LANDMARKS) as engine:
        detector = LandmarkDetector(engine)
        pairs = zip(edits(clips, way, before), edits(clips, way, after), strict=True)
        for clip in clips:
            traces: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
            for _ in clip:
                old, new = next(pairs)
                found = _note(notes, old, new, classifier, detector)
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
    notes: _Notes,
    old: Edited,
    new: Edited,
    classifier: EmotionClassifier,
    detector: LandmarkDetector,
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
        said = [classifier.name(fer_crop(edit.edited, points)) for edit in (old, new)]
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


def int8_refusal(quality: EditQuality | None) -> str:
    """What is worse than it may be, in words; empty where nothing is."""
    if quality is None:
        return "no edited frame depends on it, so that nothing says whether it is good enough"
    found = []
    if quality.lost:
        found.append(f"a face is lost or gained in {quality.lost} frames")
    for what, shift in (
        ("tracked landmarks", quality.landmark_shift),
        ("landmarks of the edited face", quality.edited_shift),
    ):
        if not shift <= INT8_SHIFT_CEILING:
            allowed = 100 * INT8_SHIFT_CEILING
            found.append(f"{what} move by {100 * shift:.2f} % (at most {allowed:g})")
    if not quality.calm <= INT8_CALM_CEILING:
        found.append(f"it shakes {quality.calm:.2f} times as much (at most {INT8_CALM_CEILING})")
    if not quality.named >= quality.named_before - INT8_NAMED_LOSS_CEILING:
        found.append(
            f"the emotion classifier names {quality.named:.2f} of the edits as asked, before "
            f"{quality.named_before:.2f}"
        )
    return "; ".join(found)
