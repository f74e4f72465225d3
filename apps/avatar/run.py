"""`mien avatar run` at work: a picture, its outputs and who steers it, until it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack

from mien.apps.avatar.plan import AvatarPlan
from mien.apps.bench.child import peak_memory_mb
from mien.apps.camera.outputs import OpenOutputs, check_outputs, open_outputs
from mien.apps.camera.remote import ControlServer, runtime_folder
from mien.apps.camera.run import Teller, has_panel, open_panel
from mien.apps.signals import Stopped
from mien.engines import Catalog
from mien.engines.errors import DeviceError, MienError, UsageError, VideoError, one_line
from mien.engines.system.folders import CacheFolder
from mien.runtime.avatar.adapters.link import open_link
from mien.runtime.avatar.avatar import Avatar, StillFace, read_still
from mien.runtime.avatar.live import AvatarControls, AvatarFilter, BeatSource, Steering
from mien.runtime.avatar.protocol import SocketServer, answer_stream, may_read
from mien.runtime.avatar.speech import STANDARD_INPUT, SpeechStream
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.values import LiveStats
from mien.runtime.pictures.picture import read_picture

_TELL_S = 0.5
_SIGNAL = 128  # a shell's exit status for a signal, less its number
SUFFIX = ".avatar"


def status_line(stats: LiveStats) -> str:
    """How it is doing, in one line."""
    if stats.state == "idle":
        return "nobody is watching, so the avatar rests"
    drawn_ms = stats.stages_ms.get("draw", 0.0)
    parts = [f"{stats.output_fps:.0f} fps", f"drawn in {drawn_ms:.1f} ms"]
    return one_line("; ".join([", ".join(parts), *stats.adaptations, *stats.messages]))


def cost_text(cpu_s: float, wall_s: float) -> str:
    """Memory and processor use for people, of seconds of both."""
    memory = peak_memory_mb()
    parts = [] if memory is None else [f"{memory:.0f} MB at most"]
    if wall_s > 0:
        parts.append(f"{cpu_s / wall_s:.0%} of a core")
    return ", ".join(parts)


def run_avatar(plan: AvatarPlan) -> int:
    """The exit status: 0 after Ctrl-C or the time asked for. Raises MienError."""
    began_s = time.perf_counter()
    check_outputs(plan.outputs, str(plan.picture))
    with_panel = bool(plan.panel.wanted) and has_panel(plan.panel)
    teller = Teller()
    with ExitStack() as opening:
        avatar = _opened(plan)
        opening.callback(avatar.close)
        source = BeatSource(plan.picture.name, avatar.still.frame, plan.rate)
        opening.callback(source.close)
        opened = open_outputs(plan.outputs, str(plan.picture), source.facts, plan.rate)
        for output in opened.outputs:
            opening.callback(output.close)
        speech = None if plan.speech is None else SpeechStream(plan.speech, avatar.lips)
        if speech is not None:
            opening.callback(speech.close)
        controls = AvatarControls(target=plan.target, mark=plan.mark)
        drawn = AvatarFilter(avatar, plan.ease_s)
        loop = LiveLoop(source, lambda _: drawn, opened.outputs, controls, adaptive=False)
        with ExitStack() as running:
            running.callback(teller.end_line)
            try:
                running.enter_context(loop)
                port = None
                if with_panel:
                    port = running.enter_context(open_panel(plan.panel, loop)).port
                try:
                    running.enter_context(_remote(plan, controls, opened, port))
                except MienError as error:
                    teller.say(f"note: mien set cannot steer this avatar: {error}")
                steer = Steering(avatar, controls, drawn)
                for address in plan.links:
                    loop.add_output(open_link(address, steer))
                _listen(plan, steer, running, teller)
                _introduce(avatar.still, opened, teller, time.perf_counter() - began_s)
                _watch(plan, loop, opened, speech, teller)
            except Stopped as stopped:
                if stopped.status != _SIGNAL + signal.SIGINT:
                    raise
    for trouble in filter(None, (output.status().message for output in opened.recordings)):
        raise VideoError(trouble)
    return 0


def _opened(plan: AvatarPlan) -> Avatar:
    """The avatar of a plan's picture. Raises MienError, with the picture's name."""
    picture = read_picture(plan.picture, max_memory=plan.max_memory)
    catalog = Catalog.bundled() if plan.models is None else Catalog.load(plan.models)
    try:
        still = read_still(picture, plan.size_wh, catalog, plan.provider)
    except UsageError as error:
        raise UsageError(f"{plan.picture}: {error}") from error
    return Avatar(still, catalog, plan.provider, idle=plan.idle)


def _listen(plan: AvatarPlan, steer: Steering, running: ExitStack, teller: Teller) -> None:
    """Begin to take commands: at the socket, and on standard input where that is free."""
    path = plan.socket
    try:
        if path is None:
            folder = runtime_folder()
            CacheFolder(folder).write(f"{os.getpid()}{SUFFIX}", b"")  # makes the folder, private
            path = folder / f"{os.getpid()}{SUFFIX}"
            path.unlink()
        running.enter_context(SocketServer(path, steer))
        teller.say(f"commands: {path}")
    except DeviceError as error:
        if plan.socket is not None:
            raise
        teller.say(f"note: {error}")
    if plan.speech != STANDARD_INPUT and sys.stdin is not None and may_read(0):
        answers = None if plan.outputs.pipe == "-" else 1
        answer_stream(0, answers, steer)


def _remote(
    plan: AvatarPlan, controls: AvatarControls, opened: OpenOutputs, panel: int | None
) -> ControlServer:
    """What `mien set` speaks to; `--camera` takes the picture's name. Raises MienError."""
    virtual = () if opened.virtual is None else (opened.virtual.device,)
    return ControlServer(controls, str(plan.picture), names=virtual, panel=panel)


def _introduce(still: StillFace, opened: OpenOutputs, teller: Teller, start_s: float) -> None:
    """Print what is shown, where, and what it took to start."""
    size = f"{still.frame.width}x{still.frame.height}"
    teller.say(f"avatar: {size}, started in {start_s:.2f} s, {cost_text(0.0, 0.0)}")
    if opened.virtual is not None:
        teller.say(f"virtual camera: {opened.virtual.device}; choose it in your call program")
    if not opened.outputs:
        teller.say("note: shown in no picture yet; add --window, --record, --pipe or --virtual")
    teller.say("Ctrl-C ends it")


def _watch(
    plan: AvatarPlan,
    loop: LiveLoop,
    opened: OpenOutputs,
    speech: SpeechStream | None,
    teller: Teller,
) -> None:
    """Show statistics until the time is over or the loop ends; print what it took at the end."""
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    told: str | None = None
    try:
        while plan.seconds is None or time.monotonic() - began_s < plan.seconds:
            left_s = _TELL_S
            if plan.seconds is not None:
                left_s = min(_TELL_S, max(0.0, began_s + plan.seconds - time.monotonic()))
            if loop.join(left_s):
                return
            teller.show(loop.stats())
            if speech is not None and speech.message != told:
                told = speech.message
                teller.say(f"mien: {told or 'the speech is heard again'}")
            if (
                not plan.panel.wanted
                and opened.outputs
                and all(output.has_stopped for output in opened.outputs)
            ):
                return
    finally:
        stats = loop.stats()
        cost = cost_text(time.process_time() - began_cpu_s, time.monotonic() - began_s)
        teller.say(f"{stats.shown} frames in {stats.uptime_s:.1f} s, {cost}")
