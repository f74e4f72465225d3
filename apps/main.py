"""The `mien` command: where it starts.

Nothing is imported here before signals are handled, so that Ctrl-C during the start leaves no
trace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mien.apps.signals import status_of

if TYPE_CHECKING:
    from mien.runtime.session import FaceFilter, FilterMaker
    from mien.runtime.spec import FilterSpec


EXIT_ERROR = 2


def open_filter(settings: FilterSpec) -> FaceFilter:
    """The filter of `mien.runtime`, with its networks loaded; says what `auto` chose."""
    import typer

    from mien.engines.ort.providers import AUTO
    from mien.runtime.filter import Filter

    opened = Filter.of(settings)
    if settings.provider.lower() == AUTO:
        where = ", ".join(sorted(set(opened.providers.values())))
        typer.echo(f"mien: auto runs the networks on {where}: {_why_auto(where)}", err=True)
    return opened


def _why_auto(where: str) -> str:
    """Why `auto` took that provider."""
    from mien.engines.ort.backend import available_providers
    from mien.engines.ort.providers import AUTO_ORDER

    order = [provider.short for provider in AUTO_ORDER if provider in available_providers()]
    if where not in order:
        return "their plans are built"
    if order == [where]:
        return "the installed ONNX Runtime has nothing else that auto tries (mien doctor says more)"
    if where == order[0]:
        return f"it works, and comes first of {', '.join(order)}"
    failed = ", ".join(order[: order.index(where)])
    return f"{failed} cannot be used here (mien doctor says why)"


def run(arguments: Sequence[str], make_filter: FilterMaker = open_filter) -> int:
    """The exit status of a command line; every error is one line on standard error."""
    try:
        from mien.apps.boundary import exit_status
        from mien.apps.command_line import app
    except (ImportError, MemoryError, OSError) as error:
        # What turns errors into lines may be what does not load.
        no_memory = isinstance(error, MemoryError) or "map segment" in str(error)
        fault = f"a part of it does not load ({ascii(str(error))[1:300]}); install it again"
        sys.stderr.write(f"mien: {'out of memory at its start' if no_memory else fault}\n")
        return EXIT_ERROR

    return exit_status(
        lambda: app(list(arguments), prog_name="mien", standalone_mode=False, obj=make_filter)
    )


def main() -> None:
    """Run the command `mien`, and exit with its status."""
    # What OpenCV finds wrong in a file is told in mien's own words.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    sys.exit(status_of(lambda: run(sys.argv[1:])))


if __name__ == "__main__":
    main()
