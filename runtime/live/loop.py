"""Live video: the newest frame of a source through the filter to every output."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final

from mien.engines.system.process import wait_surely
from mien.runtime.frame import Frame
from mien.runtime.live.controls import Controls, ControlState
from mien.runtime.live.filters import FilterMaker, FilterSwap
from mien.runtime.live.outputs.output import FanOut, Output
from mien.runtime.live.pacing import SPACING, DelayLine, Pace, RateLimit
from mien.runtime.live.pixels import Watermark
from mien.runtime.live.sources.source import Source
from mien.runtime.live.values import Captured, LiveFrame, LiveStats, Meter, faces_in

IDLE_AFTER_S: Final = 3.0  # without anybody watching, the camera is released
_LOOK_S: Final = 0.2  # how often is looked whether somebody watches, or the end has come


class LiveLoop:
    """Takes the newest frame, edits it, hands it to every output, and begins again.

    Nothing is queued: what comes while a frame is edited is replaced by what comes next, and
    counted as dropped. Frames leave in the order they were captured, each one once.

    make_filter: makes the filter for a state's method, as in `Filter(method=state.method)`; the
        first one is made by `start`. outputs: more may be added and removed while it runs.
    delay_ms: holds every frame back until this long after its capture.
    adaptive: give something up where the machine is too slow. rate: frames a second at most.

    The loop owns what it is given: source, outputs and filter are closed at its end. All methods
    may be called from any thread. Raises: UsageError.
    """

    def __init__(  # noqa: PLR0913 -- the last ones are settings, by keyword only
        self,
        source: Source,
        make_filter: FilterMaker,
        outputs: Sequence[Output],
        controls: Controls,
        *,
        delay_ms: float = 0,
        adaptive: bool = True,
        rate: float | None = None,
        idle_after_s: float = IDLE_AFTER_S,
    ) -> None:
        self.controls = controls
        self._source = source
        self._make_filter = make_filter
        self._filters: FilterSwap | None = None
        self._outputs = FanOut(outputs)
        self._idle_after_s = idle_after_s
        self._rate = RateLimit(rate)
        self._pace = Pace(is_adaptive=adaptive)
        self._meter = Meter()
        self._watermark = Watermark()
        self._delay_ms = delay_ms
        camera_rate = source.facts.rate
        self._line: DelayLine | None = None
        if delay_ms:
            known_rate = float(camera_rate) if camera_rate else None
            self._line = DelayLine(delay_ms, self._emit, rate=known_rate)
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._is_stopping = False
        self._state = "starting"
        self._error: BaseException | None = None
        self._last: LiveFrame | None = None
        self._numbers: dict[int, int] = {}
        self._stages_ms: dict[str, float] = {}
        self._before: int | None = None  # the source's index of the last frame that was taken
        self._newest_s = -math.inf  # when the last frame that was taken was captured
        self._came = 0  # frames since the last one that was edited
        self._index = self._emitted_index = -1  # of `LiveFrame`
        self._seq = 0
        self._watched_s = self._began_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mien-live", daemon=True)

    def start(self) -> None:
        """Start the loop: frames begin to flow. Raises: what `make_filter` raises."""
        first = self._source.newest(-1, 0.0)
        self._filters = FilterSwap(
            self._make_filter, self.controls, warm_up_on=first.frame if first else None
        )
        self._watched_s = self._began_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Ask the loop to end after the frame it is at; `join` waits for it."""
        self._is_stopping = True
        self._woken.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Whether the loop has ended, waiting for it. Raises what ended it, if it was an error."""
        if self._thread.ident is None:  # never started
            self._shut_down()
            return True
        # Not Thread.join: a signal's exception in the middle of it marks a running thread as ended
        # (Python 3.11, bpo-45274), and what is recorded would be lost.
        if not self._ended.wait(timeout_s):
            return False
        self._thread.join()
        if self._error is not None:
            raise self._error
        return True

    def __enter__(self) -> LiveLoop:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        self.join()

    def _end(self) -> None:
        """End the loop and wait for it; a signal's exception that comes meanwhile is raised."""
        self.stop()
        if self._thread.ident is None:
            self._shut_down()
        else:
            wait_surely(self._ended)

    @property
    def source(self) -> Source:
        """The source in use."""
        return self._source

    def use_source(self, source: Source) -> Source:
        """The source used until now, paused and not closed; frames come from `source` now."""
        with self._lock:  # to the end, so that the loop does not take the released one again
            before, self._source = self._source, source
            self._before = None
            before.pause()
            if self._state == "idle":
                source.pause()
            else:
                source.resume()
        self._woken.set()
        return before

    def add_output(self, output: Output) -> None:
        """Add an output: it gets every frame from the next one on, and is closed at the end."""
        self._outputs.add(output)
        self._woken.set()

    def remove_output(self, output: Output) -> None:
        """Remove an output: it gets no more frames. It is not closed."""
        self._outputs.remove(output)

    def latest(self) -> LiveFrame | None:
        """The newest frame that was handed out, None before the first."""
        return self._last

    def stats(self) -> LiveStats:
        """How it is doing at this moment."""
        now_s = time.monotonic()
        counts, last, filters = self._meter.counts(now_s), self._last, self._filters
        is_running = self._state == "running"
        return LiveStats(
            state=self._state,
            source=self._source.facts,
            frame_size_wh=(last.frame.width, last.frame.height) if last else (0, 0),
            uptime_s=now_s - self._began_s,
            capture_fps=counts.capture_fps,
            output_fps=counts.output_fps,
            captured=counts.captured,
            shown=counts.shown,
            dropped=counts.dropped,
            dropped_share=counts.dropped_share,
            recent_dropped_share=counts.recent_dropped_share,
            delay=counts.delay,
            delay_asked_ms=self._delay_ms,
            method=filters.method if filters else "",
            providers=filters.current.providers if filters else {},
            stages_ms=self._stages_ms,
            faces=faces_in(last, self._numbers) if last and is_running else (),
            adaptations=self._pace.texts(),
            messages=self._messages(),
            outputs=self._outputs.statuses(),
            is_bypassed=filters.is_bypassed if filters else False,
        )

    def _messages(self) -> tuple[str, ...]:
        found = [
            self._source.message,
            self._filters.message if self._filters else None,
            self._pace.message(),
            *self._outputs.messages(),
        ]
        return tuple(text for text in found if text)

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._step()
        except Exception as error:  # noqa: BLE001 -- raised again by `join`
            self._error = error
        finally:
            try:
                self._shut_down()
            finally:
                self._ended.set()

    def _shut_down(self) -> None:
        self._state = "stopped"
        if self._line is not None:
            self._line.close()
        self._outputs.close()
        self._source.close()
        if self._filters is not None:
            self._filters.close()

    def _step(self) -> None:
        now_s = time.monotonic()
        if self._outputs.watched:
            self._watched_s = now_s
        elif now_s - self._watched_s > self._idle_after_s:
            self._idle()
            return
        with self._lock:
            source, before = self._source, self._before
        captured = source.newest(-1 if before is None else before, _LOOK_S)
        if captured is None:
            return
        if before is None:  # a start, a pause or another source is no slowness
            self._pace.reset()
            self._came = 0
        self._came += 1 if before is None else captured.index - before
        with self._lock:
            if source is not self._source:
                return
            self._before = captured.index
        if captured.captured_s < self._newest_s:  # of a source that took it before the other's last
            return
        self._newest_s = captured.captured_s
        self._state = "running"
        beats = self._rate.beats(captured.captured_s)
        if not beats:
            return
        # What the rate would have left out in any case is not dropped.
        came, self._came = int(min(self._came, beats)), 0
        self._index += came
        self._process(captured, came)

    def _idle(self) -> None:
        """Release the camera while nobody watches, and rest until somebody does."""
        with self._lock:
            self._state = "idle"
            self._source.pause()
        while not self._is_stopping and not self._outputs.watched:
            self._woken.wait(_LOOK_S)
            self._woken.clear()
        self._watched_s = time.monotonic()
        with self._lock:
            self._before, self._state = None, "starting"
            if not self._is_stopping:
                self._source.resume()

    def _process(self, captured: Captured, came: int) -> None:
        began_s = time.monotonic()
        state, filters = self.controls.snapshot(), self._filters
        assert filters is not None
        level = self._pace.level
        edited = filters.apply(captured.frame, state, spacing=SPACING if level >= 1 else 1.0)
        self._numbers = filters.current.numbers
        decode = {} if captured.decode_ms is None else {"decode": captured.decode_ms}
        self._stages_ms = decode | dict(filters.current.timings.last_ms)
        shown = self._shown(captured.frame, edited, state)
        live = LiveFrame(
            frame=shown,
            original=captured.frame,
            index=self._index,
            captured_s=captured.captured_s,
            faces=tuple(filters.current.faces),
            edited=tuple(filters.current.edited) if edited is not captured.frame else (),
            seq=-1,  # counted where it goes out
            reduced=level >= 2,
            is_edited=edited is not captured.frame and not state.paused,
            applied=replace(
                filters.applied,
                paused=state.paused,
                mark=shown is not captured.frame and shown is not edited,
            ),
        )
        if self._line is not None:
            self._line.put(live)
        else:
            self._emit(live)
        now_s = time.monotonic()
        self._pace.note(now_s, captured=came, busy_s=now_s - began_s)

    def _shown(self, original: Frame, edited: Frame, state: ControlState) -> Frame:
        if state.paused:
            return original
        is_edit = state.target is not None or state.own != 1 or edited is not original
        return self._watermark(edited) if state.mark and is_edit else edited

    def _emit(self, frame: LiveFrame) -> None:
        frame = replace(frame, seq=self._seq)
        self._outputs.offer(frame)
        now_s = time.monotonic()
        came = frame.index - self._emitted_index
        self._meter.show(now_s, (now_s - frame.captured_s) * 1e3, captured=came)
        self._emitted_index, self._last = frame.index, frame
        self._seq += 1
