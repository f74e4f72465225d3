"""What Linux says about virtual cameras of the v4l2loopback module, and about who reads them.

root: where the files of the system lie; another folder than `/` in tests.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MODULE = "v4l2loopback"
LOAD = "sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=mien"
RELOAD = f"sudo modprobe -r v4l2loopback && {LOAD}"
ROOT = Path("/")
_FORMAT = re.compile(r"(?P<fourcc>.{4}):(?P<width>\d+)x(?P<height>\d+)")
_ACCESS = 3  # O_ACCMODE


@dataclass(frozen=True, slots=True)
class LoopbackFormat:
    """What a device is set to while somebody has it open. fourcc: `YU12` is planar 4:2:0."""

    fourcc: str
    size_wh: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Loopback:
    """One virtual camera.

    path: the device file. label: the name that call programs show. format: None while it is free.
    is_exclusive: whether it calls itself a camera and nothing else, as browsers demand; None where
        the module does not say.
    """

    path: Path
    label: str
    format: LoopbackFormat | None
    is_exclusive: bool | None


def loopback_devices(root: Path = ROOT) -> tuple[Loopback, ...]:
    """The virtual cameras there are, by number."""
    folder = root / "sys/devices/virtual/video4linux"
    # of all virtual devices only this module's have this attribute
    found = [entry.parent for entry in folder.glob("video*/max_openers")]
    found.sort(key=lambda entry: int(entry.name.removeprefix("video")))
    exclusive = _exclusive_caps(root)
    return tuple(
        Loopback(
            Path("/dev") / entry.name,
            _read(entry / "name") or entry.name,
            _format(_read(entry / "format")),
            exclusive[index] if index < len(exclusive) else None,
        )
        for index, entry in enumerate(found)
    )


def module_is_loaded(root: Path = ROOT) -> bool:
    """Whether the kernel has the module now."""
    return (root / "sys/module" / MODULE).is_dir()


def module_is_installed(root: Path = ROOT, release: str | None = None) -> bool:
    """Whether the kernel could load the module. release: of the kernel, by default the running."""
    release = os.uname().release if release is None else release
    listed = _read(root / "lib/modules" / release / "modules.dep") or ""
    return f"/{MODULE}.ko" in listed


def has_reader(device: Path, root: Path = ROOT) -> bool:
    """Whether another program has a virtual camera open to look at it.

    The module counts how often its devices are open. Who it is, is told only of processes that may
    be looked at, and browsers hide theirs; so whoever cannot be seen counts as a reader.
    """
    readers, others = _visible_opens(device, root)
    if readers:
        return True
    count = _read(root / "sys/module" / MODULE / "refcnt")
    return count is not None and count.isdigit() and int(count) > others


def _visible_opens(device: Path, root: Path) -> tuple[int, int]:
    """How often other programs are seen to read the device, and all to use the module otherwise."""
    known = {str(loopback.path) for loopback in loopback_devices(root)} | {str(device)}
    readers = others = 0
    for process in (root / "proc").glob("[0-9]*"):
        is_own = process.name == str(os.getpid())
        for opened in _listed(process / "fd"):
            target = _link(opened)
            if target not in known:
                continue
            reads = not is_own and target == str(device)
            if reads and not _only_writes(process / "fdinfo" / opened.name):
                readers += 1
            else:
                others += 1
    return readers, others


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # another user's process, or one that has ended
        return []


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 -- a path of pipes and sockets is none
    except OSError:
        return None


def _only_writes(fdinfo: Path) -> bool:
    match = re.search(r"^flags:\s*([0-7]+)", _read(fdinfo) or "", re.MULTILINE)
    return match is not None and int(match[1], 8) & _ACCESS == os.O_WRONLY


def _exclusive_caps(root: Path) -> list[bool]:
    text = _read(root / "sys/module" / MODULE / "parameters/exclusive_caps") or ""
    return [flag.strip() in ("Y", "1") for flag in text.split(",") if flag.strip()]


def _format(text: str | None) -> LoopbackFormat | None:
    match = _FORMAT.match(text or "")
    if match is None:
        return None
    return LoopbackFormat(match["fourcc"], (int(match["width"]), int(match["height"])))


def _read(path: Path) -> str | None:
    """The text of a small file of the system without its line end; None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
