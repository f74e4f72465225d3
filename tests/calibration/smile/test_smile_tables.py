from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mien.calibration.judges.classifier import EmotionClassifier, still
from mien.calibration.judges.features import ClassifierFeatures
from mien.calibration.smile.measure import classify_sample, edit_still, find_faces
from mien.calibration.smile.report import (
    Score,
    SmileReport,
    TableScores,
    json_report,
    markdown_report,
    text_report,
)
from mien.calibration.smile.rows import SmileRow
from mien.calibration.smile.tables import Instruments, SmilePlan, measure_tables
from mien.engines import EngineError, UsageError
from mien.runtime.faces.alignment import FER_TEMPLATE
from mien.runtime.faces.topology import RIGID
from mien.runtime.frame import Frame
from mien.runtime.methods.gan import BLENDS
from tests.calibration.networks import write_classifier

DARK, MIDDLE, BRIGHT = 30, 127, 230  # what the classifier names sad, neutral and happy
TOO_DARK = 10  # to find a face in
HALF_SEEN = 250  # in a picture whose corner is brighter
MOODS = {"neutral": MIDDLE, "happy": BRIGHT, "sad": DARK}


@dataclass(frozen=True)
class SomeFace:
    landmarks: np.ndarray
    presence: float


@dataclass
class Painter:
    """Finds a face in all but the darkest pictures, and paints it as bright as asked."""

    level: int | None = None
    faces: tuple[SomeFace, ...] = ()
    seen: int = 0
    unedited_parts: tuple[str, ...] = ()
    closed: bool = False

    def apply(self, frame: Frame) -> Frame:
        self.seen += 1
        luma = frame.planes[0].samples
        landmarks = np.zeros((106, 2), np.float32)
        landmarks[list(RIGID)] = FER_TEMPLATE * 40 + 8
        presence = 0.5 if luma[0, 0] > HALF_SEEN else 1.0
        self.faces = (SomeFace(landmarks, presence),) if luma.min() > TOO_DARK else ()
        if self.level is None or not self.faces:
            return frame
        return still(np.full_like(luma, self.level))

    def reset(self) -> None:
        self.faces = ()
        self.seen = 0

    def __enter__(self) -> Painter:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class Painters:
    """Filters of which only StarGAN's are there.

    Those of `face` change nothing, and those of `parts` all but the nose.
    """

    def __init__(self) -> None:
        self.opened: list[Painter] = []

    def finder(self) -> Painter:
        return self._open(None)

    def why_missing(self, row: SmileRow) -> str | None:
        return None if row.gan == "stargan" else f"no {row.gan}_{row.method} in the catalog"

    def open(self, row: SmileRow) -> Painter:
        level = None if row.method == "face" else MOODS[row.transfer.target]
        return self._open(level, ("nose",) if row.method != "image" else ())

    def _open(self, level: int | None, unedited_parts: tuple[str, ...] = ()) -> Painter:
        self.opened.append(Painter(level, unedited_parts=unedited_parts))
        return self.opened[-1]


def pictures(level: int, count: int) -> list[np.ndarray]:
    """Faces of about one brightness; each differs from the others and from its mirror image."""
    rng = np.random.default_rng(level)
    return [rng.integers(level - 15, level + 15, (60, 60)).astype(np.uint8) for _ in range(count)]


def silent(_done: int, _total: int) -> None:
    pass


@pytest.fixture
def classifier(tmp_path: Path) -> EmotionClassifier:
    return EmotionClassifier.load(write_classifier(tmp_path / "judge.onnx"))


def test_pictures_without_a_face_are_left_out_and_counted() -> None:
    shown = [*pictures(MIDDLE, 2), np.zeros((60, 60), np.uint8), *pictures(MIDDLE, 3)]
    sample = find_faces(Painter(), "neutral", shown, 3, silent)
    assert (sample.distinct, sample.mirrored, sample.not_found, sample.held_out) == (3, 0, 1, 6)


def test_faces_that_the_filter_edits_in_part_are_counted() -> None:
    shown = pictures(MIDDLE, 4)
    shown[1][0, 0] = shown[2][0, 0] = 255
    sample = find_faces(Painter(), "neutral", shown, 4, silent)
    assert (sample.distinct, sample.weakened) == (4, 2)


def test_mirror_images_fill_up_what_the_data_lacks() -> None:
    shown = [*pictures(MIDDLE, 3), np.zeros((60, 60), np.uint8)]
    sample = find_faces(Painter(), "neutral", shown, 5, silent)
    assert (sample.distinct, sample.mirrored, sample.not_found) == (3, 2, 1)
    first, mirrored = sample.faces[0].frame, sample.faces[3].frame
    np.testing.assert_array_equal(first.planes[0].samples[:, ::-1], mirrored.planes[0].samples)


def test_there_are_never_more_pictures_than_all_and_their_mirror_images() -> None:
    sample = find_faces(Painter(), "neutral", pictures(MIDDLE, 3), 100, silent)
    assert (sample.distinct, sample.mirrored) == (3, 3)


def test_mirror_images_count_for_the_distance_and_not_for_the_share(
    classifier: EmotionClassifier, tmp_path: Path
) -> None:
    sample = find_faces(Painter(), "sad", pictures(DARK, 3), 5, silent)
    seen = classify_sample(
        sample, classifier, ClassifierFeatures(tmp_path / "judge.onnx"), tell=silent
    )
    assert sum(seen.named) == 3
    assert seen.share("sad") == 1
    alone = find_faces(Painter(), "sad", pictures(DARK, 3), 3, silent)
    with_fewer = classify_sample(
        alone, classifier, ClassifierFeatures(tmp_path / "judge.onnx"), tell=silent
    )
    assert seen.features is not None
    assert with_fewer.features is not None
    assert not np.array_equal(seen.features.covariance, with_fewer.features.covariance)


def test_a_still_is_edited_by_an_editor_that_has_seen_nothing_before() -> None:
    painter = Painter(BRIGHT)
    for _ in range(2):
        edited = edit_still(painter, still(np.full((60, 60), MIDDLE, np.uint8)))
        assert edited.planes[0].samples.mean() == BRIGHT
        assert painter.seen == 1


def measured(tmp_path: Path, workers: int = 1) -> tuple[list[TableScores], Painters, list[str]]:
    classifier = write_classifier(tmp_path / "judge.onnx")
    painters = Painters()
    instruments = Instruments(
        EmotionClassifier.load(classifier), ClassifierFeatures(classifier), painters
    )
    steps: list[str] = []
    tables = measure_tables(
        {emotion: pictures(level, 6) for emotion, level in MOODS.items()},
        instruments,
        SmilePlan(tmp_path, count=8, workers=workers),
        lambda what, _done, _total: steps.append(what),
    )
    return tables, painters, steps


def test_both_tables_have_the_papers_rows_for_both_blends(tmp_path: Path) -> None:
    tables, painters, steps = measured(tmp_path)
    assert [(t.transfer.source, t.transfer.target) for t in tables] == [
        ("neutral", "happy"),
        ("happy", "sad"),
    ]
    for table in tables:
        names = [(e.row.method, e.row.gan, e.row.blend) for e in table.rows]
        assert len(set(names)) == len(names) == 6 * len(BLENDS)
        assert (table.unedited.accuracy, table.real.accuracy, table.recognised) == (0, 1, 1)
        for entry in table.rows:
            assert (entry.score is None) == (entry.row.gan == "cyclegan")
            if entry.score is not None:
                left = entry.row.method == "face"
                assert entry.score.accuracy == (0 if left else 1)
                assert entry.score.unchanged == (8 if left else 0)
                assert entry.score.incomplete == (8 if entry.row.method == "parts" else 0)
                assert entry.score.distance is not None
                assert table.unedited.distance is not None
                if left:
                    assert entry.score.distance == pytest.approx(table.unedited.distance)
                else:
                    assert entry.score.distance < table.unedited.distance / 10
    assert all(painter.closed for painter in painters.opened)
    assert len(painters.opened) == 1 + 2 * 3 * len(BLENDS)
    assert "parts-to-parts StarGAN sad, field" in steps


def test_several_workers_find_what_one_finds(tmp_path: Path) -> None:
    alone, _, _ = measured(tmp_path)
    together, painters, _ = measured(tmp_path, workers=3)
    assert len(painters.opened) == 1 + 3 * 2 * 3 * len(BLENDS)
    assert all(painter.closed for painter in painters.opened)

    def scores(tables: list[TableScores]) -> list[Score | None]:
        found = [entry.score for table in tables for entry in table.rows]
        return [score and replace(score, picture_ms=0.0) for score in found]

    assert scores(together) == scores(alone)


def test_a_worker_that_fails_stops_the_measurement(classifier: EmotionClassifier) -> None:
    class Failing(Painter):
        def apply(self, frame: Frame) -> Frame:
            raise EngineError("the device is gone")

    sample = find_faces(Painter(), "sad", pictures(DARK, 9), 9, silent)
    with pytest.raises(EngineError, match="gone"):
        classify_sample(sample, classifier, None, editors=[Painter(BRIGHT), Failing()], tell=silent)


def report_of(tmp_path: Path) -> SmileReport:
    name = ClassifierFeatures.distance_name
    return SmileReport(name, "judge.onnx", "a machine", tuple(measured(tmp_path)[0]))


@pytest.mark.parametrize("write", [text_report, markdown_report])
def test_the_report_shows_the_papers_numbers_and_says_what_is_not_shipped(
    tmp_path: Path, write
) -> None:
    text = write(report_of(tmp_path))
    lines = [" ".join(line.replace("|", " ").split()) for line in text.splitlines()]
    assert "image-to-image CycleGAN paste not shipped 42.5 not shipped 0.64" in lines
    assert any(line.startswith("parts-to-parts StarGAN field") and "0.97" in line for line in lines)
    assert any(
        "face-to-face StarGAN paste" in line and "8 whole, 0 in part" in line for line in lines
    )
    assert "6 neutral faces" in text
    assert "and 2 of their mirror images" in text
    assert "no cyclegan_parts in the catalog" in text


def test_a_distance_over_the_classifiers_features_is_never_called_fid(tmp_path: Path) -> None:
    text = text_report(report_of(tmp_path))
    assert "Frechet distance, emotion classifier features" in text
    # the only FID is the paper's own
    assert text.replace("FID, paper", "").count("FID") == 0


def test_the_report_for_json_holds_null_where_nothing_was_measured(tmp_path: Path) -> None:
    told = json_report(report_of(tmp_path))
    first = told["tables"][0]  # type: ignore[index]
    by_row = {(r["method"], r["gan"], r["blend"]): r for r in first["rows"]}
    missing = by_row["image", "cyclegan", "paste"]
    assert missing["score"] is None
    assert missing["missing"] == "no cyclegan_image in the catalog"
    assert missing["paper"] == {"fid": 42.5, "accuracy": 0.64}
    assert by_row["parts", "stargan", "field"]["score"]["accuracy"] == 1
    assert first["source"] == {
        "emotion": "neutral",
        "distinct": 6,
        "mirrored": 2,
        "held_out": 6,
        "not_found": 0,
        "weakened": 0,
    }


def test_too_few_faces_for_the_features_are_refused(
    classifier: EmotionClassifier, tmp_path: Path
) -> None:
    sample = find_faces(Painter(), "sad", pictures(DARK, 1), 2, silent)
    with pytest.raises(UsageError, match=r"received 2 pictures.*at least 3"):
        classify_sample(
            sample, classifier, ClassifierFeatures(tmp_path / "judge.onnx"), tell=silent
        )
