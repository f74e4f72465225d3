"""Rows of the tables of measured quality, from the reports' JSON, each with its threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mien.calibration.clips.series import MOVING
from mien.calibration.tables.thresholds import (
    ACTION_THRESHOLDS,
    COST_CEILING,
    EYES_CORRELATION_THRESHOLD,
    IDENTITY_CALM_THRESHOLD,
    IDENTITY_CEILING,
    LINEAR_CORRELATION_THRESHOLD,
    LIPS_THRESHOLD,
    MEASURED,
    NEUTRALISED_THRESHOLD,
    OTHERS_MEAN_NAMED_THRESHOLD,
    OWN_ERROR_CEILING,
    PARTING_LIPS_THRESHOLD,
    PARTS_AT_REST,
    REVERSAL_CEILING,
    RIM_CEILING_PX,
    SAME_PERSON_THRESHOLD,
    STAIN_CEILING,
    LipsThreshold,
)

Report = dict[str, Any]
Row = tuple[str, ...]
VERDICT = {True: "", False: " (missed)"}
REST = "at rest"
LEAST_RIM_POINTS = 100  # of a clip: fewer are no glasses


def number(value: float | None, form: str = ".3f") -> str:
    """A number as a cell; `none` where there is none."""
    return "none" if value is None else format(value, form)


def at_least(value: float | None, least: float | None, form: str = ".3f") -> tuple[str, str]:
    """A cell, and that of its threshold; without one nothing is missed."""
    if least is None:
        return number(value, form), ""
    return number(value, form) + VERDICT[value is not None and value >= least], f"{least:g}"


def at_most(value: float | None, most: float | None, form: str = ".3f") -> tuple[str, str]:
    """A cell, and that of its threshold; without one nothing is missed."""
    if most is None:
        return number(value, form), ""
    return number(value, form) + VERDICT[value is not None and value <= most], f"at most {most:g}"


def lips_rows(report: Report) -> list[Row]:
    """How lips follow the speaker's, a row an emotion and quantity, a column a clip.

    A correlation and a lag are given for clips with moving lips. Surprise and fear are asked about
    the closures in speech, the others about all.
    """
    rows: list[Row] = []
    for emotion in _emotions(report):
        threshold = PARTING_LIPS_THRESHOLD if emotion in PARTS_AT_REST else LIPS_THRESHOLD
        cells = _LipsCells(threshold, emotion in PARTS_AT_REST)
        rows += [
            _row(report, emotion, "lip gap, r", cells.follows, f"{threshold.correlation:g}"),
            _row(report, emotion, "closures kept", cells.kept, f"{threshold.kept:g}"),
            _row(report, emotion, "lips late by frames", cells.late, "0"),
        ]
    return rows


@dataclass(frozen=True, slots=True)
class _LipsCells:
    threshold: LipsThreshold
    parts_at_rest: bool

    def follows(self, edit: Report) -> str:
        lips = edit["lips"]
        return (
            at_least(lips["correlation"], self.threshold.correlation)[0] if _moves(lips) else REST
        )

    def late(self, edit: Report) -> str:
        lips = edit["lips"]
        return str(lips["lag"]) + VERDICT[lips["lag"] == 0] if _moves(lips) else REST

    def kept(self, edit: Report) -> str:
        lips = edit["lips"]
        count, kept = ("spoken", "spoken_kept") if self.parts_at_rest else ("closures", "kept")
        return (
            f"{at_least(lips[kept], self.threshold.kept)[0]} of {lips[count]}"
            if lips[count]
            else ""
        )


def eye_rows(report: Report) -> list[Row]:
    """How eyes follow the person's own, a row an emotion and quantity, a column a clip."""

    def follows(edit: Report) -> str:
        return at_least(edit["eyes"]["correlation"], EYES_CORRELATION_THRESHOLD)[0]

    def blinks(edit: Report) -> str:
        eyes = edit["eyes"]
        return f"{eyes['kept']} of {eyes['blinks']}" + VERDICT[eyes["kept"] == eyes["blinks"]]

    rows: list[Row] = []
    for emotion in _emotions(report):
        rows += [
            _row(report, emotion, "eye opening, r", follows, f"{EYES_CORRELATION_THRESHOLD:g}"),
            _row(report, emotion, "eye opening, slope", lambda e: number(e["eyes"]["slope"]), ""),
            _row(report, emotion, "blinks kept", blinks, "all"),
        ]
    return rows


def smile_rows(report: Report) -> list[Row]:
    """What happy does to closed mouths and to the skin's luma, a column a clip."""
    if "happy" not in _emotions(report):
        return []
    least = next(threshold.least for threshold in ACTION_THRESHOLDS if threshold.emotion == "happy")

    def lift(edit: Report) -> str:
        found = edit["closed_lift"]
        return at_least(found["lift"], least, "+.3f")[0] if found["frames"] else "none closed"

    def closed(edit: Report) -> str:
        found = edit["closed_lift"]
        return at_least(found["kept"], LIPS_THRESHOLD.kept)[0] if found["frames"] else "none closed"

    def stain(edit: Report) -> str:
        return at_most(edit["stain"]["largest"], STAIN_CEILING)[0]

    most = f"at most {STAIN_CEILING:g}"
    return [
        _row(report, "happy", "corners up, from closed lips", lift, f"+{least:g}"),
        _row(report, "happy", "lips then closed", closed, f"{LIPS_THRESHOLD.kept:g}"),
        _row(report, "happy", "low-frequency luma change, largest", stain, most),
        _row(report, "happy", "and mean", lambda e: number(e["stain"]["mean"]), ""),
    ]


def linearity_rows(report: Report) -> list[Row]:
    """How the movement of each emotion grows with intensity."""
    rows: list[Row] = []
    for emotion, found in report.items():
        linear = found["linear"]
        what = f"{emotion}: {found['quantity'].replace('_', ' ')}"
        moved = ", ".join(number(value, "+.3f") for value in found["movements"])
        rows += [
            (f"{what}, r", *at_least(linear["correlation"], LINEAR_CORRELATION_THRESHOLD)),
            (f"{what}, step back", *at_most(linear["reversal"], REVERSAL_CEILING)),
            (f"{what}, from 0 to 1.5", moved, ""),
        ]
    return rows


def rim_rows(report: Report) -> list[Row]:
    """How far rims of glasses move, in pixels at 720 lines, a row a clip and emotion."""
    rows: list[Row] = []
    for clip, emotions in report["clips"].items():
        for emotion, rim in emotions.items():
            if rim["points"] < LEAST_RIM_POINTS:
                rows.append((clip, emotion, "no glasses", "", "", ""))
                continue
            high, threshold = at_most(rim["high"], RIM_CEILING_PX, ".2f")
            median, lost = number(rim["median"], ".2f"), number(rim["lost"])
            rows.append((clip, emotion, median, high, lost, threshold))
    return rows


def other_rows(report: Report, where: str) -> list[Row]:
    """A row an emotion: how often a network of other origin named it."""
    held_out = where == "held-out people"
    rows: list[Row] = [(f"{e}, {where}", number(v), "") for e, v in report["accuracy"].items()]
    least = OTHERS_MEAN_NAMED_THRESHOLD if held_out else None
    return [*rows, (f"mean of the six, {where}", *at_least(report["mean"], least))]


def identity_rows(report: Report) -> list[Row]:
    """Identity between source and edit, a row a set of pictures and emotion."""
    rows: list[Row] = []
    for where, emotions in report.items():
        name = {"held_out": "held-out people"}.get(where, where)
        for emotion, found in emotions.items():
            what = f"{emotion}, {name}"
            rows += [
                (f"{what}: same person", *at_least(found["same_person"], SAME_PERSON_THRESHOLD)),
                (f"{what}: distance", *at_most(found["median_distance"], IDENTITY_CEILING)),
            ]
            if found["calm"] is not None:
                calm = at_least(found["calm"], IDENTITY_CALM_THRESHOLD, ".4f")
                rows.append((f"{what}: neighbouring frames", *calm))
    return rows


def own_rows(report: Report) -> list[Row]:
    """The measured scale of a person's own smile by what was asked for, and what it is called.

    The scale is held to its threshold at 0.5, the name at 0.25.
    """
    rows: list[Row] = []
    for asked, found in report["scales"].items():
        scale, error = found["measured"], OWN_ERROR_CEILING
        holds = scale is not None and abs(scale - float(asked)) <= error
        is_held = asked == "0.5"
        cell = number(scale) + (VERDICT[holds] if is_held else "")
        threshold = f"{asked} ± {error:g}" if is_held else ""
        named = at_least(found["neutral"], NEUTRALISED_THRESHOLD if asked == "0.25" else None)
        rows += [
            (f"own {asked}: measured scale", cell, threshold),
            (f"own {asked}: called neutral", *named),
        ]
    return rows


def cost_rows(report: Report) -> list[Row]:
    """CPU time of a frame with 720 lines, beside that of another checkout."""
    both = f"{report['own_ms']:.1f} ms, before {report['baseline_ms']:.1f} ms"
    ratio, threshold = at_most(report["ratio"], COST_CEILING)
    return [
        (f"{report['emotion']}: CPU time of a frame", both, ""),
        (f"{report['emotion']}: by the other's", f"{ratio} ± {report['spread']:.3f}", threshold),
    ]


def _moves(lips: Report) -> bool:
    return lips["span"] is not None and lips["span"] > MOVING


def _emotions(report: Report) -> Sequence[str]:
    """Those that every measure of lips and eyes is there for, in the order of MEASURED."""
    clips = report["clips"].values()
    return [e for e in MEASURED if any("lips" in clip["edits"].get(e, {}) for clip in clips)]


def _row(
    report: Report, emotion: str, what: str, cell: Callable[[Report], str], threshold: str
) -> Row:
    clips = report["clips"].values()
    cells = [cell(clip["edits"][emotion]) if emotion in clip["edits"] else "" for clip in clips]
    return (f"{emotion}: {what}", *cells, threshold)
