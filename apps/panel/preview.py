"""The pictures that browsers get: made once for all of them, small, the newest only.

Without WebRTC they go as JPEGs, single or one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Literal

import av
import cv2
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mien.apps.panel.guard import STALLED_S, TENURE_S, Places
from mien.apps.panel.protocol import Preview
from mien.apps.panel.settings import PreviewSettings
from mien.engines.errors import VideoError
from mien.runtime.frame import Frame
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.pixels import picture_of
from mien.runtime.live.values import LiveFrame

Kind = Literal["video", "output", "edited", "original"]  # the first two by WebRTC
VideoKind = Literal["video", "output"]
_EARLY = 0.2  # of the time between two frames: a camera's clock trembles
_RECENT_S = 5.0
_RECENT = 150  # frames


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture for browsers.

    picture: of `video` and `output` 4:2:0, BT.601, limited range; else None. jpeg: of the others.
    captured_s: on the clock of time.monotonic.
    """

    captured_s: float
    picture: av.VideoFrame | None = None
    jpeg: bytes = b""


class Viewer:
    """Somebody who looks at one kind of picture; used in the server's thread."""

    def __init__(self) -> None:
        self._there = asyncio.Event()
        self._newest: Shown | None = None

    def put(self, shown: Shown | None) -> None:
        """Replace a picture that was not taken yet. None ends the viewing."""
        self._newest = shown
        self._there.set()

    async def next(self) -> Shown | None:
        """The newest picture that was not taken yet, None at the end."""
        await self._there.wait()
        if self._newest is not None:
            self._there.clear()
        return self._newest


class PreviewOutput(ThreadedOutput):
    """The output of a live loop that browsers look at.

    `viewer` gives pictures to the server; they are made in this output's own thread, each kind
    once for everybody, and only while somebody looks.
    """

    def __init__(self, settings: PreviewSettings) -> None:
        super().__init__("panel")
        self._settings = settings
        self._lock = threading.Lock()
        self._viewers: dict[Viewer, tuple[Kind, asyncio.AbstractEventLoop]] = {}
        self._due_s: dict[Kind, float] = {}  # when the next of a kind may have been captured
        self._size_wh: tuple[int, int] | None = None
        self._listeners = 0
        self._sent: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # when, latency in ms
        self._encoded: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # when, time in ms
        self._made: deque[float] = deque(maxlen=_RECENT)

    @property
    def watched(self) -> bool:
        """Whether a browser looks, or a page or a script listens."""
        with self._lock:
            return bool(self._viewers or self._listeners)

    @property
    def viewers(self) -> int:
        """How many look at a picture."""
        with self._lock:
            return len(self._viewers)

    @contextlib.contextmanager
    def viewer(self, kind: Kind) -> Iterator[Viewer]:
        """Somebody who looks, from within a coroutine of the server."""
        viewer = Viewer()
        with self._lock:
            self._viewers[viewer] = (kind, asyncio.get_running_loop())
        try:
            yield viewer
        finally:
            with self._lock:
                self._viewers.pop(viewer, None)

    @contextlib.contextmanager
    def listener(self) -> Iterator[None]:
        """Somebody for whom the camera runs though they look at no picture, such as a script."""
        with self._lock:
            self._listeners += 1
        try:
            yield
        finally:
            with self._lock:
                self._listeners -= 1

    def offer(self, frame: LiveFrame) -> None:
        """Put the frame in the place of the one that still waits, where somebody looks."""
        if self.viewers:
            super().offer(frame)

    def note_sent(self, shown: Shown) -> None:
        """Note that the picture has just left for a browser."""
        now_s = time.monotonic()
        with self._lock:
            self._sent.append((now_s, (now_s - shown.captured_s) * 1e3))

    def note_encoded(self, encode_ms: float) -> None:
        """Note how long encoding a picture took."""
        with self._lock:
            self._encoded.append((time.monotonic(), encode_ms))

    def facts(self) -> Preview:
        """What browsers get now; the latency is that of pictures that have left, encoded."""
        since_s = time.monotonic() - _RECENT_S
        with self._lock:
            delays_ms = [delay_ms for when_s, delay_ms in self._sent if when_s >= since_s]
            times_ms = [time_ms for when_s, time_ms in self._encoded if when_s >= since_s]
            fps = sum(made_s >= since_s for made_s in self._made) / _RECENT_S
            size_wh = self._size_wh
        return Preview(round(fps, 1), size_wh, _middle(delays_ms), _middle(times_ms))

    def end_viewing(self) -> None:
        """End the viewing for all."""
        self._hand_out(None, None)

    def _show(self, frame: LiveFrame) -> None:
        now_s = time.monotonic()
        settings = self._settings
        with self._lock:
            kinds = {kind for kind, _ in self._viewers.values()}
        is_made = False
        for kind in kinds:
            is_reduced = frame.reduced and kind != "output"
            rate = settings.reduced_rate if is_reduced else settings.rate
            if not self._is_due(kind, frame.captured_s, 1 / rate):
                continue
            is_made = True
            width = settings.reduced_width if is_reduced else settings.width
            width = settings.output_width if kind == "output" else width
            self._hand_out(kind, self._made_for(kind, frame, width))
        if is_made:
            with self._lock:
                self._made.append(now_s)

    def _is_due(self, kind: Kind, captured_s: float, step_s: float) -> bool:
        """Whether a frame is within the rate: on average, for what comes by a network is uneven.

        After a frame that was late the next may come as early as it likes.
        """
        due_s = max(self._due_s.get(kind, 0.0), captured_s - step_s)
        if captured_s < due_s - _EARLY * step_s:
            return False
        self._due_s[kind] = due_s + step_s
        return True

    def _made_for(self, kind: Kind, frame: LiveFrame, width: int) -> Shown:
        source = frame.original if kind == "original" else frame.frame
        size_wh = preview_size((source.width, source.height), width)
        with self._lock:
            self._size_wh = size_wh
        if kind in ("video", "output"):
            return Shown(frame.captured_s, picture=browser_picture(source, size_wh))
        began_s = time.monotonic()
        jpeg = jpeg_of(source, size_wh, self._settings.jpeg_quality)
        self.note_encoded((time.monotonic() - began_s) * 1e3)
        return Shown(frame.captured_s, jpeg=jpeg)

    def _hand_out(self, kind: Kind | None, shown: Shown | None) -> None:
        with self._lock:
            viewers = list(self._viewers.items())
        for viewer, (its_kind, loop) in viewers:
            if kind in (None, its_kind):
                with contextlib.suppress(RuntimeError):  # the server's loop has just been closed
                    loop.call_soon_threadsafe(viewer.put, shown)


def _middle(values: list[float]) -> float | None:
    return round(median(values), 1) if values else None


def preview_size(size_wh: tuple[int, int], width: int) -> tuple[int, int]:
    """The size at most `width` pixels wide, its sides even, as 4:2:0 wants them."""
    scale = min(1.0, width / size_wh[0])
    wide, high = (max(2, 2 * round(side * scale / 2)) for side in size_wh)
    return wide, high


def browser_picture(frame: Frame, size_wh: tuple[int, int]) -> av.VideoFrame:
    """The frame as browsers take VP8 to be: 4:2:0, BT.601, limited range. Raises VideoError."""
    return _reformatted(frame, size_wh, "yuv420p")


def jpeg_of(frame: Frame, size_wh: tuple[int, int], quality: int) -> bytes:
    """The frame as a JPEG. Raises VideoError."""
    pixels = _reformatted(frame, size_wh, "bgr24").to_ndarray()
    is_done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_done:
        raise VideoError(f"a picture of {size_wh[0]}x{size_wh[1]} pixels cannot be a JPEG")
    return data.tobytes()


# FFmpeg's numbers; the enumeration of PyAV 17 does not have them all.
_COLORSPACE: Final = {
    "bt601": 5,
    "bt709": 1,
    "bt2020": 9,
}


def _reformatted(frame: Frame, size_wh: tuple[int, int], name: str) -> av.VideoFrame:
    layout = frame.layout
    full = layout.full_range or layout.kind == "rgb"
    options: dict[str, Any] = {"interpolation": Interpolation.BILINEAR, "threads": 1}
    shown: av.VideoFrame = VideoReformatter().reformat(
        picture_of(frame),
        *size_wh,
        format=name,
        src_colorspace=_COLORSPACE[layout.matrix],
        dst_colorspace=_COLORSPACE["bt601"],
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG if name == "bgr24" else ColorRange.MPEG,
        **options,
    )
    return shown


BOUNDARY: Final = "mien-frame"
_KIND: Final = f"multipart/x-mixed-replace; boundary={BOUNDARY}".encode()
_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", _KIND)],
}


class Onlooker:
    """Somebody who has a place to look at JPEGs from."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sending_s: float | None = None  # since when a picture is being taken
        self._began_s = time.monotonic()
        self._moved = asyncio.Event()

    def spare(self, now_s: float) -> tuple[int, float] | None:
        """Who takes nothing, then who has looked longest."""
        if self.sending_s is not None and now_s - self.sending_s > STALLED_S:
            return 2, now_s - self.sending_s
        looked_s = now_s - self._began_s
        return (1, looked_s) if looked_s >= TENURE_S else None

    def make_room(self) -> None:
        """End the looking."""
        self._moved.set()

    async def until_moved(self, *works: Coroutine[Any, Any, Any]) -> None:
        """Wait until one of them is done, or somebody else has the place."""
        tasks = [asyncio.ensure_future(work) for work in (*works, self._moved.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class JpegStream(Response):
    """An ASGI response: JPEGs until the reader leaves, each the newest when it can be sent.

    onlooker: who looks; its place among `places` is free afterwards.
    """

    def __init__(
        self, preview: PreviewOutput, kind: Kind, onlooker: Onlooker, places: Places[Onlooker]
    ) -> None:
        super().__init__()
        self._preview, self._kind = preview, kind
        self._onlooker, self._places = onlooker, places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer one request."""
        try:
            with self._preview.viewer(self._kind) as viewer:
                await send(_START)
                pictures = self._send_pictures(viewer, send)
                await self._onlooker.until_moved(_disconnected(receive), pictures)
        finally:
            self._places.free(self._onlooker)
        if self._onlooker.sending_s is None:  # else the connection is cut, for it can say no more
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_pictures(self, viewer: Viewer, send: Send) -> None:
        while (shown := await viewer.next()) is not None:
            message = {"type": "http.response.body", "body": _part(shown), "more_body": True}
            self._onlooker.sending_s = time.monotonic()
            await send(message)
            self._onlooker.sending_s = None
            self._preview.note_sent(shown)


async def next_jpeg(
    preview: PreviewOutput, kind: Kind, onlooker: Onlooker, timeout_s: float
) -> bytes | None:
    """The next picture as a JPEG, None where none comes in time or the place is needed."""
    found: list[Shown | None] = []

    async def look(viewer: Viewer) -> None:
        found.append(await viewer.next())

    with preview.viewer(kind) as viewer:
        await onlooker.until_moved(look(viewer), asyncio.sleep(timeout_s))
    return found[0].jpeg if found and found[0] is not None else None


def _part(shown: Shown) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(shown.jpeg)}\r\n\r\n"
    return head.encode() + shown.jpeg + b"\r\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
