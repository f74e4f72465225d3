"""Options that several commands take, each written once, and checks of their values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from mien.engines.errors import UsageError
from mien.runtime.methods import method_options, method_spec, method_specs
from mien.runtime.spec import PRECISIONS, FilterSpec, MethodOption, OptionValue

if TYPE_CHECKING:
    from mien.runtime.target import Target


def checked_strength(intensity: float) -> float:
    """`intensity`. Raises UsageError where it is no strength."""
    from mien.runtime.target import MAX_STRENGTH

    if not 0 <= intensity <= MAX_STRENGTH:
        raise UsageError(f"--intensity must lie in 0..{MAX_STRENGTH:g}, not {intensity:g}")
    return intensity


def checked_own(soften: float | None, amplify: float | None) -> float | None:
    """How much of the own expression the two options ask for, None where neither does.

    Raises UsageError for both at once, and outside what can be shown.
    """
    from mien.runtime.faces.own_expression import LEAST, MOST

    if soften is not None and amplify is not None:
        raise UsageError("give either --soften or --amplify, not both: they are one scale")
    for option, own in (("--soften", soften), ("--amplify", amplify)):
        if own is not None and not LEAST <= own <= MOST:
            raise UsageError(f"{option} must lie in {LEAST:g}..{MOST:g}, not {own:g}")
    return amplify if soften is None else soften


def prompted(prompt: str, method: str, intensity: float) -> Target:
    """The target of `--prompt`. Raises UsageError, also where the method takes none."""
    from mien.runtime.target import prompted_target

    if not method_spec(method).takes_prompt:
        raise UsageError(f"--prompt is for --method {PROMPTED}, not {method}")
    return prompted_target(prompt, checked_strength(intensity))


METHODS = "|".join(name for name, spec in method_specs().items() if not spec.makes_faces)
PROMPTED = ", ".join(name for name, spec in method_specs().items() if spec.takes_prompt)
EMOTIONS = "NAME|MIX"
STRENGTHS = "0..1.5"
OWN_SCALES = "0.25..1.5"
AS_EDIT = "As of mien edit."
_TOLD = "mien.method_options"  # what the options of methods leave in a command's context


def with_method_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with `--method`, and after it every option that a method declares.

    The command finds what was given by `options_of`.
    """
    declared = method_options()

    def told(context: typer.Context, **given: Any) -> None:
        values = {name: given.pop(name) for name in declared}
        context.meta[_TOLD] = {name: value for name, value in values.items() if value is not None}
        command(context, **given)

    hints = get_type_hints(command, include_extras=True)
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        parameters.append(parameter.replace(annotation=hints[parameter.name]))
        if parameter.name == "method":
            parameters += [_parameter(option) for option in declared.values()]
    hints |= {parameter.name: parameter.annotation for parameter in parameters}
    told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    told.__annotations__ = hints
    told.__name__, told.__doc__ = command.__name__, command.__doc__
    return told


def _parameter(option: MethodOption) -> inspect.Parameter:
    shown = typer.Option(metavar=option.metavar, help=option.help, show_default=False)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(
        option.name, kind, default=None, annotation=Annotated[str | None, shown]
    )


def given_options(context: typer.Context) -> dict[str, str]:
    """What a command was told for whichever method, as typed."""
    given: dict[str, str] = context.meta.get(_TOLD, {})
    return given


def options_of(context: typer.Context, method: str) -> tuple[tuple[str, OptionValue], ...]:
    """What a command was told for its method, checked, by name. Raises UsageError."""
    given = given_options(context)
    checked = method_spec(method).checked(given)
    return tuple((name, checked[name]) for name in sorted(given))


def filter_spec(
    context: typer.Context,
    *,
    method: str,
    provider: str,
    models: list[Path] | None,
    face: str | int = "all",
    precision: str = "auto",
) -> FilterSpec:
    """The filter that a command was asked for. Raises UsageError."""
    told = options_of(context, method)
    return FilterSpec(method, told, face, provider, folders(models), precision)


Prompt = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="The expression in words, as 'a surprised face', instead of --emotion; for --method "
        + PROMPTED
        + ".",
        show_default=False,
    ),
]
Soften = Annotated[
    float | None,
    typer.Option(
        metavar=OWN_SCALES,
        help="How much of the person's own expression to show, with or without another one; "
        "1 is all of it, 0.5 half.",
        show_default=False,
    ),
]
Amplify = Annotated[
    float | None,
    typer.Option(
        metavar=OWN_SCALES,
        help="The same scale by its other name: 1.3 shows more than there is.",
        show_default=False,
    ),
]
Face = Annotated[str, typer.Option(metavar="all|largest|N", help="Which faces to edit.")]
Provider = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What runs the networks: cpu, the default, for it is there on every machine and what "
        "was measured ran on it; cuda, ...; or auto, the best that works here, and it says why.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="|".join(PRECISIONS),
        help="Of the networks on the provider cpu: auto, the default, runs those that have an INT8 "
        "variant in it where the processor has instructions for it; fp32 none, int8 all of them.",
    ),
]
MeasuredProvider = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ...")]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--models",
        metavar="DIR",
        help="A folder with models of your own; may be given again, the first counts most.",
        show_default=False,
    ),
]
MaxMemory = Annotated[
    str,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Refuse a file that would take more, by the sizes it states: 2G, 800M.",
    ),
]
NoMarks = Annotated[
    bool,
    typer.Option(
        "--no-marks",
        help="Leave out the watermark in edited faces, and Content Credentials, which say that a "
        "file is edited.",
    ),
]
MEMORY = "1G"


def folders(models: list[Path] | None) -> Path | None:
    """The folders of `--models` as one value that `Catalog.load` takes."""
    from mien.engines.catalog import joined_folders

    return joined_folders(models or [])


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
