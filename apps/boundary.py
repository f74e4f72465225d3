"""The edge of the command line: every error becomes one line and an exit status."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from mien.apps.signals import Stopped
from mien.engines.errors import message_of, short_line

EXIT_ERROR = 2
EXIT_CTRL_C = 130
# typer leans on click, or brings it along under a name of its own; both are reached from
# what typer itself shows: a BadParameter is a UsageError is a ClickException.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def exit_status(command: Callable[[], object]) -> int:
    """The exit status of a typer command that does not end the program itself."""
    try:
        with _plain_warnings():
            status = command()
    except CommandLineError as error:
        tell_error(error.format_message() if hasattr(error, "format_message") else error)
        return EXIT_ERROR
    except Stopped as stopped:
        return stopped.status
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_CTRL_C
    except typer.Exit as ended:
        return ended.exit_code
    except Exception as error:  # noqa: BLE001 -- whatever it is, people get one line
        tell_error(message_of(error))
        return EXIT_ERROR
    return status if isinstance(status, int) else 0


def tell_error(message: object) -> None:
    """Print `mien: message` in one line on standard error."""
    typer.echo(f"mien: {short_line(message)}", err=True)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """What mien logs meanwhile is printed on standard error, a line each."""
    log, handler = logging.getLogger("mien"), _PlainHandler(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _PlainHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(short_line(record.getMessage()), err=True)
