"""What options say, checked."""

from __future__ import annotations

from mien.engines.errors import UsageError


def checked_strength(intensity: float) -> float:
    """`intensity`. Raises UsageError where it is no strength."""
    from mien.runtime.target import MAX_STRENGTH

    if not 0 <= intensity <= MAX_STRENGTH:
        raise UsageError(f"--intensity must lie in 0..{MAX_STRENGTH:g}, not {intensity:g}")
    return intensity


def checked_own(soften: float | None, amplify: float | None) -> float | None:
    """How much of the own expression the two options ask for, None where neither does.

    Raises UsageError for both at once, and outside what can be shown.
    """
    from mien.runtime.faces.own_expression import LEAST, MOST

    if soften is not None and amplify is not None:
        raise UsageError("give either --soften or --amplify, not both: they are one scale")
    for option, own in (("--soften", soften), ("--amplify", amplify)):
        if own is not None and not LEAST <= own <= MOST:
            raise UsageError(f"{option} must lie in {LEAST:g}..{MOST:g}, not {own:g}")
    return amplify if soften is None else soften
