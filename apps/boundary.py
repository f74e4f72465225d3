"""The edge of the command line: every error becomes one line and an exit status."""

from __future__ import annotations

from collections.abc import Callable

import typer

from mien.apps.signals import Stopped
from mien.engines.errors import MienError

EXIT_ERROR = 2
EXIT_CTRL_C = 130
# typer leans on click, or brings it along under a name of its own; both are reached from
# what typer itself shows: a BadParameter is a UsageError is a ClickException.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def exit_status(command: Callable[[], object]) -> int:
    """The exit status of a typer command that does not end the program itself."""
    try:
        status = command()
    except (MienError, CommandLineError, MemoryError, OSError) as error:
        tell_error(_message(error))
        return EXIT_ERROR
    except Stopped as stopped:
        return stopped.status
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_CTRL_C
    except typer.Exit as ended:
        return ended.exit_code
    return status if isinstance(status, int) else 0


def tell_error(message: object) -> None:
    """Nothing; prints `mien: message` in one line on standard error."""
    typer.echo(f"mien: {one_line(message)}", err=True)


def one_line(text: object) -> str:
    """`text` without line breaks, and fit for any terminal: names need not be valid Unicode."""
    return " ".join(str(text).encode(errors="backslashreplace").decode().split())


def _message(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; try a smaller picture or video"
    if isinstance(error, OSError):
        return f"{error.filename or 'the output'}: {error.strerror or error}"
    formatted = getattr(error, "format_message", None)
    return str(error) if formatted is None else str(formatted())
