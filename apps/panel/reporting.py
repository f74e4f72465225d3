"""How a live loop is doing, as messages."""

from __future__ import annotations

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


def stats_message(stats: LiveStats, preview: Preview, message: str | None) -> Stats:
    """The message of the loop's stats; `message` is the panel's own to people, if any."""
    facts = stats.source
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
            OutputState(output.name, output.shown, output.dropped, output.message)
            for output in stats.outputs
        ),
        providers=stats.providers,
        adaptations=stats.adaptations,
        messages=stats.messages if message is None else (*stats.messages, message),
    )


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
