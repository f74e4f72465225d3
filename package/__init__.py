"""mien changes the expression on a face in live video.

    from mien import Filter

    with Filter("happy") as change:
        for rgb, time_s in frames:  # uint8 (H, W, 3)
            show(change(rgb, time_s))

`Filter` edits frames one by one, `edit_video` a whole file. Names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.engines.errors import MienError
    from mien.runtime.filter import Filter
    from mien.runtime.target import EMOTIONS, Target, parse_target
    from mien.runtime.video import VideoOptions, edit_video

__version__ = "0.1.0"

_HOMES = {
    "EMOTIONS": "runtime.target",
    "Filter": "runtime.filter",
    "MienError": "engines.errors",
    "Target": "runtime.target",
    "VideoOptions": "runtime.video",
    "edit_video": "runtime.video",
    "parse_target": "runtime.target",
}

__all__ = [
    "EMOTIONS",
    "Filter",
    "MienError",
    "Target",
    "VideoOptions",
    "edit_video",
    "parse_target",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
