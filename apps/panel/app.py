"""The panel: what it answers, and its server, which steers a live loop from a thread of its own.

It answers with its page and files, its picture, and its WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from types import TracebackType
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from mien.apps.panel.connections import Lines, PanelWebSocket
from mien.apps.panel.guard import Guard, Places
from mien.apps.panel.presets import Presets
from mien.apps.panel.preview import JpegStream, Kind, Onlooker, PreviewOutput, next_jpeg
from mien.apps.panel.protocol import Faces, Stats
from mien.apps.panel.protocol import Presets as PresetList
from mien.apps.panel.settings import (
    BACKLOG,
    STATIC_FILES,
    PanelSettings,
    address_host,
    listening_socket,
    tls_context,
)
from mien.apps.panel.signalling import Signalling, client_of, full, refusal
from mien.apps.panel.sockets import Sockets
from mien.apps.panel.steering import Loop, Steering, faces_message, stats_message
from mien.apps.panel.webrtc import BrowserCamera, Peers
from mien.engines.errors import DeviceError
from mien.runtime.live.controls import ControlState

FIRST_PICTURE_S: Final = 10.0  # a camera that was released needs a moment
_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


class PanelApp:
    """The panel as an ASGI application; made and used in the server's thread."""

    def __init__(self, live: Loop, settings: PanelSettings, preview: PreviewOutput) -> None:
        self._live, self._settings, self._preview = live, settings, preview
        self._presets = Presets(settings.presets, self._on_presets)
        self._steering = Steering(live.controls, self._presets)
        limits = settings.limits
        self._sockets = Sockets(self._steering, self._news, preview.listener, most=limits.sockets)
        camera = BrowserCamera(live, self._on_browser_camera)
        self._peers = Peers(preview, camera, most=limits.videos)
        self._signalling = Signalling(self._peers, limits.body_bytes)
        self._streams: Places[Onlooker] = Places(limits.streams)
        self._singles: Places[Onlooker] = Places(limits.streams)
        self._routes = self._routed()
        self._loop = asyncio.get_running_loop()
        self._end_listening = live.controls.listen(self._on_change)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or talk on one WebSocket."""
        await self._routes(scope, receive, send)

    async def close(self) -> None:
        """Tell everybody good-bye."""
        self._end_listening()
        self._sockets.close()
        self._preview.end_viewing()
        await self._peers.close()
        await self._presets.close()

    def _routed(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/static/{token}/{name}", self._static),
                Route("/stream.mjpg", self._stream),
                Route("/frame.jpg", self._frame),
                *self._signalling.routes(),
                Route("/health", self._health),
                WebSocketRoute("/ws", self._sockets.serve),
            ]
        )

    def _on_change(self, state: ControlState) -> None:  # noqa: ARG002 -- it may be old by then
        with contextlib.suppress(RuntimeError):  # the server's loop has just been closed
            self._loop.call_soon_threadsafe(self._sockets.tell_state)

    def _on_presets(self) -> None:
        self._sockets.tell(PresetList(self._presets.all()))

    def _on_browser_camera(self, is_used: bool) -> None:
        self._steering.browser_camera = is_used
        self._sockets.tell_state()

    def _news(self) -> tuple[Stats, Faces]:
        stats = self._live.stats()
        preview = self._preview.facts()
        return stats_message(stats, preview, self._presets.message), faces_message(stats)

    async def _page(self, request: Request) -> Response:  # noqa: ARG002
        page = (STATIC_FILES / "index.html").read_text(encoding="utf-8")
        return HTMLResponse(page.replace("{{token}}", self._settings.token))

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = STATIC_FILES / name
        if path.name != name or path.suffix not in _TYPES or not path.is_file():
            return refusal(HTTPStatus.NOT_FOUND, "there is no such file")
        # They are small; in one piece there is nothing to ask for by halves.
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix])

    async def _stream(self, request: Request) -> Response:
        kind = _kind(request)
        if kind is None:
            return refusal(HTTPStatus.BAD_REQUEST, "view must be edited or original")
        onlooker = Onlooker(client_of(request))
        if not self._streams.take(onlooker):
            return full()
        return JpegStream(self._preview, kind, onlooker, self._streams)

    async def _frame(self, request: Request) -> Response:
        kind = _kind(request)
        if kind is None:
            return refusal(HTTPStatus.BAD_REQUEST, "view must be edited or original")
        onlooker = Onlooker(client_of(request))
        if not self._singles.take(onlooker):
            return full()
        try:
            jpeg = await next_jpeg(self._preview, kind, onlooker, FIRST_PICTURE_S)
        finally:
            self._singles.free(onlooker)
        if jpeg is None:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no picture comes from the camera")
        return Response(jpeg, media_type="image/jpeg")

    async def _health(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"state": self._live.stats().state})


def _kind(request: Request) -> Kind | None:
    view = request.query_params.get("view", "edited")
    if view == "edited":
        return "edited"
    return "original" if view == "original" else None


_STOP_S: Final = 5.0
_POLL_S: Final = 0.05
_ENCODERS: Final = 2  # threads that encode video for browsers


class PanelServer:
    """Serves the panel from a thread of its own.

    The port is taken at once; `start` begins to serve and adds the preview to the loop's outputs;
    `close` ends both and leaves no thread behind. preview: the output that browsers look at.

    Raises UsageError where the port is in use.
    """

    def __init__(self, loop: Loop, settings: PanelSettings) -> None:
        self._live, self._settings = loop, settings
        self._socket = listening_socket(settings)
        self.port: int = self._socket.getsockname()[1]
        self._host = address_host(settings)
        self.preview = PreviewOutput(settings.preview)
        self._ended = threading.Event()
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to open in a browser, with the token."""
        return f"{self.address('/')}?token={self._settings.token}"

    def address(self, path: str) -> str:
        """The address of one of its paths, without the token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._settings.scheme}://{host}:{self.port}{path}"

    def start(self) -> None:
        """Begin to answer. Raises DeviceError where the panel does not come up."""
        self._thread = threading.Thread(target=self._run, name="mien-panel", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self.close()
            raise DeviceError(f"the panel does not start: {self._error}") from self._error
        self._live.add_output(self.preview)

    def close(self) -> None:
        """Tell everybody good-bye, and free the port. May be called twice."""
        self._ended.set()
        if self._thread is not None:
            if self._error is None:
                self._live.remove_output(self.preview)
            self._thread.join(_STOP_S)
            self._thread = None
        self.preview.close()
        self._socket.close()

    def __enter__(self) -> PanelServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- `start` raises it
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        encoders = ThreadPoolExecutor(_ENCODERS, thread_name_prefix="mien-encoder")
        asyncio.get_running_loop().set_default_executor(encoders)
        app = PanelApp(self._live, self._settings, self.preview)
        limits = self._settings.limits
        lines = Lines(
            most=limits.connections,
            request_s=limits.request_s,
            send_s=limits.send_s,
            tls=tls_context(self._settings),
        )
        server = uvicorn.Server(self._config(app, lines))
        serving = asyncio.ensure_future(server.serve(sockets=[self._socket]))
        try:
            while not self._ended.is_set() and not serving.done():
                if server.started:
                    self._started.set()
                await asyncio.sleep(_POLL_S)
        finally:
            await app.close()
            lines.close(served=False)
            server.should_exit = True
            await serving
            lines.close(served=True)

    def _config(self, app: PanelApp, lines: Lines) -> uvicorn.Config:
        settings, limits = self._settings, self._settings.limits
        return uvicorn.Config(
            Guard(app, settings),
            http=lines.protocol_class(),
            ws=PanelWebSocket,
            ws_max_size=limits.message_bytes,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,  # addresses hold the token
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=16 * 1024,
            backlog=BACKLOG,
        )
