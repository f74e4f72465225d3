"""The picture without WebRTC: single JPEGs, and JPEGs one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mien.apps.panel.places import STALLED_S, TENURE_S, Places
from mien.apps.panel.preview import Kind, PreviewOutput, Shown, Viewer

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
        """Return when one of them is done, or somebody else has the place."""
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
