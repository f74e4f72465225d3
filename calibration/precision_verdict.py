"""Whether an edit is still as good with a network in INT8."""

from __future__ import annotations

from mien.calibration.floors import (
    INT8_CALM_CEILING,
    INT8_NAMED_LOSS_CEILING,
    INT8_SHIFT_CEILING,
)
from mien.calibration.precision_quality import EditQuality


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
