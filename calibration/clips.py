"""The clips to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")


def clips_of(path: Path) -> list[Path]:
    """The clips of a folder by name, or the one clip."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.iterdir() if p.suffix.lower() in CLIP_SUFFIXES)


def all_clips(paths: Sequence[Path]) -> list[Path]:
    """The clips of several folders, and single clips, each once, in the order given."""
    return list(dict.fromkeys(clip for path in paths for clip in clips_of(path)))
