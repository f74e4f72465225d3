"""The picture without WebRTC: single JPEGs, and JPEGs one after the other."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mien.apps.panel.preview import Kind, PreviewOutput, Shown, Viewer

BOUNDARY: Final = "mien-frame"
_KIND: Final = f"multipart/x-mixed-replace; boundary={BOUNDARY}".encode()
_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", _KIND)],
}


class JpegStream(Response):
    """An ASGI response: JPEGs until the reader leaves, each the newest when it can be sent.

    send_s: a reader that takes longer for one picture has gone.
    """

    def __init__(self, preview: PreviewOutput, kind: Kind, send_s: float) -> None:
        super().__init__()
        self._preview, self._kind, self._send_s = preview, kind, send_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Nothing; answers one request."""
        with self._preview.viewer(self._kind) as viewer:  # first, so that nobody comes between
            await send(_START)
            leaving = asyncio.ensure_future(_disconnected(receive))
            pictures = asyncio.ensure_future(self._send_pictures(viewer, send))
            try:
                await asyncio.wait({leaving, pictures}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (leaving, pictures):
                    task.cancel()
                await asyncio.gather(leaving, pictures, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_pictures(self, viewer: Viewer, send: Send) -> None:
        while (shown := await viewer.next()) is not None:
            message = {"type": "http.response.body", "body": _part(shown), "more_body": True}
            await asyncio.wait_for(send(message), self._send_s)
            self._preview.note_sent(shown)


async def next_jpeg(preview: PreviewOutput, kind: Kind, timeout_s: float) -> bytes | None:
    """The next picture as a JPEG, None where none comes in time."""
    with preview.viewer(kind) as viewer:
        try:
            shown = await asyncio.wait_for(viewer.next(), timeout_s)
        except asyncio.TimeoutError:
            return None
    return None if shown is None else shown.jpeg


def _part(shown: Shown) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(shown.jpeg)}\r\n\r\n"
    return head.encode() + shown.jpeg + b"\r\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
