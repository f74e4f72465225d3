"""The panel's server: a page to steer a live loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final

import uvicorn

from mien.apps.panel.app import PanelApp
from mien.apps.panel.connections import Lines, PanelWebSocket
from mien.apps.panel.guard import Guard
from mien.apps.panel.preview import PreviewOutput
from mien.apps.panel.settings import (
    BACKLOG,
    PanelSettings,
    address_host,
    listening_socket,
    tls_context,
)
from mien.apps.panel.steering import Loop
from mien.engines.errors import DeviceError

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
        settings, host = self._settings, self._host
        host = f"[{host}]" if ":" in host else host
        return f"{settings.scheme}://{host}:{self.port}/?token={settings.token}"

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
