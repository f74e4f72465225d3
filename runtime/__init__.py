"""Frames in, edited frames out.

`Filter` edits frames one by one, `edit_video` a whole file. Names are loaded when first used, so
that a look at the help does not wait for the networks' runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.runtime.faces.tracking import Face
    from mien.runtime.filter import Filter
    from mien.runtime.frame import Frame, PixelLayout, Plane
    from mien.runtime.target import EMOTIONS, Target, parse_target
    from mien.runtime.video import VideoOptions, VideoReport, edit_video

_HOMES = {
    "EMOTIONS": "target",
    "Face": "faces.tracking",
    "Filter": "filter",
    "Frame": "frame",
    "PixelLayout": "frame",
    "Plane": "frame",
    "Target": "target",
    "VideoOptions": "video",
    "VideoReport": "video",
    "edit_video": "video",
    "parse_target": "target",
}

__all__ = [
    "EMOTIONS",
    "Face",
    "Filter",
    "Frame",
    "PixelLayout",
    "Plane",
    "Target",
    "VideoOptions",
    "VideoReport",
    "edit_video",
    "parse_target",
]


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
