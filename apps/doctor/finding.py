"""What `mien doctor` finds, and the machine it looks at."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "missing", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    subject: what. state: `ok`; `missing`, it is optional and not installed; `warn`, it works with
    less; `bad`, it does not work. text: what was found. fix: the line that fixes it, empty where
    nothing is to do. stops_edit: whether `mien edit` cannot run because of it.
    """

    subject: str
    state: State
    text: str
    fix: str = ""
    stops_edit: bool = False


def _may_open(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look.

    root: where the system's own files lie. system: as of sys.platform. release: of the kernel.
    may_open: whether this user may read and write a device. port: of the panel. models: a folder
    of models of the user's own.
    """

    root: Path = Path("/")
    system: str = sys.platform
    release: str = platform.release()
    may_open: Callable[[Path], bool] = _may_open
    port: int = 8765
    models: Path | None = None

    @property
    def is_linux(self) -> bool:
        """Whether it runs Linux."""
        return self.system.startswith("linux")


Check = Callable[[Machine], list[Finding]]
