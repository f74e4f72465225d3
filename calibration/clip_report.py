"""The measures of clips against their floors, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from mien.calibration.clip_measure import ClipMeasure
from mien.calibration.floors import ACTION_FLOORS, CALM_CEILING


def failures(clips: Mapping[str, ClipMeasure]) -> list[str]:
    """A line for every floor that a clip does not reach."""
    lines = []
    for name, clip in clips.items():
        for floor in ACTION_FLOORS:
            if floor.emotion not in clip.edits:
                continue
            value = getattr(clip.edits[floor.emotion].action, floor.quantity)
            if not floor.holds(value):
                what = f"{floor.emotion} {floor.quantity}"
                lines.append(f"{name}: {what} {value:+.3f}, floor {floor.least:+.3f}")
        for emotion, edit in clip.edits.items():
            if not edit.calm <= CALM_CEILING:
                lines.append(f"{name}: {emotion} calm {edit.calm:.2f}, ceiling {CALM_CEILING}")
            if edit.outside:
                lines.append(f"{name}: {emotion} changes samples outside by {edit.outside}")
    return lines


def report(clips: Mapping[str, ClipMeasure]) -> dict[str, object]:
    """The measures as JSON holds them; NaN becomes null."""
    told = {
        name: {
            "frames": clip.frames,
            "edits": {emotion: plain(asdict(edit)) for emotion, edit in clip.edits.items()},
        }
        for name, clip in clips.items()
    }
    return {"clips": told, "failures": failures(clips)}


def plain(value: object) -> object:
    """`value` as JSON holds it: numbers rounded, those that are none as null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
