from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mien.engines.errors import DeviceError, UsageError, VideoError
from mien.runtime.avatar.speech import BLOCK, RATE_HZ, Lips, Mouth, SpeechStream, Voice


def tone(*hertz: float, seconds: float = 0.3) -> np.ndarray:
    t = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    return sum(0.25 * np.sin(2 * np.pi * f * t) for f in hertz).astype(np.float32)  # type: ignore[union-attr]


def shape(sound: np.ndarray) -> Mouth:
    voice = Voice()
    return [voice(block) for block in sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK)][-1]


def written(path: Path, sound: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def test_silence_closes_and_spectra_shape_the_mouth() -> None:
    assert shape(np.zeros(RATE_HZ // 4, np.float32)) == Mouth()
    spread, rounded = shape(tone(300, 2300)), shape(tone(300, 750))
    assert spread.opening > 0.5
    assert spread.width > 0.3 > -0.3 > rounded.width
    hiss = shape(np.random.default_rng(1).normal(0, 0.1, 4800).astype(np.float32))
    assert hiss.opening < spread.opening


def test_lips_close_where_the_stream_stops() -> None:
    lips = Lips()
    for n in range(10):
        lips.put(0.02 * n, Mouth(1.0, 0.5))
    assert lips(0.0).opening == 0
    assert lips(0.19).opening > 0.9
    lips(0.4)
    assert lips(1.5) == Mouth()


def test_a_text_is_said_letter_by_letter() -> None:
    lips = Lips()
    lips(0.0)
    lips.say("mama", 0.0)
    seen = [lips(0.01 * n).opening for n in range(60)]
    assert max(seen) > 0.5
    assert seen[-1] < 0.1
    with pytest.raises(UsageError):
        lips.say("a" * 2001, 0.0)


def test_a_file_moves_lips_and_its_end_is_told(tmp_path: Path) -> None:
    lips = Lips()
    stream = SpeechStream(str(written(tmp_path / "a.wav", tone(300, 2300, seconds=0.2))), lips)
    until_s = time.monotonic() + 20
    while stream.message is None and time.monotonic() < until_s:
        time.sleep(0.01)
    assert stream.message is not None
    assert "has ended" in stream.message
    now_s = time.monotonic()
    openings = [lips(now_s - 1 + 0.01 * n).opening for n in range(200)]
    assert max(openings) > 0
    stream.close()


@pytest.mark.parametrize("content", [None, b"", b"no sound at all" * 99])
def test_what_holds_no_sound_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError):
        SpeechStream(str(path), Lips())


def test_an_audio_stream_that_stops_closes_the_lips_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(tmp_path / "a.wav", tone(300, 2300, seconds=1.0)).read_bytes()
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream:
        monkeypatch.setattr(sys, "stdin", type("Input", (), {"buffer": stream}))
        os.write(write, whole[: len(whole) // 2 + 1])  # breaks off within a sample
        lips = Lips()
        speech = SpeechStream("-", lips)
        os.close(write)
        until(lambda: speech.message is not None)
        assert "standard input" in (speech.message or "")
        now_s = time.monotonic()
        assert max(lips(now_s - 2 + 0.01 * n).opening for n in range(300)) > 0.1
        assert lips(now_s + 2.0) == Mouth()
        speech.close()


def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    ends_s = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


class Pulse:
    """A PulseAudio of the test's own, with one output that nobody hears."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder),
            "PULSE_STATE_PATH": str(folder),
        }  # fmt: skip
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str) -> None:
        running = subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._started.append(running)

    def start(self) -> None:
        modules = ("module-null-sink sink_name=quiet", "module-native-protocol-unix")
        loads = [word for module in modules for word in ("-L", module)]
        self.run("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *loads)
        asked = ["pactl", "info"]
        until(
            lambda: (
                subprocess.run(
                    asked, env=self._environment, capture_output=True, check=False
                ).returncode
                == 0
            )
        )

    def play(self, sound: np.ndarray) -> None:
        options = ("--raw", "--format=float32le", f"--rate={RATE_HZ}", "--channels=1")
        path = self._folder / "sound"
        path.write_bytes(sound.tobytes())
        self.run("pacat", *options, "--device=quiet", str(path))

    def stop(self) -> None:
        for running in reversed(self._started):
            running.kill()
            running.wait()
        self._started.clear()


@pytest.fixture
def pulse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    for program in ("pulseaudio", "pactl", "pacat", "parec"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.delenv("PULSE_SERVER", raising=False)
        made = Pulse(Path(folder))
        made.start()
        yield made
        made.stop()


def test_lips_follow_pulseaudio_which_may_stop_and_come_back(pulse: Pulse) -> None:
    lips = Lips()
    stream = SpeechStream("pulse:quiet.monitor", lips)
    try:
        for _ in range(2):
            pulse.play(tone(300, 2300, seconds=30.0))
            until(lambda: lips(time.monotonic()).opening > 0.3)
            assert stream.message is None
            pulse.stop()
            until(lambda: "stopped" in (stream.message or ""))
            until(lambda: lips(time.monotonic()) == Mouth())
            pulse.start()
    finally:
        stream.close()


def test_pulse_without_its_program_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="parec"):
        SpeechStream("pulse", Lips())
