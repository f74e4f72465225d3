"""`mien export`, run beside the command: it needs PyTorch, which the command never imports."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from mien.engines.errors import ModelError
from mien.engines.system.process import module_command


def run_export(arguments: Sequence[str]) -> int:
    """The exit status of `python -m mien.export`, which prints for itself. Raises ModelError."""
    status = subprocess.run(module_command("mien.export", arguments), check=False)
    if status.returncode < 0:
        raise ModelError(
            f"the export was ended from outside (signal {-status.returncode}), as when memory "
            "runs out; try a smaller --size or --batch"
        )
    return status.returncode
