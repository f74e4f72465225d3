from __future__ import annotations

import time
import wave
from pathlib import Path

import numpy as np
import pytest

from mien.engines.errors import UsageError, VideoError
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
