"""How the filter of a program is to be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mien.runtime.session import FaceFilter


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Settings of a filter.

    face: `all`, `largest`, or the number of one. provider: what runs the networks.
    models: a folder of models of the user's own. method, gan, blend: how faces are edited.
    """

    face: str | int = "all"
    provider: str = "cpu"
    models: Path | None = None
    method: str = "warp"
    gan: str | None = None
    blend: str | None = None


FilterMaker = Callable[[FilterSettings], FaceFilter]
