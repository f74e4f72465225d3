"""The line that brings a model file back."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mien.engines.catalog import BUNDLED_FOLDER

PACKAGE = "mien"


def mend_models(folder: Path | None) -> str:
    """The command that writes the models of a folder anew; None is the folder of mien itself."""
    if folder is None or folder.resolve() == BUNDLED_FOLDER.resolve():
        return reinstall_line(_origin())
    return f"mien export CHECKPOINT --into {shlex.quote(str(folder))}"


def reinstall_line(origin: str | None) -> str:
    """The command that installs mien again.

    origin: what pip wrote of where it came from (direct_url.json), None where that was an index.
    """
    try:
        stated = json.loads(origin or "")
        url = str(stated["url"])
        is_editable = bool(stated.get("dir_info", {}).get("editable"))
    except (AttributeError, KeyError, TypeError, ValueError):
        url, is_editable = PACKAGE, False
    if url.startswith("file:"):
        url = unquote(urlsplit(url).path)
    if is_editable:
        return f"git -C {shlex.quote(url)} checkout -- engines/models"
    return f"pip install --force-reinstall --no-deps {shlex.quote(url)}"


def _origin() -> str | None:
    try:
        return distribution(PACKAGE).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
