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
Gan = Annotated[
    str | None, typer.Option(metavar=options.GANS, help=options.AS_EDIT, show_default=False)
]
Blend = Annotated[
    str | None, typer.Option(metavar=options.BLENDS, help=options.AS_EDIT, show_default=False)
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
    goal: Goal = None,
    intensity: Intensity = None,
    soften: options.Soften = None,
    amplify: options.Amplify = None,
    face: Face = None,
    method: Method = None,
    gan: Gan = None,
    blend: Blend = None,
    pause: Pause = None,
    mark: Mark = None,
    camera: Camera = None,
    as_json: options.AsJson = False,
) -> None:
    """Change the expression of a running camera, from a script, a key or a Stream Deck."""
    from mien.apps.camera.remote import Wanted, chosen_camera, send
    from mien.engines.errors import one_line
    from mien.runtime.target import parse_goal

    if intensity is not None:
        checked_strength(intensity)
    if goal is not None:
        parse_goal(goal)
    state = send(
        chosen_camera(camera),
        Wanted(
            goal, intensity, face, method, gan, blend, pause, mark, checked_own(soften, amplify)
        ),
    )
    if as_json:
        typer.echo(json.dumps(state))
        return
    # The blend of a camera that was started before there was one is not told.
    chosen = [text for text in (state["gan"], state.get("blend")) if text]
    chosen_text = f" ({', '.join(chosen)})" if chosen else ""
    own = state.get("own", 1)  # of a camera that was started before there was one
    own_text = "" if own == 1 else f", own expression {own:g}"
    paused = ", paused" if state["paused"] else ""
    typer.echo(
        one_line(
            f"{state['camera']}: {state['target']}, intensity {state['intensity']:g}{own_text}, "
            f"face {state['face']}, method {state['method']}{chosen_text}{paused}"
        )
    )
