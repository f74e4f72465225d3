"""The tables of measured quality, docs/quality.md.

`python -m mien.calibration.tables.table DIR` prints, as Markdown, what the reports in DIR say
(`expression.json`, `linearity.json`, `rims.json`, `named_emotion.json`, `independent.json`,
`own_scale.json`, `cost.json`, `finding.json`, `landmarks.json`, as far as they are there), with the
threshold beside each number, and the machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mien.calibration.tables.machine import machine_line
from mien.calibration.tables.rows import (
    VERDICT,
    Row,
    at_least,
    at_most,
    cost_rows,
    eye_rows,
    identity_rows,
    linearity_rows,
    lips_rows,
    other_rows,
    own_rows,
    rim_rows,
    smile_rows,
)
from mien.calibration.tables.thresholds import (
    ACTION_THRESHOLDS,
    ACTIONS_TOLD,
    CALM_CEILING,
    CONFUSED_CEILINGS,
    FOUND_THRESHOLD,
    LANDMARK_ERROR_CEILING,
    MEAN_NAMED_THRESHOLD,
    MEASURED,
    NAMED_THRESHOLDS,
)

WORDS = {
    "corners_up": "mouth corners up",
    "brows_up": "brows up",
    "inner_brows_up": "inner brows up",
    "outer_brows_up": "outer brows up",
    "brows_apart": "brows apart",
    "eyes_open": "eyes open",
    "nose_wings_up": "wings of the nose up",
    "upper_lip_up": "upper lip up",
    "lower_lip_down": "lower lip down",
    "lips_apart": "lips apart",
    "mouth_wide": "mouth wider",
}


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """A table in Markdown, cells padded so that it reads as text too."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rule = tuple("-" * width for width in widths)
    padded = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (header, rule, *rows)
    ]
    return "\n".join(f"| {line} |" for line in padded)


def expression_rows(report: dict[str, Any]) -> list[Row]:
    """A row for every action unit, for calm and for what lies outside, a column a clip."""
    clips = list(report["clips"].values())
    rows = []
    for threshold in ACTION_THRESHOLDS:
        values = [_action(clip, threshold.emotion, threshold.quantity) for clip in clips]
        cells = [_signed(v) + VERDICT[v is not None and threshold.holds(v)] for v in values]
        what = f"{threshold.emotion}: {WORDS[threshold.quantity]}"
        rows.append((what, *cells, f"{threshold.least:+.3f}"))
    for emotion, quantity in ACTIONS_TOLD:
        cells = [_signed(_action(clip, emotion, quantity)) for clip in clips]
        rows.append((f"{emotion}: {WORDS[quantity]}", *cells, ""))
    for emotion in MEASURED:
        values = [_edit(clip, emotion).get("calm") for clip in clips]
        if not any(emotion in clip["edits"] for clip in clips):
            continue
        cells = [_plain(v) + VERDICT[v is not None and v <= CALM_CEILING] for v in values]
        rows.append((f"{emotion}: calm", *cells, f"at most {CALM_CEILING}"))
    outside = [max((e["outside"] for e in clip["edits"].values()), default=0) for clip in clips]
    cells = [str(value) + VERDICT[value == 0] for value in outside]
    return [*rows, ("largest change of a sample outside the face", *cells, "0")]


def named_emotion_rows(report: dict[str, Any], where: str) -> list[Row]:
    """A row an emotion: how often the classifier named it; thresholds are for held-out people."""
    held_out = where == "held-out people"
    rows = []
    for emotion, value in report["accuracy"].items():
        least = NAMED_THRESHOLDS.get(emotion) if held_out else None
        rows.append((f"{emotion}, {where}", *at_least(value, least)))
    for (asked, named), most in CONFUSED_CEILINGS.items() if held_out else ():
        if asked in report["confusion"] and {asked, named} <= set(report["classes"]):
            share = confused(report, asked, named)
            rows.append((f"{asked} called {named}, {where}", *at_most(share, most)))
    least = MEAN_NAMED_THRESHOLD if held_out else None
    return [*rows, (f"mean of the six, {where}", *at_least(report["mean"], least))]


def confused(report: dict[str, Any], asked: str, named: str) -> float:
    """The share of edits to `asked` that were called `named`."""
    said = dict(zip(report["classes"], report["confusion"][asked], strict=True))
    count: int = said[named]
    return count / max(1, sum(said.values()))


def confusion_rows(report: dict[str, Any]) -> list[Row]:
    """A row for what was asked for, a column for what the classifier said."""
    return [(asked, *(str(n) for n in said)) for asked, said in report["confusion"].items()]


def finding_rows(report: dict[str, Any]) -> list[Row]:
    """Faces found, clip by clip and together, and false ones."""
    clips = report["clips"]
    rows: list[Row] = [
        (name, f"{c['found']} of {c['with_face']} ({c['frames']} frames)", "")
        for name, c in clips.items()
    ]
    with_face = sum(c["with_face"] for c in clips.values())
    share = sum(c["found"] for c in clips.values()) / max(1, with_face)
    rows.append(("all clips", _met(share, FOUND_THRESHOLD), f"{FOUND_THRESHOLD}"))
    for name, count in report["faceless"].items():
        rows.append((f"false faces in {name}", str(count) + VERDICT[count == 0], "0"))
    return rows


def landmark_rows(report: dict[str, Any]) -> list[Row]:
    """Mean landmark errors, for each set of pictures that the report holds."""
    return [
        (
            f"landmark error, {name}",
            f"{100 * error:.2f} %" + VERDICT[error <= LANDMARK_ERROR_CEILING],
            f"at most {100 * LANDMARK_ERROR_CEILING:.1f} %",
        )
        for name, error in report["mean_error"].items()
    ]


def tables(folder: Path) -> str:
    """All tables that the reports in `folder` allow."""
    parts = [*_clip_tables(folder), *_people_tables(folder), *_finding_tables(folder)]
    return "\n\n".join([*parts, f"Measured on {machine_line()}."])


def _clip_tables(folder: Path) -> Iterator[str]:
    expression = _read(folder / "expression.json")
    if expression is not None:
        clips = expression["clips"]
        yield markdown(
            ("FaceMesh, outer-eye distances", *clips, "threshold"), expression_rows(expression)
        )
        rows = [*lips_rows(expression), *eye_rows(expression), *smile_rows(expression)]
        if rows:
            yield markdown(("lips, eyes and skin of the edit", *clips, "threshold"), rows)
    linearity = _read(folder / "linearity.json")
    if linearity is not None:
        header = ("movement by intensity", "", "threshold")
        yield markdown(header, linearity_rows(linearity))
    rims = _read(folder / "rims.json")
    if rims is not None:
        columns = ("rims of glasses", "", "median px", "95th percentile", "lost", "threshold")
        yield markdown(columns, rim_rows(rims))
    cost = _read(folder / "cost.json")
    if cost is not None:
        yield markdown(("cost at 720 lines", "", "threshold"), cost_rows(cost))


def _people_tables(folder: Path) -> Iterator[str]:
    named = _read(folder / "named_emotion.json") or {}
    rows = [row for key, part in named.items() for row in named_emotion_rows(part, _words(key))]
    if rows:
        yield markdown(("the classifier names the emotion", "share", "threshold"), rows)
    for key, part in named.items():
        header = (f"asked for, {_words(key)}", *part["classes"])
        yield markdown(header, confusion_rows(part))
    others = _read(folder / "independent.json")
    if others is not None:
        named = others["expressions"].items()
        rows = [row for key, part in named for row in other_rows(part, _words(key))]
        yield markdown(("a network of other origin names it", "share", "threshold"), rows)
        for key, part in named:
            header = (f"the same, {_words(key)}", *part["classes"])
            yield markdown(header, confusion_rows(part))
        yield markdown(("identity, dlib", "", "threshold"), identity_rows(others["identity"]))
    own = _read(folder / "own_scale.json")
    if own is not None:
        yield markdown((f"own smiles of {own['people']} people", "", "threshold"), own_rows(own))


def _finding_tables(folder: Path) -> Iterator[str]:
    finding, landmarks = _read(folder / "finding.json"), _read(folder / "landmarks.json")
    rows = finding_rows(finding) if finding is not None else []
    rows += landmark_rows(landmarks) if landmarks is not None else []
    if rows:
        yield markdown(("faces and landmarks against FaceMesh", "", "threshold"), rows)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _edit(clip: dict[str, Any], emotion: str) -> dict[str, Any]:
    edit: dict[str, Any] = clip["edits"].get(emotion, {})
    return edit


def _action(clip: dict[str, Any], emotion: str, quantity: str) -> float | None:
    value: float | None = _edit(clip, emotion).get("action", {}).get(quantity)
    return value


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.3f}"


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _met(value: float, threshold: float) -> str:
    return f"{value:.3f}" + VERDICT[value >= threshold]


def _words(key: str) -> str:
    return {"held_out": "held-out people", "clips": "clips"}.get(key, key)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables of the reports in a folder; see the module."""
    parser = argparse.ArgumentParser(prog="mien.calibration.tables.table", description=__doc__)
    parser.add_argument("reports", type=Path, help="the folder of the reports")
    print(tables(parser.parse_args(argv).reports))  # noqa: T201 - printing is what it is for


if __name__ == "__main__":
    main()
