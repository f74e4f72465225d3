"""The clips to measure on."""

from __future__ import annotations

from pathlib import Path

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")


def clips_of(path: Path) -> list[Path]:
    """The clips of a folder by name, or the one clip."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.iterdir() if p.suffix.lower() in CLIP_SUFFIXES)
