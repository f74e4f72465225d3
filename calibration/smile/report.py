"""The parts paper's tables with mien's numbers beside the paper's, as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mien.calibration.smile.measure import Sample
from mien.calibration.smile.rows import GAN_TITLES, METHOD_TITLES, SmileRow, Transfer
from mien.calibration.tables.table import markdown

NOT_SHIPPED = "not shipped"
Line = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """The numbers of one row.

    distance: to real faces of the target emotion; None where it is not a distance to them.
    accuracy: the share of pictures that are named the target emotion.
    unchanged: pictures that came back as they were. incomplete: others of which a part was left
    alone. picture_ms: milliseconds for each edit.
    """

    distance: float | None
    accuracy: float
    unchanged: int = 0
    incomplete: int = 0
    picture_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class RowScore:
    """A row of the paper and mien's score, or why there is none."""

    row: SmileRow
    score: Score | None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class TableScores:
    """One table.

    unedited: the source faces as they are. real: faces of the target emotion as they are, the
        how well the classifier knows that emotion. recognised: the share of the source faces
        that are named what they are.
    """

    transfer: Transfer
    source: Sample
    target: Sample
    unedited: Score
    real: Score
    recognised: float
    rows: tuple[RowScore, ...]


@dataclass(frozen=True, slots=True)
class SmileReport:
    """All tables, what the distance is, which classifier named the faces, and on which machine."""

    distance_name: str
    classifier: str
    machine: str
    tables: tuple[TableScores, ...]


def text_report(report: SmileReport) -> str:
    """The tables as aligned text."""
    return _report(report, plain)


def markdown_report(report: SmileReport) -> str:
    """The tables as Markdown."""
    return _report(report, markdown)


def json_report(report: SmileReport) -> dict[str, object]:
    """The tables for JSON; a number that is not there is null."""
    return {
        "distance": report.distance_name,
        "classifier": report.classifier,
        "machine": report.machine,
        "tables": [_json_table(table) for table in report.tables],
    }


def plain(header: Line, rows: Sequence[Line]) -> str:
    """A table in columns, without signs."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _report(report: SmileReport, table_of: Callable[[Line, Sequence[Line]], str]) -> str:
    parts = []
    for table in report.tables:
        transfer = table.transfer
        title = f"Table {transfer.table}: {transfer.source} to {transfer.target}"
        parts += [title, table_of(_header(report), _lines(table)), _samples(table)]
        missing = dict.fromkeys(row.missing for row in table.rows if row.missing)
        parts += [f"{NOT_SHIPPED.capitalize()}: {'; '.join(missing)}."] if missing else []
    return "\n\n".join([*parts, _legend(report)])


def _header(report: SmileReport) -> Line:
    name = "FID" if report.distance_name == "FID" else "distance"
    return (
        "method",
        "network",
        "blend",
        name,
        "FID, paper",
        "accuracy",
        "paper",
        "left unchanged",
        "ms",
    )


def _lines(table: TableScores) -> list[Line]:
    lines: list[Line] = [
        (
            "unedited",
            "",
            "",
            _number(table.unedited.distance),
            "",
            _share(table.unedited),
            "",
            "",
            "",
        ),
        (f"real {table.target.emotion}", "", "", "", "", _share(table.real), "", "", ""),
    ]
    for entry in table.rows:
        row = entry.row
        paper = (f"{row.reported.fid:g}", f"{row.reported.accuracy:.2f}")
        names = (METHOD_TITLES[row.method], GAN_TITLES[row.gan], row.blend)
        if entry.score is None:
            lines.append((*names, NOT_SHIPPED, paper[0], NOT_SHIPPED, paper[1], "", ""))
        else:
            score = entry.score
            ours = (_number(score.distance), paper[0], _share(score), paper[1])
            left = f"{score.unchanged} whole, {score.incomplete} in part"
            lines.append((*names, *ours, left, f"{score.picture_ms:.1f}"))
    return lines


def _samples(table: TableScores) -> str:
    return (
        f"Edited: {_sample(table.source)}; {_weakened(table.source)}; the classifier names "
        f"{table.recognised:.3f} of the faces {table.source.emotion}, which they are. "
        f"Compared with: {_sample(table.target)}."
    )


def _sample(sample: Sample) -> str:
    faces = f"{sample.distinct} {sample.emotion} faces of people and splits held out"
    if sample.mirrored:
        faces += (
            f" (of {sample.held_out}, all that have a face to find) and {sample.mirrored} of "
            "their mirror images"
        )
    return f"{faces}, {sample.not_found} others left out for want of a face found"


def _weakened(sample: Sample) -> str:
    return f"{sample.weakened} of the faces are turned away or hard to see, and edited in part"


def _legend(report: SmileReport) -> str:
    return (
        f"{'FID' if report.distance_name == 'FID' else 'distance'}: "
        f"{report.distance_name}, to real faces of the target emotion. "
        f"accuracy: the share that {report.classifier} names the target emotion, mirror images "
        "left out; the row of real faces says how well it knows that emotion at all. paper: "
        "AffectNet, Inception v3 and a ResNet of FERPlus, so only the order compares. left "
        "unchanged: faces, and parts of others, that could not be seen. ms: for each "
        f"picture. Measured on {report.machine}."
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(score: Score) -> str:
    return f"{score.accuracy:.3f}"


def _json_table(table: TableScores) -> dict[str, object]:
    return {
        "table": table.transfer.table,
        "source": _json_sample(table.source),
        "target": _json_sample(table.target),
        "unedited": _json_score(table.unedited),
        "real": _json_score(table.real),
        "recognised": round(table.recognised, 4),
        "rows": [
            {
                "method": entry.row.method,
                "gan": entry.row.gan,
                "blend": entry.row.blend,
                "paper": {
                    "fid": entry.row.reported.fid,
                    "accuracy": entry.row.reported.accuracy,
                },
                "score": None if entry.score is None else _json_score(entry.score),
                "missing": entry.missing,
            }
            for entry in table.rows
        ],
    }


def _json_sample(sample: Sample) -> dict[str, object]:
    return {
        "emotion": sample.emotion,
        "distinct": sample.distinct,
        "mirrored": sample.mirrored,
        "held_out": sample.held_out,
        "not_found": sample.not_found,
        "weakened": sample.weakened,
    }


def _json_score(score: Score) -> dict[str, object]:
    return {
        "distance": None if score.distance is None else round(score.distance, 4),
        "accuracy": round(score.accuracy, 4),
        "unchanged": score.unchanged,
        "incomplete": score.incomplete,
        "picture_ms": round(score.picture_ms, 2),
    }
