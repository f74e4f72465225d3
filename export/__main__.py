"""`python -m mien.export`, which `mien export` starts: PyTorch stays out of the command itself."""

from __future__ import annotations

import sys

from mien.engines.errors import MienError
from mien.export.options import parse_options

EXTRA = ("torch", "onnx", "onnxscript")
STATUS_ERROR = 2
STATUS_CTRL_C = 130


def main(arguments: list[str]) -> int:
    """The exit status; every error is one line on standard error."""
    try:
        options = parse_options(arguments)
        from mien.export.command import export  # noqa: PLC0415 - takes seconds, and needs the extra

        print(export(options))  # noqa: T201 - what the command has to say
    except MienError as error:
        return _tell(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRA:
            raise
        return _tell(f"mien export needs {error.name}; pip install 'mien[export]'")
    except (MemoryError, OSError) as error:
        return _tell(f"{error}" or "out of memory; try a smaller --size or --batch")
    except KeyboardInterrupt:
        return STATUS_CTRL_C
    return 0


def _tell(message: str) -> int:
    line = " ".join(message.encode(errors="backslashreplace").decode().split())
    print(f"mien: {line}", file=sys.stderr)  # noqa: T201 - the one line of an error
    return STATUS_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
