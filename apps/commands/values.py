"""What options say, checked."""

from __future__ import annotations

from mien.engines.errors import UsageError


def checked_strength(intensity: float) -> float:
    """`intensity`. Raises UsageError where it is no strength."""
    from mien.runtime.target import MAX_STRENGTH

    if not 0 <= intensity <= MAX_STRENGTH:
        raise UsageError(f"--intensity must lie in 0..{MAX_STRENGTH:g}, not {intensity:g}")
    return intensity
