"""The outputs that `mien camera` was asked for, opened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

from mien.apps.camera.plan import NO_VIRTUAL, OutputPlan
from mien.engines.errors import DeviceError, UsageError
from mien.runtime.avatar.adapters.link import open_link, parse_link
from mien.runtime.live.outputs.log import FrameLog, check_log
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.outputs.pipe import PipeFormat, RawPipe, check_pipe
from mien.runtime.live.outputs.pipewire import PipeWireCamera
from mien.runtime.live.outputs.recording import Recording, Seal, check_recording
from mien.runtime.live.outputs.virtual_camera import VirtualCamera, loopback_devices
from mien.runtime.live.outputs.window import PreviewWindow
from mien.runtime.live.values import SourceFacts

DEFAULT_RATE = Fraction(30)


@dataclass(frozen=True, slots=True)
class OpenOutputs:
    """Open outputs, the virtual camera among them, and why there is none though it may be.

    recordings: those that are to be whole at the end.
    """

    outputs: tuple[ThreadedOutput | FrameLog, ...]
    recordings: tuple[Recording, ...]
    log: FrameLog | None
    virtual: VirtualCamera | PipeWireCamera | None
    no_virtual: str | None


def check_outputs(plan: OutputPlan, source: str) -> None:
    """Raise MienError where a file of the plan may not be written."""
    files = [Path(path) for path in _files(plan)]
    for path in files:
        if _is_same_file(path, Path(source)):
            raise UsageError(f"{path} is what is read; choose another name")
    names = [path.absolute() for path in files]
    if twice := [path for path in names if names.count(path) > 1]:
        raise UsageError(f"two outputs would be written to {twice[0]}; give each its own name")
    for recording in (plan.record, plan.record_dry):
        if recording is not None:
            check_recording(recording, overwrite=plan.overwrite)
    if plan.log is not None:
        check_log(plan.log, overwrite=plan.overwrite)
    if plan.pipe is not None:
        check_pipe(plan.pipe, overwrite=plan.overwrite)
    for link in plan.links:
        parse_link(link)


def _files(plan: OutputPlan) -> list[Path | str]:
    named = (plan.record, plan.record_dry, plan.log, plan.pipe)
    return [path for path in named if path is not None]


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is missing
        return False


def open_outputs(
    plan: OutputPlan,
    source: str,
    facts: SourceFacts,
    rate: Fraction | None,
    seal: Seal | None = None,
) -> OpenOutputs:
    """The outputs of a plan for a camera. source, rate: that were asked for. Raises MienError.

    seal: of a recording of what is shown.
    A virtual camera that was not asked for by name may be missing.
    """
    rate = min(rate, facts.rate) if rate and facts.rate else rate or facts.rate
    path = f"/dev/video{source}" if source.isdigit() else source
    virtual, no_virtual, log = None, None, None
    with ExitStack() as opening:  # what is open is closed where the next does not open
        opened: list[ThreadedOutput | FrameLog] = []

        def take(output: ThreadedOutput | FrameLog) -> None:
            opening.callback(output.close)
            opened.append(output)

        for file, is_dry in ((plan.record, False), (plan.record_dry, True)):
            if file is not None:
                sealed = None if is_dry else seal
                take(Recording(file, rate, overwrite=plan.overwrite, is_dry=is_dry, seal=sealed))
        if plan.log is not None:
            log = FrameLog(plan.log, overwrite=plan.overwrite)
            take(log)
        if plan.pipe is not None:
            take(_pipe(plan.pipe, plan, facts, rate))
        for output in _watchers(plan):
            take(output)
        if plan.virtual != NO_VIRTUAL:
            try:
                virtual = _virtual(plan, facts.size_wh, float(rate or DEFAULT_RATE), avoid=path)
                opened.append(virtual)
            except DeviceError as error:
                if plan.virtual or plan.device is not None:
                    raise
                no_virtual = str(error)
        opening.pop_all()
    recordings = tuple(output for output in opened if isinstance(output, Recording))
    return OpenOutputs(tuple(opened), recordings, log, virtual, no_virtual)


def _virtual(
    plan: OutputPlan, size_wh: tuple[int, int], rate: float, *, avoid: str
) -> VirtualCamera | PipeWireCamera:
    """The virtual camera of the way asked for, else of the first that works. Raises DeviceError."""
    device, is_left_open = plan.device, plan.virtual in (None, "auto")
    is_driver = device is not None and (
        Path(device).is_absolute() or any(device == found.label for found in loopback_devices())
    )
    why = None
    if plan.virtual == "pipewire" or (
        is_left_open and sys.platform.startswith("linux") and not is_driver
    ):
        try:
            return PipeWireCamera(size_wh, rate, device=device)
        except DeviceError as error:
            if not is_left_open:
                raise
            why = str(error)
    try:
        return VirtualCamera(size_wh, rate, device=device, avoid=avoid)
    except DeviceError as error:
        if why is None:
            raise
        other = str(error).removeprefix("no virtual camera: ")
        raise DeviceError(f"{why}; or use the kernel's: {other}") from error


def _watchers(plan: OutputPlan) -> Iterator[ThreadedOutput]:
    """The window and the links of a plan, opened one after the other."""
    if plan.window:
        yield PreviewWindow()
    for link in plan.links:
        yield open_link(link, None)


def _pipe(target: str, plan: OutputPlan, facts: SourceFacts, rate: Fraction | None) -> RawPipe:
    form = cast("PipeFormat", plan.pipe_format)
    return RawPipe(target, facts.size_wh, pixel_format=form, rate=rate, overwrite=plan.overwrite)
