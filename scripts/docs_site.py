"""What mkdocs.yml needs beside MkDocs: where the modules are, and how docstrings are laid out.

The folders here are subpackages of `mien` only once installed, so docstrings are read through a
tree of links with the installed shape, however mien is installed. A docstring names a field in
running text ("size_wh: of the frame."); on the site each of them begins a paragraph.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
ROOMS = ("runtime", "engines", "apps", "export", "calibration")
TREE = ROOT / "build" / "site-modules"  # mkdocs.yml names it in `paths`
FIELDS = re.compile(r"(?:(?<=\n)|(?<=[.;] )|^)((?:[a-z]\w*)(?:, [a-z]\w*)*): ", re.MULTILINE)


def on_startup(**_: Any) -> None:
    """Make the tree of links before docstrings are read; a hook of MkDocs."""
    package = TREE / "mien"
    package.mkdir(parents=True, exist_ok=True)
    for file in (ROOT / "package").iterdir():
        _link(package / file.name, file)
    for room in ROOMS:
        _link(package / room, ROOT / room)


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target, target_is_directory=target.is_dir())


class Fields(griffe.Extension):
    """Lets each field that a docstring names begin a paragraph, its name in bold."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Lay out every docstring of a package, once all of it is read."""
        waiting: list[griffe.Object] = [pkg]
        while waiting:
            thing = waiting.pop()
            waiting += [m for m in thing.members.values() if isinstance(m, griffe.Object)]
            if thing.docstring is not None:
                thing.docstring.value = _laid_out(thing.docstring.value, _names(thing))


def _laid_out(text: str, names: set[str]) -> str:
    def paragraph(found: re.Match[str]) -> str:
        known = names.issuperset(found[1].split(", "))
        return f"\n\n**{found[1]}**: " if known else found[0]

    return FIELDS.sub(paragraph, text)


def _names(obj: griffe.Object) -> set[str]:
    """What a docstring may name: parameters, also of the constructor, and attributes."""
    if isinstance(obj, griffe.Function):
        return {parameter.name for parameter in obj.parameters}
    if isinstance(obj, griffe.Class):
        return {*obj.members, *(p.name for p in obj.parameters)}
    return set()
