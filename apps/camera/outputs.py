"""The outputs that `mien camera` was asked for, opened."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

from mien.apps.camera.plan import OutputPlan
from mien.engines.errors import DeviceError, UsageError
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.outputs.pipe import PipeFormat, RawPipe, check_pipe
from mien.runtime.live.outputs.recording import Recording, check_recording
from mien.runtime.live.outputs.virtual_camera import VirtualCamera
from mien.runtime.live.outputs.window import PreviewWindow
from mien.runtime.live.values import SourceFacts

DEFAULT_RATE = Fraction(30)


@dataclass(frozen=True, slots=True)
class OpenOutputs:
    """Open outputs, the virtual camera among them, and why there is none though it may be."""

    outputs: tuple[ThreadedOutput, ...]
    recording: Recording | None
    virtual: VirtualCamera | None
    no_virtual: str | None


def check_outputs(plan: OutputPlan, source: str) -> None:
    """Raise MienError where a file of the plan may not be written."""
    for path in (plan.record, plan.pipe):
        if path is not None and _is_same_file(Path(path), Path(source)):
            raise UsageError(f"{path} is what is read; choose another name")
    if plan.record is not None:
        check_recording(plan.record, overwrite=plan.overwrite)
    if plan.pipe is not None:
        check_pipe(plan.pipe, overwrite=plan.overwrite)


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is missing
        return False


def open_outputs(
    plan: OutputPlan, source: str, facts: SourceFacts, rate: Fraction | None
) -> OpenOutputs:
    """The outputs of a plan for a camera. source, rate: that were asked for. Raises MienError.

    A virtual camera that was not asked for by name may be missing.
    """
    rate = min(rate, facts.rate) if rate and facts.rate else rate or facts.rate
    path = f"/dev/video{source}" if source.isdigit() else source
    virtual, no_virtual, recording = None, None, None
    with ExitStack() as opening:  # what is open is closed where the next does not open
        opened: list[ThreadedOutput] = []

        def take(output: ThreadedOutput) -> None:
            opening.callback(output.close)
            opened.append(output)

        if plan.record is not None:
            recording = Recording(plan.record, rate, overwrite=plan.overwrite)
            take(recording)
        if plan.pipe is not None:
            take(_pipe(plan.pipe, plan, facts, rate))
        if plan.window:
            take(PreviewWindow())
        if plan.virtual is not False:
            try:
                virtual = VirtualCamera(
                    facts.size_wh, float(rate or DEFAULT_RATE), device=plan.device, avoid=path
                )
                opened.append(virtual)
            except DeviceError as error:
                if plan.virtual or plan.device is not None:
                    raise
                no_virtual = str(error)
        opening.pop_all()
    return OpenOutputs(tuple(opened), recording, virtual, no_virtual)


def _pipe(target: str, plan: OutputPlan, facts: SourceFacts, rate: Fraction | None) -> RawPipe:
    form = cast("PipeFormat", plan.pipe_format)
    return RawPipe(target, facts.size_wh, pixel_format=form, rate=rate, overwrite=plan.overwrite)
