"""Lips that move with a voice: loudness opens them, the spectrum says whether wide or round.

No recogniser: from 20 ms of sound come a loudness against the loudest of late, how much of it lies
where the second formant of spread vowels is (1.7 to 3 kHz against 0.3 to 1.2 kHz: Peterson and
Barney 1952), and how much is hiss, for which teeth are nearly closed.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import av
import av.error
import numpy as np

from mien.engines.errors import DeviceError, UsageError, VideoError
from mien.engines.system.addresses import shown_address
from mien.runtime.target import shortened

RATE_HZ: Final = 16_000
BLOCK: Final = 320  # samples, 20 ms
BLOCK_S: Final = BLOCK / RATE_HZ
STANDARD_INPUT: Final = "-"
PULSE: Final = "pulse"  # `pulse`, or `pulse:` and a source's name
AGAIN_S: Final = 1.0  # after it has stopped, PulseAudio is asked again
AHEAD_S: Final = 0.5  # a file is decoded so far ahead
SILENT_S: Final = 0.15  # without sound for so long, lips close
QUIET: Final = 0.003  # of full scale; below is no voice
RANGE_DB: Final = 26.0  # from lips that begin to part to lips wide open
FORGET_S: Final = 6.0  # time constant of the loudest of late
OPEN_S, CLOSE_S = 0.035, 0.08  # time constants of lips
LETTERS_A_SECOND: Final = 13.0
MOST_LETTERS: Final = 2000
# How far open and how wide letters are said; others as of OTHER. Lips meet for b, m and p.
OTHER: Final = (0.22, 0.15)
LETTERS: Final = {
    "a": (0.9, 0.1), "e": (0.55, 0.5), "i": (0.35, 0.8), "o": (0.6, -0.7), "u": (0.35, -1.0),
    "y": (0.35, 0.5), "w": (0.25, -0.9), "b": (0.0, 0.0), "m": (0.0, 0.0), "p": (0.0, 0.0),
    "f": (0.08, 0.1), "v": (0.08, 0.1), "q": (0.25, -0.6), "r": (0.25, -0.2),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mouth:
    """The shape of a speaking mouth. opening: 0..1. width: -1 round to 1 spread."""

    opening: float = 0.0
    width: float = 0.0


class Voice:
    """Estimates the mouth of 20 ms of sound after the other."""

    def __init__(self) -> None:
        self._loudest = 10 * QUIET
        self._window = np.hanning(BLOCK).astype(np.float32)
        hertz = np.fft.rfftfreq(BLOCK, 1 / RATE_HZ)
        bands = ((300, 1200), (1700, 3000), (3800, 7800))
        self._bands = [(hertz >= low) & (hertz < high) for low, high in bands]

    def __call__(self, block: np.ndarray) -> Mouth:
        """The mouth that sounds so; block: float32 (320,) in [-1, 1] at 16 kHz."""
        loudness = float(np.sqrt(np.mean(block.astype(np.float64) ** 2)))
        self._loudest = max(loudness, 10 * QUIET, self._loudest * math.exp(-BLOCK_S / FORGET_S))
        if loudness < QUIET:
            return Mouth()
        below_db = 20 * math.log10(loudness / self._loudest)
        opening = min(1.0, max(0.0, 1 + below_db / RANGE_DB)) ** 1.5
        power = np.abs(np.fft.rfft(block * self._window)) ** 2
        low, middle, high = (float(power[band].sum()) + 1e-9 for band in self._bands)
        hiss = high / (low + middle + high)
        spread = math.tanh(0.6 * math.log(middle / low) + 1.0)
        return Mouth(opening * (1 - 0.8 * hiss), spread * min(1.0, 2 * opening) * (1 - hiss))


class Lips:
    """The mouth over time: shapes come with the moments they are due, and lips ease through them.

    Any thread may put shapes in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: deque[tuple[float, Mouth]] = deque()
        self._wanted, self._wanted_s = Mouth(), -math.inf
        self._shown = np.zeros(2)
        self._time_s: float | None = None

    def put(self, due_s: float, mouth: Mouth) -> None:
        """Take in what the mouth is to be like at a moment."""
        with self._lock:
            self._due.append((due_s, mouth))

    def say(self, text: str, time_s: float) -> None:
        """Move as if saying a text from now on, in place of what was to be said.

        Raises UsageError where it is too long.
        """
        if len(text) > MOST_LETTERS:
            raise UsageError(f"say takes up to {MOST_LETTERS} letters, not {len(text):,}")
        step_s = 1 / LETTERS_A_SECOND
        mouths = [
            Mouth(*LETTERS.get(letter, OTHER)) if letter.isalpha() else Mouth()
            for letter in text.lower()
        ]
        with self._lock:
            self._due = deque((time_s + step_s * n, mouth) for n, mouth in enumerate(mouths))

    def __call__(self, time_s: float) -> Mouth:
        """The mouth to show at a time, which does not go back."""
        with self._lock:
            while self._due and self._due[0][0] <= time_s:
                self._wanted_s, self._wanted = self._due.popleft()
        silent = time_s - self._wanted_s > SILENT_S
        wanted = np.zeros(2) if silent else np.array([self._wanted.opening, self._wanted.width])
        step_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        slow_s = np.where(wanted > self._shown, OPEN_S, CLOSE_S)
        self._shown = self._shown + (wanted - self._shown) * (1 - np.exp(-step_s / slow_s))
        opening, width = (float(value) for value in self._shown)
        return Mouth(0.0 if opening < 1e-3 else opening, 0.0 if abs(width) < 1e-3 else width)


class SpeechStream:
    """Reads sound in a thread of its own and puts its shapes into lips, in step with the clock.

    source: a file, or `-` for standard input, in any container that FFmpeg tells by its content;
    or `pulse`, which is what PulseAudio or PipeWire records now, `pulse:NAME` from a source of
    that name. A stream that stops for a while, or for good, closes the lips; then `message` says
    so, and PulseAudio is asked again and again.

    Raises VideoError where a file has no sound that can be decoded, DeviceError where the program
    that speaks with PulseAudio is missing.
    """

    def __init__(self, source: str, lips: Lips) -> None:
        self._source, self._lips = source, lips
        self._ended = threading.Event()
        self.message: str | None = None
        self._container: Any = None
        self._recorder: _Recorder | None = None
        work = self._follow_file
        if source == PULSE or source.startswith(f"{PULSE}:"):
            self._recorder, work = _Recorder(source), self._follow_recorder
        elif source != STANDARD_INPUT:
            self._container = opened_sound(source)
        self._thread = threading.Thread(target=work, name="mien-speech", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End reading; a thread that waits for standard input is left behind."""
        self._ended.set()
        if self._recorder is not None:
            self._recorder.end()
        self._thread.join(0.5)

    def _follow_file(self) -> None:
        name = "standard input" if self._source == STANDARD_INPUT else self._source
        try:
            container = self._container or opened_sound(self._source)
            with container:
                self._follow(blocks_of(container))
            self.message = f"the speech from {name} has ended"
        except VideoError as error:
            self.message = str(error)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            self.message = f"the speech from {name} has stopped: {why}"

    def _follow_recorder(self) -> None:
        recorder = self._recorder
        while recorder is not None and not self._ended.is_set():
            try:
                self._follow(recorder.blocks())
                why = recorder.last_words()
            except OSError as error:
                why = error.strerror or str(error)
            self.message = f"the speech from {self._source} has stopped: {why}"
            self._ended.wait(AGAIN_S)

    def _follow(self, blocks: Iterator[np.ndarray]) -> None:
        voice, due_s = Voice(), time.monotonic()
        for block in blocks:
            now_s = time.monotonic()
            due_s = max(due_s + BLOCK_S, now_s)  # sound that comes late is not caught up with
            self._lips.put(due_s, voice(block))
            self.message = None
            if self._ended.wait(max(0.0, due_s - now_s - AHEAD_S)) or self._ended.is_set():
                return


class _Recorder:
    """What PulseAudio or PipeWire records, through its program `parec`.

    PyAV's wheels have no PulseAudio in their FFmpeg. Raises DeviceError where there is no `parec`.
    """

    def __init__(self, source: str) -> None:
        found = shutil.which("parec")
        if found is None:
            raise DeviceError(
                f"--speech {source} needs the program parec; on Debian and Ubuntu: "
                "sudo apt-get install pulseaudio-utils"
            )
        self._command = [found, "--raw", "--format=float32le", f"--rate={RATE_HZ}", "--channels=1"]
        self._command += ["--latency-msec=20", "--client-name=mien"]
        if name := source.partition(":")[2]:
            self._command.append(f"--device={name}")
        self._lock = threading.Lock()
        self._is_over = False
        self._running: subprocess.Popen[bytes] | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """Sound as of `blocks_of` until it stops, or `end` is called. Raises OSError."""
        with self._lock:
            if self._is_over:
                return
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        sound = self._running.stdout
        assert sound is not None
        while len(data := sound.read(4 * BLOCK)) == 4 * BLOCK:
            yield np.nan_to_num(np.frombuffer(data, "<f4"))

    def last_words(self) -> str:
        """Why the program ended; it is ended where it still runs."""
        running = self._running
        if running is None:
            return "it is over"
        running.terminate()
        _, said = running.communicate()
        lines = said.decode(errors="replace").strip().splitlines()
        return shortened(lines[0]) if lines else "no sound comes any more"

    def end(self) -> None:
        """End `blocks`, for good."""
        with self._lock:
            self._is_over = True
            if self._running is not None:
                self._running.terminate()


def opened_sound(source: str) -> Any:
    """A container of PyAV with sound in it. Raises VideoError."""
    name = "standard input" if source == STANDARD_INPUT else source
    if source != STANDARD_INPUT and not Path(source).is_file():
        shown = shown_address(source)
        raise VideoError(f"the speech {shown} is no file; give a sound file, or - for a stream")
    file: Any = sys.stdin.buffer if source == STANDARD_INPUT else source
    try:
        container = av.open(file, "r")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"cannot read speech from {name}: no sound that FFmpeg knows; use WAV, for example"
        ) from error
    if not container.streams.audio:
        container.close()
        raise VideoError(f"{shortened(name)} has no sound to speak with; choose a sound file")
    return container


def blocks_of(container: Any) -> Iterator[np.ndarray]:
    """The first sound of a container in blocks: float32 (320,) each, 16 kHz, one channel."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    kept = np.zeros(0, np.float32)
    for frame in container.decode(container.streams.audio[0]):
        with contextlib.suppress(AttributeError):
            frame.pts = None  # gaps in the times of a live stream are no silence
        for part in resampler.resample(frame):
            kept = np.concatenate([kept, cast("np.ndarray", part.to_ndarray()).reshape(-1)])
        whole = len(kept) // BLOCK
        yield from kept[: whole * BLOCK].reshape(whole, BLOCK)
        kept = kept[whole * BLOCK :]
