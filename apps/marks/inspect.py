"""`mien inspect`: what a file says of itself, by its Content Credentials and by its pixels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import typer

from mien.apps.edit.inputs import check_source
from mien.apps.marks.credential import check_package
from mien.apps.marks.provenance import Manifest, media_type, read_manifest
from mien.engines import DETECTOR, LANDMARKS, Catalog
from mien.engines.errors import UsageError, one_line
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.runtime.faces.tracking import Tracker
from mien.runtime.frame import Frame
from mien.runtime.pictures.picture import is_picture
from mien.runtime.video.reading.source import read_frames
from mien.runtime.watermark.reader import Reading, pieces, read_piece, views
from mien.runtime.watermark.watermark import ChipPlan

ENOUGH: Final = 3  # pieces that say the same end the reading

PUBLIC = (
    "the watermark is no signature: any copy of mien writes it and anyone may remove it, so it "
    "names the tool, never a person"
)
ABSENT = (
    "no watermark proves nothing: other tools write none, and this one is lost in pictures, in "
    "clips under 1.5 s, and in faces that are small, covered or encoded very coarsely"
)
STRIPPED = (
    "no Content Credentials prove nothing: most sites and programs remove them when they store a "
    "file again"
)
SELF_MADE = "the signer is not one that readers trust: anyone can make such a certificate"


@dataclass(frozen=True, slots=True)
class WatermarkFound:
    """What the pixels say.

    number: 7 hexadecimal digits, None where nothing is read. pieces: looked at, of about 3 s of one
    face. read: those with this number. others: other numbers that were read, each with its count.
    start_s, end_s: what the pieces with the number cover.
    """

    number: str | None
    pieces: int
    read: int
    others: dict[str, int]
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is found in a file.

    credentials: None where there are none. not_looked: why one of the two was not looked for.
    unknown: what cannot be known from it.
    """

    file: str
    credentials: Manifest | None
    watermark: WatermarkFound | None
    not_looked: tuple[str, ...]
    unknown: tuple[str, ...]


def inspect(path: Path) -> Inspection:
    """What a video or picture says of itself. Raises VideoError for a file that cannot be read."""
    check_source(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give one video or picture")
    credentials, not_looked = None, []
    try:
        check_package()
    except UsageError as error:
        not_looked.append(str(error))
    else:
        if media_type(path) is None:
            not_looked.append(f"{path.suffix or 'this kind of file'} has no Content Credentials")
        else:
            credentials = read_manifest(path)
    watermark = None
    if is_picture(path):
        not_looked.append("a picture holds no watermark: it lies in how a video changes")
    else:
        watermark = _watermark(read_frames(path))
    return Inspection(
        str(path), credentials, watermark, tuple(not_looked), _unknown(credentials, watermark)
    )


def _watermark(frames: Iterable[Frame]) -> WatermarkFound:
    catalog, plan = Catalog.bundled(), ChipPlan()
    readings: list[Reading] = []
    with catalog.open(DETECTOR) as detector, catalog.open(LANDMARKS) as landmarks:
        tracker = Tracker(FaceDetector(detector), LandmarkDetector(landmarks))
        for piece in pieces(views(frames, tracker)):
            readings.append(read_piece(piece, plan))
            if readings[-1].payload and _counts(readings).most_common(1)[0][1] >= ENOUGH:
                break
    return told(readings)


def told(readings: list[Reading]) -> WatermarkFound:
    """The number that most pieces say, and the others."""
    counts = _counts(readings)
    if not counts:
        return WatermarkFound(None, len(readings), 0, {}, None, None)
    number, count = counts.most_common(1)[0]
    same = [one for one in readings if one.payload and one.payload.identifier == number]
    return WatermarkFound(
        number,
        len(readings),
        count,
        {other: seen for other, seen in counts.items() if other != number},
        min(one.start_s for one in same),
        max(one.end_s for one in same),
    )


def _counts(readings: list[Reading]) -> Counter[str]:
    return Counter(one.payload.identifier for one in readings if one.payload)


def _unknown(credentials: Manifest | None, watermark: WatermarkFound | None) -> tuple[str, ...]:
    """What cannot be known from what was found."""
    found = watermark is not None and watermark.number is not None
    lines = [PUBLIC if found else ABSENT]
    if credentials is None:
        lines.append(STRIPPED)
    elif credentials.state == "valid":
        lines.append(SELF_MADE)
    return tuple(lines)


def print_inspection(path: Path, *, as_json: bool) -> int:
    """The exit status; prints what is found."""
    found = inspect(path)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return 0
    for line in lines(found):
        typer.echo(one_line(line))
    return 0


def lines(found: Inspection) -> list[str]:
    """What is found, for people."""
    text = [found.file]
    if found.credentials is not None:
        text += _credential_lines(found.credentials)
    elif not any("Content Credentials" in reason for reason in found.not_looked):
        text.append("Content Credentials: none")
    if found.watermark is not None:
        text.append(_watermark_line(found.watermark))
    text += [f"Not looked for: {reason}" for reason in found.not_looked]
    return text + [f"Not known: {line}" for line in found.unknown]


def _credential_lines(manifest: Manifest) -> list[str]:
    states = {
        "valid": f"valid, signed by {manifest.signer}, whom readers do not trust",
        "trusted": f"valid, signed by {manifest.signer}",
    }
    broken = f"BROKEN, the file is not as it was signed ({', '.join(manifest.problems)})"
    text = [f"Content Credentials: {states.get(manifest.state, broken)}"]
    said = ", ".join(action.removeprefix("c2pa.") for action in manifest.actions)
    text.append(f"  {manifest.generator or 'an unnamed program'}: {said or 'no actions'}")
    if manifest.source_types:
        text.append(f"  source: {', '.join(manifest.source_types)}")
    if manifest.applied:
        text.append(f"  applied: {', '.join(map(_applied, sorted(manifest.applied.items())))}")
    if manifest.earlier:
        text.append(f"  earlier credentials kept: {manifest.earlier}")
    return text


def _applied(item: tuple[str, Any]) -> str:
    name, value = item
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _watermark_line(found: WatermarkFound) -> str:
    if found.number is None:
        looked = f"in {found.pieces} pieces of a face" if found.pieces else "no face for 1.5 s"
        return f"Watermark: none is read ({looked})"
    others = "".join(f", and {number} in {seen}" for number, seen in found.others.items())
    return (
        f"Watermark: of mien, number {found.number}, in {found.read} of {found.pieces} pieces, "
        f"{found.start_s:.1f} to {found.end_s:.1f} s{others}"
    )
