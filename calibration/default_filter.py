"""The default filter, as the measurements take it."""

from __future__ import annotations

from collections.abc import Sequence

from mien.calibration.edits import Editor
from mien.runtime.filter import Filter
from mien.runtime.target import parse_target


def default_editors(emotions: Sequence[str]) -> dict[str, Editor]:
    """A default filter for each emotion or mix."""
    return {emotion: Filter(parse_target(emotion)) for emotion in emotions}
