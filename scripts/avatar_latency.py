"""Measures how long after its command an emotion is first to be seen in an avatar's pictures.

    python scripts/avatar_latency.py [PICTURE] --count 60

`mien avatar run` stands still but for what it is told: no blink, no sway. A command goes through
its socket at a random moment, its raw pipe is read, and the first frame that differs from the one
before the command ends the time. It prints median, 95th percentile and longest, and ends with exit
status 1 where the percentile is above `--most` milliseconds. Busy machines measure themselves.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Annotated, Final

import numpy as np
import typer

PORTRAIT: Final = Path(__file__).parents[1] / "apps" / "sample" / "portrait.jpg"
EMOTIONS: Final = ("happy", "sad", "surprised", "angry")
SEEN: Final = 3  # levels of 255 by which a sample has to change
REST_S: Final = 0.3  # without a change, before the next command
LONGEST_S: Final = 60.0


class Watcher:
    """Reads the frames of a pipe and knows when they changed last."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._before: np.ndarray | None = None
        self.frames = 0
        self.changed_s = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        header = self._pipe.readline().split()
        width, height = (int(word[1:]) for word in header[1:3])
        size = width * height * 3 // 2
        while self._pipe.readline() and len(data := self._pipe.read(size)) == size:
            self._take(np.frombuffer(data, np.uint8).astype(np.int16), time.monotonic())

    def _take(self, frame: np.ndarray, now_s: float) -> None:
        with self._changed:
            before, self._before = self._before, frame
            self.frames += 1
            if before is None or np.abs(frame - before).max() >= SEEN:
                self.changed_s = now_s
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the pipe has ended."""
        self._thread.join(LONGEST_S)

    def wait_for_rest(self) -> None:
        """Wait until nothing has changed for a while."""
        with self._changed:
            self._changed.wait_for(lambda: time.monotonic() - self.changed_s > REST_S, LONGEST_S)

    def wait_for_change(self, since_s: float) -> float | None:
        """When the first changed frame since then came, None where none does."""
        with self._changed:
            if self._changed.wait_for(lambda: self.changed_s > since_s, LONGEST_S):
                return self.changed_s
        return None


def main(
    picture: Annotated[Path, typer.Argument(help="A picture of one face.")] = PORTRAIT,
    size: Annotated[str, typer.Option(metavar="WxH")] = "256x256",
    count: Annotated[int, typer.Option(metavar="N", help="Commands.", min=2)] = 60,
    most: Annotated[float, typer.Option(metavar="MS", help="The percentile's bound.")] = 50.0,
) -> None:
    """Measure the time from a command to the first frame that shows it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        arguments = ["avatar", "run", str(picture), "--size", size, "--socket", str(path)]
        arguments += ["--pipe", "-", "--no-virtual", "--sway", "0", "--breath", "0"]
        arguments += ["--gaze", "0", "--blinks", "0"]
        with subprocess.Popen(
            [sys.executable, "-m", "mien", *arguments],
            env={**os.environ, "XDG_RUNTIME_DIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as running:
            assert running.stdout is not None
            watcher = Watcher(running.stdout)
            try:
                found_ms = measured(watcher, path, count)
            finally:
                running.terminate()
                watcher.join()
    percentile = float(np.percentile(found_ms, 95))
    typer.echo(
        f"{len(found_ms)} commands: seen after {np.median(found_ms):.0f} ms (median), "
        f"{percentile:.0f} ms (95th percentile), {max(found_ms):.0f} ms at most"
    )
    raise typer.Exit(percentile > most)


def measured(watcher: Watcher, path: Path, count: int) -> list[float]:
    """Milliseconds from each command to its first frame."""
    chance, found_ms = np.random.default_rng(1), list[float]()
    until_s = time.monotonic() + LONGEST_S
    while not (path.exists() and watcher.frames > 1):
        if time.monotonic() > until_s:
            raise SystemExit("mien avatar run has not started; does it run by itself?")
        time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with client.makefile("rb") as answers:
            for number in range(count):
                watcher.wait_for_rest()
                time.sleep(chance.uniform(0, 0.1))
                sent_s = time.monotonic()
                emotion = EMOTIONS[number % len(EMOTIONS)]
                client.sendall(json.dumps({"emotion": emotion, "id": number}).encode() + b"\n")
                answer = json.loads(answers.readline())
                seen_s = watcher.wait_for_change(sent_s)
                if "error" in answer or seen_s is None:
                    raise SystemExit(f"{emotion} was not shown: {answer}")
                found_ms.append(1e3 * (seen_s - sent_s))
    return found_ms


if __name__ == "__main__":
    typer.run(main)
