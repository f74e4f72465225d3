"""The default filter, as the measurements take it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mien.runtime.filter import Filter
from mien.runtime.target import parse_target


def default_editors(emotions: Sequence[str], models: Path | None = None) -> dict[str, Filter]:
    """A default filter for each emotion or mix; `models` as of `Filter`."""
    return {emotion: Filter(parse_target(emotion), models=models) for emotion in emotions}


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """Add `--models`: networks that replace bundled ones, as in `mien edit`."""
    parser.add_argument("--models", type=Path, help="a folder of models with a catalog")
