"""`python -m mien.export`, which `mien export` starts: PyTorch stays out of the command itself."""

from __future__ import annotations

import sys

from mien.engines.errors import (
    MienError,
    is_out_of_memory,
    message_of,
    plain_lines,
    short_line,
)
from mien.engines.system.install import extras_line
from mien.export.options import parse_options

EXTRA = ("torch", "onnx", "onnxscript")
STATUS_ERROR = 2
STATUS_CTRL_C = 130


def main(arguments: list[str]) -> int:
    """The exit status; every error is one line on standard error."""
    try:
        options = parse_options(arguments)
        from mien.export.command import export  # noqa: PLC0415 - takes seconds, and needs the extra

        print(plain_lines(export(options)))  # noqa: T201 - what the command has to say
    except KeyboardInterrupt:
        return STATUS_CTRL_C
    except Exception as error:  # noqa: BLE001 -- whatever it is, people get one line
        return _tell(error)
    return 0


def _tell(error: Exception) -> int:
    message = message_of(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in EXTRA:
        message = f"mien export needs {error.name}; {extras_line('export')}"
    elif not isinstance(error, MienError) and is_out_of_memory(error):
        message = "out of memory; try a smaller --size or --batch"
    print(f"mien: {short_line(message)}", file=sys.stderr)  # noqa: T201 - the one line of an error
    return STATUS_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
