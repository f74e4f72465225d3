"""A filter for live video without networks, and the `mien` command around it.

`python -m tests.apps.live_fakes camera ...` is `mien camera ...` with this filter.
"""

from __future__ import annotations

import sys

from mien.apps.main import run
from mien.apps.signals import status_of
from mien.runtime.spec import FilterSpec
from tests.apps.fakes import FakeFilter


class LiveFake(FakeFilter):
    """Takes a bright left top corner for a face, and names none."""

    def __init__(self, settings: FilterSpec) -> None:
        super().__init__(settings)
        self.face = str(settings.face)
        self.detection_spacing = 1.0
        self.edited: tuple[int, ...] = ()
        self.numbers: dict[int, int] = {}
        self.goals: dict[int, object] = {}
        self.providers = {"fake": settings.provider}

    def apply(self, frame: object) -> object:
        edited = super().apply(frame)
        self.faces = ()
        return edited


if __name__ == "__main__":
    sys.exit(status_of(lambda: run(sys.argv[1:], LiveFake)))
