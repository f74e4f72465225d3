"""One file's report as JSON on standard output, from a process of bounded memory.

`mien.calibration.audit.guard` starts it, and bounds its time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mien.calibration.audit.examine import audit
from mien.calibration.audit.finding import refused

ROOM = 384 << 20  # bytes beside the file's own; the package onnx copies a model some times
COPIES = 8


def _bound_memory(path: Path) -> None:
    """Limit this process's memory to what a file of this size can need (on Linux).

    A file that asks for more gets MemoryError.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows

        held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        size = path.stat().st_size
    except (ImportError, OSError):
        return
    most = held * resource.getpagesize() + ROOM + COPIES * size
    _, hardest = resource.getrlimit(resource.RLIMIT_AS)
    if hardest == resource.RLIM_INFINITY or most < hardest:
        resource.setrlimit(resource.RLIMIT_AS, (most, hardest))


def main() -> None:
    """Print the report of the graph named on the command line, as JSON."""
    path = Path(sys.argv[1])
    _bound_memory(path)
    try:
        report = audit(path)
    except (MemoryError, RecursionError):
        report = refused(str(path), f"{path} needs more memory than a model of its size does", "")
    sys.stdout.write(json.dumps(report.to_json()))


if __name__ == "__main__":
    main()
