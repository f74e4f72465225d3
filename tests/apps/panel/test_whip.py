"""WHIP in and WHEP out, by an independent client over loopback, and what is refused there."""

from __future__ import annotations

import asyncio
import http.client
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, Protocol

import av
import numpy as np
import pytest
from aioice import stun
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)

from mien.apps.main import run
from mien.apps.panel.offers import WHEP, WHIP, Sound, Use, parse_fragment, parse_sdp
from mien.apps.panel.preview import PreviewOutput
from mien.apps.panel.protocol import ProtocolError
from mien.apps.panel.settings import Limits, PreviewSettings
from mien.runtime.frame import Frame
from tests.apps.live_fakes import LiveFake
from tests.apps.panel.stand_in import EVENT_S, TOKEN, RunningPanel, running_panel
from tests.runtime.live.stand_ins import live_frame, yuv_frame

BITS, BLOCK = 16, 20  # a number is drawn as so many squares of so many pixels
SENT_WH = (BITS * BLOCK, 240)
SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    with running_panel(tmp_path) as panel:
        yield panel


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Served(Protocol):
    """Where a panel is. port: of the loopback."""

    port: int


def ask(panel: Served, method: str, path: str, body: str = "", **headers: str) -> Answer:
    """What the panel answers; names of headers have `_` for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", panel.port, timeout=EVENT_S)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body.encode() or None, names)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read().decode())
    finally:
        connection.close()


class CountingTrack(VideoStreamTrack):
    """A picture in which its own number is drawn, and when each was made."""

    def __init__(self) -> None:
        super().__init__()
        self.made_s: list[float] = []

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame.from_ndarray(numbered(len(self.made_s)), format="yuv420p")
        frame.pts, frame.time_base = pts, time_base
        self.made_s.append(time.monotonic())
        return frame


def numbered(number: int) -> np.ndarray:
    pixels = np.full((SENT_WH[1] * 3 // 2, SENT_WH[0]), 128, np.uint8)
    for bit in range(BITS):
        luma = 220 if number >> bit & 1 else 30
        pixels[: SENT_WH[1] // 2, bit * BLOCK : (bit + 1) * BLOCK] = luma
    return pixels


def number_in(picture: av.VideoFrame) -> int | None:
    """The number drawn in a picture, None where it shows something else."""
    if (picture.width, picture.height) != SENT_WH:
        return None
    luma = picture.to_ndarray(format="yuv420p", threads=1)[: SENT_WH[1] // 2]
    inner = luma.reshape(-1, BITS, BLOCK)[:, :, 5:-5]
    means, spread = inner.mean((0, 2)), inner.std((0, 2))
    if spread.max() > 40:
        return None
    return sum(1 << bit for bit in range(BITS) if means[bit] > 128)


class Client:
    """A program that sends or receives by WHIP or WHEP."""

    def __init__(self, panel: Served, path: str, token: str = TOKEN) -> None:
        self.panel, self.path = panel, path
        self.bearer = {"Authorization": f"Bearer {token}"}
        bundle = RTCBundlePolicy.MAX_BUNDLE
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=bundle))
        self.tracks: dict[str, MediaStreamTrack] = {}
        self.peer.on("track", lambda track: self.tracks.update({track.kind: track}))
        self.answer = Answer(0, {}, "")

    async def send(self, *tracks: MediaStreamTrack) -> None:
        for track in tracks:
            self.peer.addTransceiver(track, direction="sendonly")
        await self._open()

    async def receive(self, *kinds: str) -> None:
        for kind in kinds:
            self.peer.addTransceiver(kind, direction="recvonly")
        await self._open()

    async def ask(self, method: str, body: str = "", **headers: str) -> Answer:
        path = self.answer.headers["location"]
        return await asyncio.to_thread(
            ask, self.panel, method, path, body, **self.bearer, **headers
        )

    async def _open(self) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        sdp, headers = self.peer.localDescription.sdp, {"Content_Type": SDP, **self.bearer}
        self.answer = await asyncio.to_thread(ask, self.panel, "POST", self.path, sdp, **headers)
        assert self.answer.status == 201, self.answer.body
        assert self.answer.headers["content-type"].startswith(SDP)
        assert self.answer.headers["location"].startswith(f"{self.path}/")
        await self.peer.setRemoteDescription(RTCSessionDescription(self.answer.body, "answer"))


def places_in(sdp: str) -> list[tuple[str, int]]:
    """The IPv4 addresses and ports of the candidates, each once."""
    lines = [line.split() for line in sdp.splitlines() if line.startswith("a=candidate")]
    places = [(line[4], int(line[5])) for line in lines if ":" not in line[4]]
    return list(dict.fromkeys(places))


async def until(condition: object, what: str) -> None:
    end_s = time.monotonic() + EVENT_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end_s, what
        await asyncio.sleep(0.02)


async def numbers_seen(client: Client, count: int) -> list[tuple[int, float]]:
    """So many numbers that came, and when."""
    seen: list[tuple[int, float]] = []
    while len(seen) < count:
        picture = await asyncio.wait_for(client.tracks["video"].recv(), EVENT_S)
        assert isinstance(picture, av.VideoFrame)
        number = number_in(picture)
        if number is not None:
            seen.append((number, time.monotonic()))
    return seen


@pytest.mark.parametrize("with_sound", [False, True], ids=["video", "video-and-sound"])
def test_what_comes_by_whip_leaves_by_whep_in_order(panel: RunningPanel, with_sound: bool) -> None:
    async def look() -> None:
        sender, receiver = Client(panel, "/whip"), Client(panel, "/whep")
        track = CountingTrack()
        sounds = [AudioStreamTrack()] if with_sound else []
        await sender.send(*sounds, track)
        await receiver.receive(*(["audio"] if with_sound else []), "video")
        seen = await numbers_seen(receiver, 1)
        assert panel.loop.stats().source.name == "WHIP camera"
        assert panel.camera.is_paused
        seen += await numbers_seen(receiver, 15)
        numbers = [number for number, _ in seen]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] < len(track.made_s)
        assert (await sender.ask("DELETE")).status == 200
        await until(lambda: panel.loop.source is panel.camera, "the camera is not back")
        assert (await sender.ask("DELETE")).status == 404
        assert (await receiver.ask("DELETE")).status == 200
        await until(lambda: panel.server.preview.viewers == 0, "somebody still looks")
        await sender.peer.close()
        await receiver.peer.close()

    asyncio.run(look())


def test_a_newer_sender_takes_the_place_of_the_one_before(panel: RunningPanel) -> None:
    async def look() -> None:
        first, second = Client(panel, "/whip"), Client(panel, "/whip")
        await first.send(CountingTrack())
        await until(lambda: panel.loop.source is not panel.camera, "nothing came")
        before = panel.loop.source
        await second.send(CountingTrack())
        await until(lambda: panel.loop.source is not before, "the second did not come")
        await until(lambda: first.peer.connectionState == "closed", "the first was not told")
        assert (await first.ask("DELETE")).status == 404
        await second.peer.close()  # without a word by HTTP
        await until(lambda: panel.loop.source is panel.camera, "the camera is not back")
        await first.peer.close()

    asyncio.run(look())


def test_an_answer_takes_no_more_than_is_meant(panel: RunningPanel) -> None:
    async def look() -> None:
        sender, receiver = Client(panel, "/whip"), Client(panel, "/whep")
        await sender.send(AudioStreamTrack(), CountingTrack())
        await receiver.receive("audio", "video")
        for client, directions in (
            (sender, ["recvonly"] * 2),
            (receiver, ["inactive", "sendonly"]),
        ):
            lines = client.answer.body.splitlines()
            given = [line[2:] for line in lines if line[2:] in (*directions, "sendrecv")]
            assert given == directions
            assert lines.count("a=rtcp-mux-only") == 2
            places = places_in(client.answer.body)
            own = {host for host, _ in places_in(client.peer.localDescription.sdp)}
            hosts = [host for host, _ in places]
            assert "127.0.0.1" in hosts
            assert {*hosts} <= {"127.0.0.1", *own}
            assert len(hosts) == len({*hosts}) == 1 + bool(own)
            await client.peer.close()

    asyncio.run(look())


def test_the_port_of_a_network_card_hears_this_machine_alone(panel: RunningPanel) -> None:
    async def look() -> None:
        client = Client(panel, "/whep")
        await client.receive("video")
        sdp = client.answer.body
        there = [place for place in places_in(sdp) if place[0] != "127.0.0.1"]
        if not there:
            pytest.skip("this machine has no network card")
        named = dict(line[2:].split(":", 1) for line in sdp.splitlines() if line[:6] == "a=ice-")
        check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        user = parse_sdp(client.peer.localDescription.sdp, WHEP).user
        check.attributes["USERNAME"] = f"{named['ice-ufrag']}:{user}"
        check.attributes["PRIORITY"] = 1
        check.attributes["ICE-CONTROLLING"] = 1
        check.add_message_integrity(named["ice-pwd"].encode())
        with (
            socket.socket(type=socket.SOCK_DGRAM) as stranger,
            socket.socket(type=socket.SOCK_DGRAM) as own,
        ):
            stranger.bind(("127.0.0.1", 0))  # as any other address would
            own.bind((there[0][0], 0))
            own.settimeout(EVENT_S)
            stranger.setblocking(False)
            for sender in (stranger, own):  # they are heard in this order
                sender.sendto(bytes(check), there[0])
            answer = await asyncio.to_thread(own.recv, 2048)
            assert stun.parse_message(answer).transaction_id == check.transaction_id
            with pytest.raises(BlockingIOError):
                stranger.recv(2048)
        await client.peer.close()

    asyncio.run(look())


def test_a_session_hears_of_candidates_and_does_not_restart_ice(panel: RunningPanel) -> None:
    async def look() -> None:
        client = Client(panel, "/whep")
        await client.receive("video")
        tag = client.answer.headers["etag"]
        assert client.answer.headers["accept-patch"] == FRAGMENT
        lines = client.peer.localDescription.sdp.splitlines()
        own = [line for line in lines if line.startswith(("a=ice-ufrag", "a=ice-pwd"))]
        candidate = "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host"
        mine, typed = "\r\n".join([*own, candidate, ""]), {"Content_Type": FRAGMENT}
        others = "a=ice-ufrag:another\r\na=ice-pwd:anotheranotheranotherr\r\n"
        for body, headers, status in (
            (mine, {**typed, "If_Match": tag}, 204),
            (mine, {**typed, "If_Match": "*"}, 204),
            (f"{candidate}\r\n", {**typed, "If_Match": tag}, 204),
            (mine, typed, 428),
            (mine, {**typed, "If_Match": '"older"'}, 412),
            (others, {**typed, "If_Match": "*"}, 422),
            ("no SDP", {**typed, "If_Match": tag}, 400),
            (mine, {"Content_Type": SDP, "If_Match": tag}, 415),
        ):
            answer = await client.ask("PATCH", body, **headers)
            assert answer.status == status, (body, headers, answer)
            assert "etag" not in answer.headers
        assert (await client.ask("GET")).status == 204
        assert (await client.ask("PUT")).status == 405
        await client.peer.close()

    asyncio.run(look())


def test_a_session_of_one_kind_is_not_found_as_one_of_the_other(panel: RunningPanel) -> None:
    async def look() -> None:
        client = Client(panel, "/whep")
        await client.receive("video")
        key = client.answer.headers["location"].rpartition("/")[2]
        assert ask(panel, "DELETE", f"/whip/{key}", **BEARER).status == 404
        assert ask(panel, "DELETE", f"/whep/{key}").status == 401
        await client.peer.close()

    asyncio.run(look())


DIGEST = ":".join(["AB"] * 32)
TRANSPORT = (
    "a=ice-ufrag:OQqm",
    "a=ice-pwd:QZivJMK7+bddP+gzCY1ge7KW",
    f"a=fingerprint:sha-256 {DIGEST}",
    "a=setup:actpass",
)


def offered(direction: str = "sendonly", *, transport_in: str = "session") -> list[str]:
    """The lines of an offer as OBS makes it: the sound first, and all of the transport once."""
    common = list(TRANSPORT)
    return [
        "v=0",
        "o=rtc 2905012843 0 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "a=group:LS 0 1",
        "a=msid-semantic:WMS *",
        *(common if transport_in == "session" else []),
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        f"a={direction}",
        *(common if transport_in == "first" else []),
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=candidate:1 1 UDP 2122317823 192.0.2.7 51000 typ host",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "a=bundle-only",
        "a=mid:1",
        f"a={direction}",
        "a=rtpmap:96 H264/90000",
        "a=rtcp-fb:96 nack pli",
        "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
        "a=ssrc:42 cname:video",
    ]


def sdp_of(lines: list[str]) -> str:
    return "\r\n".join([*lines, ""])


@pytest.mark.parametrize("transport_in", ["session", "first"])
def test_an_offer_as_obs_makes_it_is_read(transport_in: str) -> None:
    offer = parse_sdp(sdp_of(offered(transport_in=transport_in)), WHIP)
    assert offer.sends
    assert offer.sound is not None
    assert offer.sound == Sound("0", 111, "opus/48000/2", is_first=True)
    assert (offer.mid, offer.user, offer.sources, offer.ports) == ("1", "OQqm", (42,), (51000,))
    lines = offer.sdp(with_camera=True, client="127.0.0.1", with_picture=False).splitlines()
    assert "a=group:BUNDLE 0 1" in lines
    assert [line.split()[0] for line in lines if line.startswith("m=")] == ["m=audio", "m=video"]
    assert lines.count("a=sendonly") == 2
    assert lines.count("a=ice-ufrag:OQqm") == 2
    again = parse_sdp(sdp_of(lines), WHIP)
    assert (again.sound, again.codecs, again.fingerprints) == (
        offer.sound,
        offer.codecs,
        offer.fingerprints,
    )


def test_sounds_are_those_that_all_of_webrtc_has() -> None:
    for given, name in (("OPUS/48000", "opus/48000/2"), ("PCMU/8000", "PCMU/8000")):
        lines = [line.replace("opus/48000/2", given) for line in offered()]
        sound = parse_sdp(sdp_of(lines), WHIP).sound
        assert sound is not None
        assert sound.name == name


DATA = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:2"]


@pytest.mark.parametrize(
    ("use", "lines"),
    [
        (WHIP, offered("recvonly")),
        (WHIP, offered("inactive")),
        (WHEP, offered("sendonly")),
        (WHIP, [*offered(), *DATA]),
        (WHIP, [*offered()[:18], *DATA]),
        (WHIP, [line for line in offered() if "BUNDLE" not in line]),
        (WHIP, [line.replace("BUNDLE 0 1", "BUNDLE 1") for line in offered()]),
        (WHIP, [line.replace("a=mid:1", "a=mid:0") for line in offered()]),
        (WHIP, [line.replace("opus/48000/2", "G729/8000") for line in offered()]),
        (WHIP, [line.replace("H264", "AV1") for line in offered()]),
        (WHIP, [line for line in offered() if line != "a=rtcp-mux"]),
        (WHIP, [line for line in offered() if "ice-pwd" not in line]),
        (WHIP, [line for line in offered() if "m=video" not in line]),
        (WHIP, [*offered(), *offered()[17:]]),
        (WHIP, ["v=0"]),
    ],
)
def test_offers_that_are_none_of_whip_or_whep_are_refused(
    panel: RunningPanel, use: Use, lines: list[str]
) -> None:
    with pytest.raises(ProtocolError):
        parse_sdp(sdp_of(lines), use)
    path = "/whip" if use is WHIP else "/whep"
    answer = ask(panel, "POST", path, sdp_of(lines), Content_Type=SDP, **BEARER)
    assert answer.status == 400
    assert "\n" not in answer.body
    assert panel.loop.source is panel.camera


@pytest.mark.parametrize("text", ["", "a=mid:0\r\n", "a=ice-ufrag:abcd\r\n", "<html>"])
def test_fragments_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_fragment(text)


def test_what_is_no_offer_is_refused_by_its_kind_and_its_size(panel: RunningPanel) -> None:
    sdp = sdp_of(offered())
    assert ask(panel, "POST", "/whip", sdp, **BEARER).status == 415
    assert ask(panel, "POST", "/whip", sdp, Content_Type="text/plain", **BEARER).status == 415
    large = "a" * (panel.server._settings.limits.body_bytes + 1)
    assert ask(panel, "POST", "/whip", large, Content_Type=SDP, **BEARER).status == 413
    assert ask(panel, "GET", "/whip", **BEARER).status == 204
    assert ask(panel, "PUT", "/whip", sdp, **BEARER).status == 405
    assert ask(panel, "DELETE", "/whip/none", **BEARER).status == 404


def test_where_all_places_are_taken_a_program_is_told_when_to_ask_again(tmp_path: Path) -> None:
    with running_panel(tmp_path, Limits(videos=1)) as panel:

        async def look() -> None:
            first = Client(panel, "/whip")
            await first.send(CountingTrack())
            await until(lambda: panel.loop.source is not panel.camera, "nothing came")
            answer = await asyncio.to_thread(
                ask, panel, "POST", "/whip", sdp_of(offered()), Content_Type=SDP, **BEARER
            )
            assert answer.status == 503  # a camera in use makes room for nobody
            assert int(answer.headers["retry-after"]) > 0
            await first.peer.close()

        asyncio.run(look())


@pytest.mark.parametrize("path", ["/whip", "/whep", "/whip/session"])
def test_a_page_elsewhere_may_come_with_the_token_in_a_header(
    panel: RunningPanel, path: str
) -> None:
    elsewhere = {"Origin": "https://studio.example", "Sec_Fetch_Site": "cross-site"}
    asked = {"Access_Control_Request_Method": "POST"}
    asked["Access_Control_Request_Headers"] = "authorization,content-type"
    before = ask(panel, "OPTIONS", path, **elsewhere, **asked)
    assert before.status == 200
    assert before.headers["access-control-allow-origin"] == "*"
    assert {"authorization", "content-type", "if-match"} == {
        name.strip() for name in before.headers["access-control-allow-headers"].split(",")
    }
    methods = before.headers["access-control-allow-methods"]
    assert ("DELETE" in methods) == ("session" in path)
    kind = "accept-patch" if "session" in path else "accept-post"
    assert before.headers[kind] == (FRAGMENT if "session" in path else SDP)
    answer = ask(panel, "GET", path, **elsewhere, **BEARER)
    assert answer.status == (404 if "session" in path else 204)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "location" in answer.headers["access-control-expose-headers"]
    wrong = ask(panel, "GET", path, **elsewhere, Authorization="Bearer another")
    assert wrong.status == 403
    assert ask(panel, "GET", f"{path}?token={TOKEN}", **elsewhere).status == 403
    assert ask(panel, "GET", path).status == 401


def test_a_page_elsewhere_comes_nowhere_else(panel: RunningPanel) -> None:
    elsewhere = {"Origin": "https://studio.example"}
    for path in ("/", "/offer", "/health", "/whips", "/frame.jpg"):
        answer = ask(panel, "OPTIONS", path, **elsewhere)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
        assert ask(panel, "GET", path, **elsewhere, **BEARER).status == 403
    rebound = ask(panel, "OPTIONS", "/whip", Host="evil.example", **elsewhere)
    assert rebound.status == 403


def test_vp8_is_sent_where_it_is_taken_and_h264_where_nothing_else_is(panel: RunningPanel) -> None:
    number, name = r"m=video \d+ UDP/TLS/RTP/SAVPF (\d+)", r"a=rtpmap:{} (\w+)/90000"
    h264 = offered("recvonly")
    both = [line.replace("SAVPF 96", "SAVPF 96 98") for line in h264] + ["a=rtpmap:98 VP8/90000"]
    for lines, expected in ((h264, "H264"), (both, "VP8")):
        answer = ask(panel, "POST", "/whep", sdp_of(lines), Content_Type=SDP, **BEARER)
        assert answer.status == 201
        first = re.search(number, answer.body)
        assert first is not None
        found = re.search(name.format(first[1]), answer.body)
        assert found is not None
        assert found[1] == expected
        assert ask(panel, "DELETE", answer.headers["location"], **BEARER).status == 200


def test_the_picture_by_whep_is_larger_than_the_pages_and_never_reduced() -> None:
    large, small = yuv_frame(100, (1920, 1080)), yuv_frame(100, (320, 240))

    async def sizes_of(frame: Frame) -> list[tuple[int, int]]:
        preview = PreviewOutput(PreviewSettings())
        found = []
        with preview.viewer("output") as whep, preview.viewer("video") as page:
            preview.offer(replace(live_frame(), frame=frame, original=frame, reduced=True))
            for viewer in (whep, page):
                shown = await asyncio.wait_for(viewer.next(), EVENT_S)
                assert shown is not None
                assert shown.picture is not None
                found.append((shown.picture.width, shown.picture.height))
        preview.close()
        return found

    assert asyncio.run(sizes_of(large)) == [(1280, 720), (480, 270)]
    assert asyncio.run(sizes_of(small)) == [(320, 240), (320, 240)]


def test_a_token_in_the_address_stays_in_that_of_the_session(panel: RunningPanel) -> None:
    async def look() -> None:
        client = Client(panel, "/whep")
        client.peer.addTransceiver("video", direction="recvonly")
        await client.peer.setLocalDescription(await client.peer.createOffer())
        sdp = client.peer.localDescription.sdp
        answer = ask(panel, "POST", f"/whep?token={TOKEN}", sdp, Content_Type=SDP)
        assert answer.status == 201
        assert ask(panel, "DELETE", answer.headers["location"]).status == 200
        await client.peer.close()

    asyncio.run(look())


def test_a_camera_that_is_none_waits_for_what_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    async def send(port: int, token: str) -> None:
        sender = Client(SimpleNamespace(port=port), "/whip", token)
        await sender.send(CountingTrack())
        await until(lambda: sender.peer.connectionState == "closed", "the camera has not ended")

    def look() -> None:
        found = None
        while found is None or "nobody sends" not in "".join(told):  # told once, then it is sent
            told.append(capsys.readouterr().err)
            found = re.search(r"panel: http://127.0.0.1:(\d+)/\?token=(\S+)", "".join(told))
            time.sleep(0.02)
        asyncio.run(send(int(found[1]), found[2]))

    recording = tmp_path / "sent.mp4"
    sending = threading.Thread(target=look)
    sending.start()
    options = ["--no-virtual", "--port", "0", "--emotion", "happy", "--seconds", "6"]
    command = ["camera", "--source", "whip", *options, "--record", str(recording)]
    assert run(command, LiveFake) == 0
    sending.join(EVENT_S)
    said = "".join([*told, capsys.readouterr().err])
    assert "waiting for a picture at http://127.0.0.1:" in said
    assert "nobody sends a picture by WHIP" in said
    with av.open(str(recording)) as video:
        sizes = {(frame.width, frame.height) for frame in video.decode(video=0)}
    assert sizes == {SENT_WH}


def test_a_camera_without_the_panel_waits_for_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["camera", "--source", "whip", "--no-panel", "--emotion", "happy", "--no-virtual"]
    assert run(command, LiveFake) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("rate", "tremble_s", "least", "most"), [(30, 0.012, 60, 60), (60, 0.0, 30, 32)]
)
def test_uneven_frames_are_all_shown_and_too_many_are_not(
    rate: int, tremble_s: float, least: int, most: int
) -> None:
    preview, chance = PreviewOutput(PreviewSettings()), random.Random(0)
    shown = []

    async def look() -> None:
        with preview.viewer("output") as viewer:
            for index in range(60):
                captured_s = 100 + index / rate + chance.uniform(-tremble_s, tremble_s)
                preview._show(live_frame(index, captured_s))
                await asyncio.sleep(0)
                if viewer._there.is_set():
                    shown.append(await viewer.next())

    asyncio.run(look())
    assert least <= len(shown) <= most
