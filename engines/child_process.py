"""mien's own modules, started as programs that import nothing from the working folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# `python -m` puts the working folder first among the places that modules are imported from: a
# numpy.py, or a folder mien, that lies where the user works would run. Python 3.10 has no -P.
CLEAN_PATH = "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
PROGRAM = (
    CLEAN_PATH
    + "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs `module` as `python -m` would, in this Python."""
    return [sys.executable, "-c", PROGRAM, module, *arguments]


def code_command(code: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs a piece of code in this Python."""
    return [sys.executable, "-c", CLEAN_PATH + code, *arguments]


def this_python() -> Path:
    """The program that runs this Python."""
    return Path(sys.executable)
