"""Offers of WebRTC and their answers over HTTP: the panel's page, WHIP in and WHEP out.

By WHIP (RFC 9725) a program such as OBS sends the picture that becomes the camera, by WHEP
(an Internet-Draft) anybody gets the edited one. Both are one POST of an offer, answered with
the address of a session that DELETE ends and PATCH tells of further ports.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mien.apps.panel.guard import WHEP_PATH, WHIP_PATH, RefusedError
from mien.apps.panel.offers import WHEP, WHIP, Use, parse_fragment, parse_sdp
from mien.apps.panel.parsing import parse_offer
from mien.apps.panel.steering import page_text
from mien.apps.panel.webrtc import CAMERA, Call, Peer, Peers
from mien.engines.errors import UsageError

Handler = Callable[[Request], Awaitable[Response]]
WHIP_CAMERA: Final = "WHIP camera"
SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
_RETRY_S: Final = 2  # after which somebody who found no place may ask again
_USES: Final[Mapping[str, Use]] = {WHIP_PATH: WHIP, WHEP_PATH: WHEP}
_ENDPOINT: Final = ("GET", "OPTIONS", "POST")
_SESSION: Final = ("DELETE", "GET", "OPTIONS", "PATCH")
# What another page's script may send there, beside what it may send anywhere.
_ALLOWED: Final = "authorization, content-type, if-match"
_PREFLIGHT_S: Final = 600  # for which a browser need not ask again


class Signalling:
    """Answers offers. most_bytes: of a request's body."""

    def __init__(self, peers: Peers, most_bytes: int) -> None:
        self._peers, self._most_bytes = peers, most_bytes

    def routes(self) -> list[BaseRoute]:
        """Where it answers."""
        found: list[BaseRoute] = [Route("/offer", _refusing(self._offer), methods=["POST"])]
        for path in _USES:
            found += [
                Route(path, _refusing(self._endpoint), methods=list(_ENDPOINT)),
                Route(f"{path}/{{key}}", _refusing(self._session), methods=list(_SESSION)),
            ]
        return found

    async def _offer(self, request: Request) -> Response:
        """Answer the panel's own page."""
        offer = parse_offer(await self._body(request))
        camera = CAMERA if offer.camera else None
        call = Call(client_of(request), _server_of(request), camera, "video")
        peer = await self._peers.answer(parse_sdp(offer.sdp), call)
        return full() if peer is None else JSONResponse({"type": "answer", "sdp": peer.answer})

    async def _endpoint(self, request: Request) -> Response:
        """Make a session of an offer. Source: RFC 9725, section 4.2."""
        if request.method == "OPTIONS":
            return _options(_ENDPOINT, "Accept-Post", SDP)
        if request.method != "POST":  # GET means nothing yet
            return Response(status_code=HTTPStatus.NO_CONTENT)
        _check_kind(request, SDP)
        text = (await self._body(request)).decode("utf-8", "replace")
        path, client, server = request.url.path, client_of(request), _server_of(request)
        call = Call(client, server, picture="output", is_program=True)
        if path == WHIP_PATH:
            call = Call(client, server, WHIP_CAMERA, is_program=True)
        peer = await self._peers.answer(parse_sdp(text, _USES[path]), call)
        if peer is None:
            return full()
        return Response(
            # Each part says that it has no port of its own for RTCP (RFC 9725, 4.4.1).
            peer.answer.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=rtcp-mux-only\r\n"),
            HTTPStatus.CREATED,
            {"Location": _location(request, peer), "ETag": _tag(peer), "Accept-Patch": FRAGMENT},
            SDP,
        )

    async def _session(self, request: Request) -> Response:
        """End a session, or hear of further ports. Source: RFC 9725, sections 4.2 and 4.3."""
        if request.method == "OPTIONS":
            return _options(_SESSION, "Accept-Patch", FRAGMENT)
        peer = self._peers.find(request.path_params["key"])
        is_in = request.url.path.startswith(f"{WHIP_PATH}/")
        if peer is None or (peer.call.camera == WHIP_CAMERA) != is_in:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such session; it may have ended")
        if request.method == "DELETE":
            await self._peers.end(peer)
            return Response(status_code=HTTPStatus.OK)
        if request.method == "PATCH":
            await self._patch(request, peer)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _patch(self, request: Request, peer: Peer) -> None:
        _check_kind(request, FRAGMENT)
        matched = request.headers.get("if-match")
        if matched is None:
            raise RefusedError(HTTPStatus.PRECONDITION_REQUIRED, "send the ETag back as If-Match")
        if not {"*", _tag(peer)} & {tag.strip() for tag in matched.split(",")}:
            raise RefusedError(HTTPStatus.PRECONDITION_FAILED, "this is not the session's ETag")
        text = (await self._body(request)).decode("utf-8", "replace")
        named, ports = parse_fragment(text)
        if named not in (None, (peer.offer.user, peer.offer.password)):
            raise RefusedError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "ICE is not restarted here; make a new session"
            )
        await self._peers.add_ports(peer, ports)

    async def _body(self, request: Request) -> bytes:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > self._most_bytes:
                raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this request is too large")
        return body


def _refusing(handler: Handler) -> Handler:
    """What answers, where `handler` refuses, with why."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RefusedError as refused:
            return refusal(refused.status, refused.text)
        except UsageError as error:
            return refusal(HTTPStatus.BAD_REQUEST, page_text(str(error)))

    return answer


def client_of(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client else "127.0.0.1"


def full() -> Response:
    """The answer to whoever finds no place."""
    answer = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages show the picture")
    answer.headers["Retry-After"] = str(_RETRY_S)
    return answer


def refusal(status: HTTPStatus, text: str) -> Response:
    """An answer that says why not. What is still on its way is not read."""
    return JSONResponse({"error": text}, status_code=status, headers={"Connection": "close"})


def _options(methods: tuple[str, ...], accept: str, kind: str) -> Response:
    """The answer to OPTIONS, also where a browser asks whether another page may come (CORS)."""
    listed = ", ".join(methods)
    headers = {
        "Allow": listed,
        accept: kind,
        "Access-Control-Allow-Methods": listed,
        "Access-Control-Allow-Headers": _ALLOWED,
        "Access-Control-Max-Age": str(_PREFLIGHT_S),
    }
    return Response(status_code=HTTPStatus.OK, headers=headers)


def _check_kind(request: Request, kind: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"this is sent as {kind}")


def _location(request: Request, peer: Peer) -> str:
    """Where the session is; with the token for who has it in the address and sends no header."""
    given = request.query_params.get("token")
    token = f"?token={quote(given)}" if given and "authorization" not in request.headers else ""
    return f"{request.url.path}/{peer.key}{token}"


def _tag(peer: Peer) -> str:
    return f'"{peer.key}"'


def _server_of(request: Request) -> str:
    return str((request.scope["server"] or ("127.0.0.1",))[0])
