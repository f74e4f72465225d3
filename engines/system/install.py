"""The lines that install what is missing, as they fit this installation of mien."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

PACKAGE = "mien"
# The versions that pyproject.toml takes; a test holds them against it.
BOUNDS = {
    "av": ">=17.1,<19",
    "onnx": ">=1.16,<2",
    "onnxruntime": ">=1.18,<1.33",
    "onnxruntime-gpu": ">=1.20,<1.33",
    "opencv-python-headless": ">=4.8,<6",
    "pycuda": ">=2022.1",
    "tensorrt": ">=10.3,<12",
}
# Other builds of a package have its versions.
BUILDS = {
    "onnxruntime-directml": "onnxruntime",
    "onnxruntime-openvino": "onnxruntime",
    "opencv-python": "opencv-python-headless",
}


def extras_line(extras: str, origin: str | None = None) -> str:
    """The command that adds extras, such as `camera,panel`, to mien as it is installed.

    origin: what pip wrote of where mien came from (direct_url.json), None to look it up.
    """
    url, kind = _origin(origin if origin is not None else stated_origin())
    if kind != "other" and (Path(url) / "pyproject.toml").is_file():
        editable = "-e " if kind == "editable" else ""
        return f"pip install {editable}{quoted(f'{url}[{extras}]')}"
    # pip takes the mien that is installed, and only adds what the extras name.
    return f"pip install {quoted(f'{PACKAGE}[{extras}]')}"


def packages_line(*packages: str, options: str = "") -> str:
    """The command that installs packages in the versions that mien takes."""
    named = " ".join(quoted(package + bounds(package)) for package in packages)
    return f"pip install {options + ' ' if options else ''}{named}"


def bounds(package: str) -> str:
    """The versions of a package that mien takes, such as `>=1.18,<1.33`."""
    return BOUNDS[BUILDS.get(package, package)]


def reinstall_line(origin: str | None) -> str:
    """The command that brings the files of mien back. origin: as of `extras_line`, None if unknown.

    Where it is a clone, that restores the models of the clone.
    """
    url, kind = _origin(origin)
    if kind == "editable":
        return f"git -C {quoted(url)} checkout -- engines/models"
    return f"pip install --force-reinstall --no-deps {quoted(url)}"


def stated_origin() -> str | None:
    """What pip wrote of where mien came from, None where that was an index."""
    # A clone that is the working folder may have metadata of its own, without an origin.
    metadata = importlib.import_module("importlib.metadata")  # slow, and only for errors
    found = (known.read_text("direct_url.json") for known in metadata.distributions(name=PACKAGE))
    return next((text for text in found if text), None)


def quoted(word: str, system: str = sys.platform) -> str:
    """A word as the shell takes it whole: brackets mean files to zsh, `<` and `>` to all."""
    if system == "win32":
        return f'"{word}"' if set(word) & set(" \t&|<>^()[];,%!") else word
    return shlex.quote(word)


def _origin(stated: str | None) -> tuple[str, str]:
    """The path or address of mien, and whether that is a `folder`, is `editable`, or is `other`."""
    try:
        told = json.loads(stated or "")
        url, folder = str(told["url"]), told.get("dir_info")
        is_editable = bool((folder or {}).get("editable"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return PACKAGE, "other"
    if url.startswith("file:"):
        url = unquote(urlsplit(url).path)
        url = url.lstrip("/") if sys.platform == "win32" else url  # file:///C:/mien
    return url, "editable" if is_editable else "other" if folder is None else "folder"
