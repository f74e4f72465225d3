"""mien's own modules, started as programs that import nothing from the working folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence

# `python -m` puts the working folder first among the places that modules are imported from: a
# numpy.py, or a folder mien, that lies where the user works would run. Python 3.10 has no -P.
PROGRAM = (
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs `module` as `python -m` would, in this Python."""
    return [sys.executable, "-c", PROGRAM, module, *arguments]
