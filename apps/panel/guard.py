"""Who may use the panel, checked on every request before anything else, and how many at once.

A page of another web site, open in the same browser, can send requests here. It does not know the
token (but for WHIP and WHEP, where its user may have given it to it); its Origin is its own; and
where it points its own name at this machine (DNS rebinding), the Host is that name. Names of this
machine are taken with any port, for a tunnel such as `ssh -L` may begin at another one; it is the
name that such a page cannot choose.

Places are bounded: a newcomer gets that of whoever can best be spared. Events are limited in
rate.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import ipaddress
import re
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from operator import itemgetter
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.apps.panel.settings import (
    STATIC_FILES,
    PanelSettings,
    certificate_names,
    covers,
    is_number,
)

TENURE_S: Final = 1.0  # a place is kept this long before it may be taken by somebody newer
STALLED_S: Final = 0.5  # somebody who takes nothing for this long makes room first


class Holder(Protocol):
    """Somebody with a place. address: the machine it comes from."""

    address: str

    def spare(self, now_s: float) -> tuple[int, float] | None:
        """How well it can be spared, the highest first; None where it cannot."""
        ...

    def make_room(self) -> None:
        """End what it does: the place is another's now."""
        ...


SomeHolder = TypeVar("SomeHolder", bound=Holder)


class Places(Generic[SomeHolder]):
    """A bounded number of places, where a newcomer takes that of whoever can best be spared.

    Of the places, one other machine has at most half, and all others together three quarters: what
    is left is for the person at this machine.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[SomeHolder, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[SomeHolder]:
        return iter(list(self._held))

    def __contains__(self, holder: object) -> bool:
        return holder in self._held

    def take(self, holder: SomeHolder) -> bool:
        """Whether there is a place for it; somebody else may have had to make room."""
        rivals = self._rivals(machine_of(holder.address))
        if rivals is not None:
            now_s = time.monotonic()
            spared = [(how, rival) for rival in rivals if (how := rival.spare(now_s)) is not None]
            if not spared:
                return False
            _, rival = max(spared, key=itemgetter(0))
            self.free(rival)
            rival.make_room()
        self._held[holder] = None
        return True

    def free(self, holder: SomeHolder) -> None:
        """Give the place back; it may be another's by now."""
        self._held.pop(holder, None)

    def _rivals(self, machine: str | None) -> list[SomeHolder] | None:
        """Who may have to make room for one more from there; None where there is room."""
        if machine is not None:
            others = [held for held in self._held if machine_of(held.address) is not None]
            same = [held for held in others if machine_of(held.address) == machine]
            if len(same) >= max(1, self._most // 2):
                return same
            if len(others) >= max(1, 3 * self._most // 4):
                return others
        return list(self._held) if len(self._held) >= self._most else None


def machine_of(address: str) -> str | None:
    """The machine of an address, None for this one. An IPv6 network of 64 bits is one machine."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return None if ip.is_loopback else str(ipaddress.ip_network((ip, 64), strict=False))
        ip = ip.ipv4_mapped
    return None if ip.is_loopback else str(ip)


class Rate:
    """So many events a second, and `burst` of them at once."""

    def __init__(self, a_second: float, burst: int) -> None:
        self._each_s = 1 / a_second
        self._slack_s = burst / a_second
        self._paid_s = time.monotonic()  # until when the events so far are paid for

    def wait_s(self) -> float:
        """How long until the next event is due, 0 where it is."""
        return max(0.0, self._paid_s + self._each_s - self._slack_s - time.monotonic())

    def take(self) -> None:
        """Count one event."""
        self._paid_s = max(self._paid_s, time.monotonic()) + self._each_s


WHIP_PATH: Final = "/whip"
WHEP_PATH: Final = "/whep"
# Where pages of other sites may come, with the token in a header: it is their users who gave it to
# them. What a page cannot send without asking first (Fetch, CORS protocol), mien answers there.
_OPEN_HEADERS: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"accept-patch, etag, location, retry-after"),
)
MAX_FIELDS: Final = 16  # of an address; each costs time before it is known who asks
STATIC: Final = "/static/"  # followed by the token, which modules that import each other keep
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src {style}; "
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

NO_TOKEN: Final = "open the address that mien printed"  # noqa: S105 -- a sentence
NO_NAME: Final = "the panel is not known by this name"
NO_PAGE: Final = "another page may not use the panel"
# A title and what to do, for people.
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    NO_TOKEN: (
        "This address is not complete",
        (
            "The panel opens with its full address, which ends with a key. The key is new each "
            "time mien starts, so an old bookmark does not open either."
        ),
    ),
    NO_NAME: (
        "mien does not know this name",
        (
            "The panel opens by the name in its own address, and by each name that is in the "
            "certificate mien was started with. Through a tunnel (ssh -L) it opens as localhost."
        ),
    ),
    NO_PAGE: (
        "The panel does not open from another page",
        "For your safety no other page may use it. Open its address in a tab of its own.",
    ),
}


class RefusedError(Exception):
    """A request that is not let in."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Guard:
    """An ASGI application that lets only requests of the panel's own page, or a script, through."""

    def __init__(self, app: ASGIApp, settings: PanelSettings) -> None:
        self._app = app
        self._token = settings.token.encode()
        self._scheme = settings.scheme
        self._is_loopback = settings.is_loopback
        self._listen = settings.listen.lower()  # as the Host header is read
        self._names = certificate_names(settings.certificate)
        self._max_body = settings.limits.body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        host = headers.get("host", "")
        if is_open(scope["path"]):
            send = _with_headers(send, list(_OPEN_HEADERS))
        try:
            self._check(scope, headers)
        except RefusedError as refused:
            # `Connection: close`: what is still on its way is not read.
            close = {"Connection": "close"}
            answer: Response = JSONResponse({"error": refused.text}, refused.status, close)
            style = "'self'"
            if scope["path"] == "/" and "text/html" in headers.get("accept", ""):
                page, style = refusal_page(refused)
                answer = HTMLResponse(page, refused.status, close)
            await answer(scope, receive, _with_headers(send, self._own_headers(host, style)))
            return
        await self._app(scope, receive, _with_headers(send, self._own_headers(host)))

    def _check(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_own_host(host):
            raise RefusedError(HTTPStatus.FORBIDDEN, NO_NAME)
        if is_open(scope["path"]) and scope.get("method") == "OPTIONS":
            return  # it is asked without the token (Fetch, CORS-preflight), and says nothing new
        if not self._is_welcome(scope, headers):
            raise RefusedError(HTTPStatus.FORBIDDEN, NO_PAGE)
        if not self._has_token(scope, headers):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, NO_TOKEN)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 20 or int(length) > self._max_body:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this request is too large")

    def _is_welcome(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Whether no page of another site asks, or one that may."""
        if is_open(scope["path"]) and self._is_token(_bearer(headers)):
            return True
        origin = headers.get("origin")
        if origin is not None and origin != f"{self._scheme}://{headers.get('host', '')}":
            return False
        # Pictures are asked for without Origin, but browsers say where the page comes from. The
        # page itself may be opened from anywhere.
        site = headers.get("sec-fetch-site", "none")
        return scope["path"] == "/" or site in ("none", "same-origin")

    def _is_own_host(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname, parts.port  # a port that is none raises
        except ValueError:
            return False
        if name is None or parts.netloc != host or parts.username is not None:
            return False
        if name in ("localhost", "127.0.0.1", "::1", self._listen):
            return True
        # Whoever has the certificate's key has its names; nobody else can point them here.
        if covers(self._names, name):
            return True
        # In a network the panel is reached by any of the machine's addresses. A page that points
        # its own name here sends that name, never a number.
        return not self._is_loopback and is_number(name)

    def _has_token(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        try:
            fields = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=MAX_FIELDS)
        except ValueError:  # there are more
            return False
        given = [*fields.get("token", []), _bearer(headers)]
        if scope["path"].startswith(STATIC):
            given.append(scope["path"][len(STATIC) :].partition("/")[0])
        return any(self._is_token(text) for text in given)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token)

    def _own_headers(self, host: str, style: str = "'self'") -> list[tuple[bytes, bytes]]:
        scheme = "ws" if self._scheme == "http" else "wss"
        # Safari does not take 'self' for the WebSocket of the same place.
        socket = f"{scheme}://{host}" if self._is_own_host(host) else ""
        return [
            (name.lower().encode(), value.format(socket=socket, style=style).encode())
            for name, value in HEADERS.items()
        ]


def is_open(path: str) -> bool:
    """Whether pages of other sites may come there, with the token in a header."""
    return any(path == place or path.startswith(f"{place}/") for place in (WHIP_PATH, WHEP_PATH))


def _bearer(headers: Mapping[str, str]) -> str:
    """The token in the header for it, empty without one (RFC 6750, 2.1)."""
    kind, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


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


def refusal_page(refused: RefusedError) -> tuple[str, str]:
    """What a person reads who is not let in, and the source of its style for the policy."""
    page = (STATIC_FILES / "refused.html").read_text(encoding="utf-8")
    title, text = _WORDS.get(refused.text, (refused.text, ""))
    for name, words in (("title", title), ("text", text)):
        page = page.replace(f"{{{{{name}}}}}", html.escape(words))
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return page, f"'sha256-{digest}'"
