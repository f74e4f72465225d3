"""`mien camera` at work: a source, a filter, outputs and the panel, until it is told to stop.

In a terminal it renews one status line; elsewhere it prints only what changes.
"""

from __future__ import annotations

import importlib
import re
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import typer

from mien.apps.camera.outputs import OpenOutputs, check_outputs, open_outputs
from mien.apps.camera.plan import CameraPlan, PanelPlan
from mien.apps.camera.remote import ControlServer
from mien.apps.marks.marking import FileMarks, Marking, applied_live
from mien.apps.signals import Stopped
from mien.engines.errors import DeviceError, MienError, UsageError, VideoError, one_line
from mien.engines.system.addresses import shown_address
from mien.engines.system.install import extras_line
from mien.engines.system.partial_file import PartialFile
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.filters import LiveFilter
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.outputs.log import FrameLog
from mien.runtime.live.outputs.recording import Recording, Seal
from mien.runtime.live.sources.camera import CameraSource
from mien.runtime.live.sources.source import (
    CameraFormat,
    CaptureOptions,
    PushSource,
    Source,
    open_source,
)
from mien.runtime.live.values import Applied, LiveStats, SourceFacts
from mien.runtime.session import FilterMaker

if TYPE_CHECKING:
    from mien.apps.panel.app import PanelServer


def status_line(stats: LiveStats) -> str:
    """How it is doing, in one line."""
    if stats.state == "idle":
        return "nobody is watching, so the camera is off"
    delay = stats.delay
    parts = [f"{stats.output_fps:.0f} fps"]
    if delay.median_ms is not None and delay.p95_ms is not None:
        parts.append(f"latency {delay.median_ms:.0f} ms (p95 {delay.p95_ms:.0f})")
    parts.append(f"dropped {stats.recent_dropped_share:.1%}")
    parts.append("1 face" if len(stats.faces) == 1 else f"{len(stats.faces)} faces")
    parts.append(networks(stats))
    return one_line("; ".join([", ".join(parts), *stats.adaptations, *stats.messages]))


def networks(stats: LiveStats) -> str:
    """What really runs the networks."""
    return "on " + (", ".join(sorted(set(stats.providers.values()))) or "nothing yet")


def summary_line(stats: LiveStats) -> str:
    """How it was, in one line, at the end."""
    delay = stats.delay
    parts = [
        f"{stats.shown} frames in {stats.uptime_s:.1f} s",
        f"dropped {stats.dropped_share:.1%}",
    ]
    if delay.all_median_ms is not None and delay.all_p95_ms is not None:
        parts.append(f"latency {delay.all_median_ms:.1f} ms (p95 {delay.all_p95_ms:.1f})")
    parts += [f"{output.name}: {output.shown} shown" for output in stats.outputs]
    return one_line(", ".join([*parts, networks(stats)]))


class Teller:
    """Tells on standard error, for standard output may be the video itself.

    is_terminal: the line is renewed in its place; else only what is wrong is told, once.
    """

    def __init__(self, *, is_terminal: bool | None = None) -> None:
        self._is_terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
        self._told: tuple[str, ...] = ()
        self._has_line = False

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.end_line()
        typer.echo(one_line(text), err=True)

    def show(self, stats: LiveStats) -> None:
        """Renew the status line, or, without a terminal, print the messages that are new."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            typer.echo(f"\r\033[K{status_line(stats)[:width]}", err=True, nl=False)
            self._has_line = True
            return
        texts = (*stats.adaptations, *stats.messages)
        for text in texts:
            if _kind(text) not in self._told:
                typer.echo(f"mien: {one_line(text)}", err=True)
        self._told = tuple(_kind(text) for text in texts)

    def end_line(self) -> None:
        """End the status line, so that the next output begins on a line of its own."""
        if self._has_line:
            typer.echo("", err=True)
            self._has_line = False


def _kind(text: str) -> str:
    """The text without its numbers, which change all the time."""
    return re.sub(r"\d+", "#", text)


WHIP: Final = "whip"  # in the place of a camera: wait for a picture to be sent
WHIP_SIZE_WH: Final = (1280, 720)
_TELL_S = 0.5
_SIGNAL = 128  # a shell's exit status for a signal, less its number


def run_camera(plan: CameraPlan, make_filter: FilterMaker) -> int:
    """The exit status: 0 after Ctrl-C or the time asked for.

    Raises MienError, also at the end, where a recording is not what was asked for.
    """
    check_outputs(plan.outputs, plan.source)
    with_panel = has_panel(plan.panel)
    if plan.source == WHIP and not with_panel:
        raise UsageError("--source whip is what is sent to the panel; leave --no-panel out")
    if not plan.is_goal_given and not with_panel:
        raise UsageError("which expression? add --emotion happy (or another, or none)")
    controls = _controls(plan)
    teller = Teller()
    marking = Marking.ready(is_on=plan.is_marked)
    marks = marking.of_recording(overwrite=plan.outputs.overwrite)
    with ExitStack() as opening:
        source = _open_source(plan)
        opening.callback(source.close)
        opened = open_outputs(
            plan.outputs, plan.source, source.facts, plan.rate, seal=_seal_of(marks)
        )
        for output in opened.outputs:
            opening.callback(output.close)
        if not opened.outputs and not with_panel:
            is_refused = plan.panel.wanted is False
            other_way = "leave --no-panel out" if is_refused else extras_line("panel")
            raise DeviceError(
                f"there is nothing to show the video in: {opened.no_virtual or 'no output'}; "
                f"or add --record FILE, or {other_way}"
            )
        loop = LiveLoop(
            source,
            lambda state: _filter(plan, make_filter, state, marks),
            opened.outputs,
            controls,
            delay_ms=plan.delay_ms,
            adaptive=plan.adaptive,
            rate=None if plan.rate is None else float(plan.rate),
        )
        panel = open_panel(plan.panel, loop) if with_panel else None
        if panel is not None:
            opening.callback(panel.close)
        if plan.outputs.record is not None and (note := marks.unsigned_note(plan.outputs.record)):
            teller.say(f"note: {note}")
        try:
            status = _run(plan, loop, panel, opened, teller)
        finally:
            for note in marks.notes:
                teller.say(f"note: {note}")
        opening.pop_all()
    return status


def _seal_of(marks: FileMarks) -> Seal | None:
    """What signs a recording at its end; None where nothing is marked."""

    def seal(part: PartialFile, applied: tuple[Applied, ...]) -> PartialFile | None:
        if marks.unsigned_note(part.path) is not None:  # which is told at the beginning
            return None
        number = None if marks.watermark is None else marks.watermark.payload.identifier
        return marks.sign(part, None, applied_live(applied, number))

    return None if marks.watermark is None else seal


def _controls(plan: CameraPlan) -> Controls:
    settings = plan.filter
    return Controls(
        target=plan.target,
        face=plan.face,
        method=settings.method,
        options=settings.options,
        mark=plan.mark,
        own=plan.own,
    )


def _open_source(plan: CameraPlan) -> Source:
    form = cast("CameraFormat", plan.format)
    usual = CaptureOptions()
    if plan.source == WHIP:
        size_wh, rate = plan.size_wh or WHIP_SIZE_WH, plan.rate or usual.rate
        waiting = PushSource(SourceFacts(WHIP, size_wh, rate, "webrtc", ""))
        waiting.message = "nobody sends a picture by WHIP"
        return waiting
    options = CaptureOptions(plan.size_wh or usual.size_wh, plan.rate or usual.rate, form)
    return open_source(
        plan.source,
        options=options,
        file_room_wh=plan.size_wh,
        max_memory=plan.max_memory,
    )


def _run(
    plan: CameraPlan,
    loop: LiveLoop,
    panel: PanelServer | None,
    opened: OpenOutputs,
    teller: Teller,
) -> int:
    try:
        with ExitStack() as running:
            running.callback(teller.end_line)
            running.enter_context(loop)
            if panel is not None:
                running.enter_context(panel)
            try:
                running.enter_context(_remote(plan, loop, panel, opened))
            except MienError as error:
                teller.say(f"note: mien set cannot steer this camera: {error}")
            _introduce(loop.source, panel, opened, teller)
            _watch(plan, loop, opened, teller, alone=panel is None)
    except Stopped as stopped:
        if stopped.status != _SIGNAL + signal.SIGINT:
            raise
    teller.say(summary_line(loop.stats()))
    for trouble in filter(None, (output.status().message for output in _kept(opened))):
        raise VideoError(trouble)
    return 0


def _kept(opened: OpenOutputs) -> tuple[Recording | FrameLog, ...]:
    """The files that are to be whole at the end."""
    return (*opened.recordings, *(() if opened.log is None else (opened.log,)))


def _remote(
    plan: CameraPlan, loop: LiveLoop, panel: PanelServer | None, opened: OpenOutputs
) -> ControlServer:
    """What `mien set` speaks to. Raises MienError."""
    virtual = () if opened.virtual is None else (opened.virtual.device,)
    names = (loop.source.facts.name, *virtual)
    port = None if panel is None else panel.port
    return ControlServer(loop.controls, shown_address(plan.source), names=names, panel=port)


def _introduce(
    source: Source, panel: PanelServer | None, opened: OpenOutputs, teller: Teller
) -> None:
    """Print what is read, and where it can be seen."""
    facts = source.facts
    rate = f" at {float(facts.rate):.4g}" if facts.rate else ""
    size = f"{facts.size_wh[0]}x{facts.size_wh[1]}"
    asked = f" (asked for: {facts.asked})" if facts.asked else ""
    teller.say(f"{facts.name}: {size}{rate}, {facts.pixel_format}{asked}")
    if opened.virtual is not None:
        teller.say(f"virtual camera: {opened.virtual.device}; choose it in your call program")
        if opened.virtual.note is not None:
            teller.say(f"note: {opened.virtual.note}")
    elif opened.no_virtual is not None:
        teller.say(f"note: {opened.no_virtual} (mien doctor says more); going on without it")
    for path in (path for file in _kept(opened) for path in file.rescued):
        teller.say(f"note: an earlier recording was cut off; what there is of it is in {path}")
    if panel is not None:
        teller.say(f"panel: {panel.url}")
        if facts.name == WHIP:
            teller.say(f"waiting for a picture at {panel.address('/whip')}, with the panel's token")
    teller.say("Ctrl-C ends it")


def _watch(
    plan: CameraPlan, loop: LiveLoop, opened: OpenOutputs, teller: Teller, *, alone: bool
) -> None:
    """Show statistics until the time or the source is over.

    Where `alone`, until every output has stopped as well.
    """
    ends_s = None if plan.seconds is None else time.monotonic() + plan.seconds
    while ends_s is None or time.monotonic() < ends_s:
        left_s = _TELL_S if ends_s is None else max(0.0, ends_s - time.monotonic())
        if loop.join(min(_TELL_S, left_s)):
            return
        teller.show(loop.stats())
        if isinstance(loop.source, CameraSource) and loop.source.has_ended:
            return
        if alone and all(output.has_stopped for output in opened.outputs):
            return


def _filter(
    plan: CameraPlan, make_filter: FilterMaker, state: ControlState, marks: FileMarks
) -> LiveFilter:
    face = int(state.face) if state.face.isdigit() else state.face
    settings = replace(plan.filter, face=face, method=state.method, options=state.options)
    made = make_filter(settings)
    made.watermark = marks.watermark
    return cast("LiveFilter", made)


def has_panel(plan: PanelPlan) -> bool:
    """Whether the panel is to be served. Raises DeviceError where it cannot though it was asked."""
    if plan.wanted is False:
        return False
    try:
        importlib.import_module("mien.apps.panel.app")
    except ImportError as error:
        if plan.wanted:
            raise DeviceError(
                f"the panel needs packages that are not installed ({error.name}); "
                f"{extras_line('panel')}"
            ) from error
        return False
    return True


def open_panel(plan: PanelPlan, loop: LiveLoop) -> PanelServer:
    """The panel of a loop, not yet served. Raises MienError."""
    from mien.apps.panel.app import PanelServer  # noqa: PLC0415 -- an extra
    from mien.apps.panel.settings import PanelSettings  # noqa: PLC0415

    settings = PanelSettings(
        port=plan.port, listen=plan.listen, certificate=plan.certificate, key=plan.key
    )
    return PanelServer(loop, settings)
