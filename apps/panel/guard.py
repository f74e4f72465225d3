"""The door of the panel: who may come in, checked on every request before anything else.

A page of another web site, open in the same browser, can send requests here. It does not know the
token; its Origin is its own; and where it points its own name at this machine (DNS rebinding), the
Host is that name.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.apps.panel.settings import PanelSettings

MAX_FIELDS: Final = 16  # of an address; each costs time before it is known who asks
STATIC: Final = "/static/"  # followed by the token, which modules that import each other keep
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self' {socket}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Guard:
    """An ASGI application that lets only requests of the panel's own page, or a script, through."""

    def __init__(self, app: ASGIApp, settings: PanelSettings, port: int) -> None:
        self._app = app
        self._token = settings.token.encode()
        self._scheme = settings.scheme
        self._is_loopback = settings.is_loopback
        self._listen = settings.listen.lower()  # as the Host header is read
        self._port = port
        self._max_body = settings.limits.body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        protected = _with_headers(send, self._own_headers(headers.get("host", "")))
        try:
            self._check(scope, headers)
        except _RefusedError as refused:
            await _refuse(refused, scope, receive, protected)
            return
        await self._app(scope, receive, protected)

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_own_host(host):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "this name of the machine is not the panel's")
        origin = headers.get("origin")
        if origin is not None and origin != f"{self._scheme}://{host}":
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another page may not use the panel")
        # Pictures are asked for without Origin, but browsers say where the page comes from. The
        # page itself may be opened from anywhere.
        site = headers.get("sec-fetch-site", "none")
        if scope["path"] != "/" and site not in ("none", "same-origin"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another page may not use the panel")
        if not self._has_token(scope, headers):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "open the address that mien printed")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 20 or int(length) > self._max_body:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this request is too large")

    def _is_own_host(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        if name is None or parts.netloc != host or parts.username is not None:
            return False
        default = 80 if self._scheme == "http" else 443
        if (default if port is None else port) != self._port:
            return False
        if name in ("localhost", "127.0.0.1", "::1", self._listen):
            return True
        # In a network the panel is reached by any of the machine's addresses. A page that points
        # its own name here sends that name, never a number.
        return not self._is_loopback and _is_address(name)

    def _has_token(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        try:
            fields = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=MAX_FIELDS)
        except ValueError:  # there are more
            return False
        given = fields.get("token", [])
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            given.append(secret.strip())
        if scope["path"].startswith(STATIC):
            given.append(scope["path"][len(STATIC) :].partition("/")[0])
        return any(hmac.compare_digest(text.encode(), self._token) for text in given)

    def _own_headers(self, host: str) -> list[tuple[bytes, bytes]]:
        scheme = "ws" if self._scheme == "http" else "wss"
        # Safari does not take 'self' for the WebSocket of the same place.
        socket = f"{scheme}://{host}" if self._is_own_host(host) else ""
        return [
            (name.lower().encode(), value.replace("{socket}", socket).encode())
            for name, value in HEADERS.items()
        ]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by small name; of a header that came twice, a value that is in no list of ours."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        headers[key] = f"{headers[key]}, {value!r}" if key in headers else value.decode("latin-1")
    return headers


def _with_headers(send: Send, own: list[tuple[bytes, bytes]]) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await send(message)

    return sent


async def _refuse(refused: _RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    # `Connection: close`: what is still on its way is not read.
    answer = JSONResponse(
        {"error": refused.text}, status_code=refused.status, headers={"Connection": "close"}
    )
    await answer(scope, receive, send)
