"""The edge of the command line: every error becomes one line and an exit status."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperCommand

from mien.apps.signals import Stopped
from mien.engines.errors import message_of, short_line
from mien.engines.system.addresses import check_files

Function = TypeVar("Function", bound=Callable[..., Any])
EXIT_ERROR = 2
EXIT_CTRL_C = 130
_SAVE: Final = "save it first: ffmpeg -i {address} -c copy clip.mkv"
_EDIT_LIVE: Final = "; or edit it live: mien camera --source {address}"
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


class FileCommand(TyperCommand):
    """A command whose files are files: the address of a stream in their place is refused.

    As a path it would be none any more, and its password would be told with it.
    """

    def invoke(self, ctx: Any) -> Any:
        """Check the files, and do what the command does. Raises UsageError."""
        read = {param.name for param in self.params if param.param_type_name == "argument"}
        remedy = f"{_SAVE}{_EDIT_LIVE if self.name == 'edit' else ''}"
        check_files((value for name, value in ctx.params.items() if name in read), remedy)
        check_files(value for name, value in ctx.params.items() if name not in read)
        return super().invoke(ctx)


class Commands(typer.Typer):
    """Commands that take files, each a `FileCommand`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """As of typer."""
        return super().command(name, **{"cls": FileCommand, **settings})


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
