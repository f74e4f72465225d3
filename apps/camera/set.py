"""`mien set`: steers a camera that runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mien.apps import options
from mien.apps.options import checked_own, checked_strength

Goal = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|MIX|none]",
        help="The expression: happy, happy:0.6+sad:0.2, or none for faces as they are; without "
        "anything, how the camera is set is printed.",
        show_default=False,
    ),
]
Intensity = Annotated[
    float | None,
    typer.Option(metavar=options.STRENGTHS, help="How strongly.", show_default=False),
]
Face = Annotated[
    str | None,
    typer.Option(metavar="all|largest|N", help="Which faces to edit.", show_default=False),
]
Method = Annotated[
    str | None, typer.Option(metavar=options.METHODS, help=options.AS_EDIT, show_default=False)
]
Pause = Annotated[
    bool | None,
    typer.Option("--pause/--resume", help="Show the original; the edit again.", show_default=False),
]
Mark = Annotated[
    bool | None,
    typer.Option("--mark/--no-mark", help="Show AI-edited in a corner.", show_default=False),
]
Camera = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PORT",
        help="Which camera, where several run: its source, or the port of its panel.",
        show_default=False,
    ),
]


def set_camera(
    context: typer.Context,
    goal: Goal = None,
    prompt: options.Prompt = None,
    intensity: Intensity = None,
    soften: options.Soften = None,
    amplify: options.Amplify = None,
    face: Face = None,
    method: Method = None,
    pause: Pause = None,
    mark: Mark = None,
    camera: Camera = None,
    as_json: options.AsJson = False,
) -> None:
    """Change the expression of a running camera, from a script, a key or a Stream Deck."""
    from mien.apps.camera.remote import Wanted, chosen_camera, send
    from mien.engines.errors import UsageError, one_line
    from mien.runtime.target import parse_goal, prompted_target

    if intensity is not None:
        checked_strength(intensity)
    if goal is not None and prompt is not None:
        raise UsageError("give either --prompt or an expression, not both")
    if goal is not None:
        parse_goal(goal)
    if prompt is not None:
        prompted_target(prompt)
    told = dict(options.options_of(context, method)) if method else options.given_options(context)
    own = checked_own(soften, amplify)
    wanted = Wanted(goal, intensity, face, method, told or None, pause, mark, own, prompt)
    state = send(chosen_camera(camera), wanted)
    if as_json:
        typer.echo(json.dumps(state))
        return
    told_text = ", ".join(f"{name} {value}" for name, value in state.get("options", {}).items())
    method_text = f"{state['method']} ({told_text})" if told_text else state["method"]
    shown = state.get("own", 1)  # of a camera that was started before there was one
    own_text = "" if shown == 1 else f", own expression {shown:g}"
    paused = ", paused" if state["paused"] else ""
    words = state.get("prompt")
    shown_text = f"prompt {words!r}" if words else state["target"]
    typer.echo(
        one_line(
            f"{state['camera']}: {shown_text}, intensity {state['intensity']:g}{own_text}, "
            f"face {state['face']}, method {method_text}{paused}"
        )
    )
