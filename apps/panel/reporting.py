"""How a live loop is doing, as messages, and what it says in the words of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mien.apps.panel.protocol import (
    Delay,
    Faces,
    OutputState,
    Preview,
    SeenFace,
    Source,
    Stats,
)
from mien.runtime.live.values import LiveFace, LiveStats

# What the runtime says to people at a terminal, and what it is on the page.
_PAGE_WORDS: Final = (
    (
        re.compile(r"the machine is too slow: (\S+) of the frames are dropped.*"),
        (
            r"This computer is too slow: \1 of the frames are dropped. Close other programs, or "
            r"edit the largest face only"
        ),
    ),
    (
        re.compile(r"the machine is too slow: faces are looked for less often(, previews .*)?"),
        "This computer is at its limit: to keep the video fluid, faces are looked for less often",
    ),
    (re.compile(r"this frame is shown as it came: (.*)"), r"The video is left unchanged: \1"),
)
_PLAIN: Final = (("cannot be had now,", "is not available now;"), (" is held", " stays"))
# An option or a command of the terminal.
_TERMINAL: Final = r"(?:--[a-z][\w-]*|\bmien (?:[a-z][\w-]*)\b|\bpip install\b)"
# The part of a line about it, to the end of the sentence.
_TERMINAL_PART: Final = re.compile(
    rf"(?:\s*[;,:]\s+(?:or |and )?|\s+(?:or|and)\s+)?[^;,:()]*{_TERMINAL}[^;()]*"
)
_SEE_MORE: Final = " (the terminal where mien runs says more)"


def page_text(text: str) -> str:
    """What a line for the terminal says to somebody at the page, which has no options."""
    for pattern, words in _PAGE_WORDS:
        if found := pattern.fullmatch(text):
            text = found.expand(words)
            break
    for words, plain in _PLAIN:
        text = text.replace(words, plain)
    if not re.search(_TERMINAL, text):
        return text
    rest = re.sub(r"\s*\(\s*\)", "", _TERMINAL_PART.sub("", text)).strip(" ;,:")
    return (rest or "this does not work") + _SEE_MORE


def page_notices(messages: Iterable[str], adaptations: Iterable[str]) -> tuple[str, ...]:
    """What the page shows of messages and adaptations: one line for one thing.

    What was given up to keep pace is left out where the machine is too slow all the same, and of
    lines that differ in nothing but numbers, or in who says it, the first is kept.
    """
    told = [page_text(text) for text in messages]
    if not any(text.startswith("This computer") for text in told):
        told += [page_text(text) for text in adaptations]
    found: dict[str, str] = {}
    for text in told:
        key = re.sub(r"[\d.]+", "#", text)
        if not any(key.endswith(other) or other.endswith(key) for other in found):
            found[key] = text
    return tuple(found.values())


def stats_message(stats: LiveStats, preview: Preview, message: str | None) -> Stats:
    """The message of the loop's stats; `message` is the panel's own to people, if any."""
    facts = stats.source
    messages = stats.messages if message is None else (*stats.messages, message)
    return Stats(
        state=stats.state,
        uptime_s=round(stats.uptime_s, 1),
        capture_fps=round(stats.capture_fps, 1),
        output_fps=round(stats.output_fps, 1),
        dropped=stats.dropped,
        dropped_share=round(stats.recent_dropped_share, 4),
        delay_ms=Delay(
            median=_tenths(stats.delay.median_ms),
            p95=_tenths(stats.delay.p95_ms),
            last=_tenths(stats.delay.last_ms),
        ),
        preview=preview,
        source=Source(
            name=facts.name,
            size_wh=facts.size_wh,
            rate=None if facts.rate is None else round(float(facts.rate), 3),
            pixel_format=facts.pixel_format,
        ),
        outputs=tuple(
            OutputState(
                output.name,
                output.shown,
                output.dropped,
                None if output.message is None else page_text(output.message),
            )
            for output in stats.outputs
        ),
        providers=stats.providers,
        adaptations=stats.adaptations,
        messages=tuple(page_text(text) for text in messages),
        notices=page_notices(messages, stats.adaptations),
        stages_ms=_stages_ms(stats, preview),
        bypassed=stats.is_bypassed,
    )


def _stages_ms(stats: LiveStats, preview: Preview) -> dict[str, float]:
    stages_ms = {name: round(stage_ms, 2) for name, stage_ms in stats.stages_ms.items()}
    if preview.encode_ms is not None:
        stages_ms["encode"] = preview.encode_ms
    return stages_ms


def faces_message(stats: LiveStats) -> Faces:
    """The message of the faces in view."""
    width, height = stats.frame_size_wh
    if not width or not height:
        return Faces(())
    return Faces(tuple(_seen(face, width, height) for face in stats.faces))


def _seen(face: LiveFace, width: int, height: int) -> SeenFace:
    x0, y0, x1, y1 = face.box
    box = (_share(x0, width), _share(y0, height), _share(x1, width), _share(y1, height))
    return SeenFace(face.number, box, face.is_edited)


def _share(place: float, whole: int) -> float:
    return round(min(1.0, max(0.0, float(place) / whole)), 4)


def _tenths(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
