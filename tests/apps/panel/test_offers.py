"""WebRTC offers: what is taken, what is refused, and that no port opens but the one meant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from mien.apps.panel import webrtc
from mien.apps.panel.ice import plain_address
from mien.apps.panel.offers import MAX_CANDIDATES, MAX_CHARACTERS, parse_sdp
from mien.apps.panel.protocol import ProtocolError
from mien.apps.panel.settings import Limits
from tests.apps.panel.stand_in import EVENT_S, TOKEN, RunningPanel, running_panel

DIGEST = ":".join(["AB"] * 32)
HOST = "a=candidate:1059369062 1 udp 2122194687 "
# As Chromium offers it, with fewer formats.
OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 7055214072834934873 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS",
        "m=video 57933 UDP/TLS/RTP/SAVPF 96 97 98 102 103",
        "c=IN IP4 192.0.2.2",
        "a=rtcp:9 IN IP4 0.0.0.0",
        f"{HOST}ff5eb6bb-1d47-4d79-9d8b-7f2e5ea30b4a.local 57933 typ host generation 0",
        "a=candidate:183018770 1 tcp 1518285567 fd00::2 9 typ host tcptype active generation 0",
        "a=ice-ufrag:OQqm",
        "a=ice-pwd:QZivJMK7+bddP+gzCY1ge7KW",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {DIGEST}",
        "a=setup:actpass",
        "a=mid:0",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:toffset",
        "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        "a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=sendrecv",
        "a=msid:- dff58141-8109-4eac-8401-7d2117d255e0",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 goog-remb",
        "a=rtcp-fb:96 transport-cc",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=rtpmap:98 VP9/90000",
        "a=fmtp:98 profile-id=0",
        "a=rtpmap:102 H264/90000",
        "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
        "a=rtpmap:103 rtx/90000",
        "a=fmtp:103 apt=98",
        "a=ssrc-group:FID 3717247541 4120668778",
        "a=ssrc:3717247541 cname:yQP2Y0pYZPX4M5DZ",
        "a=ssrc:4120668778 cname:yQP2Y0pYZPX4M5DZ",
        "",
    ]
)
AUDIO = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=rtpmap:111 opus/48000/2\r\na=sendrecv\r\n"
    f"a=ice-ufrag:OQqm\r\na=ice-pwd:QZivJMK7+bddP+gzCY1ge7KW\r\na=setup:actpass\r\n"
    f"a=fingerprint:sha-256 {DIGEST}\r\na=rtcp-mux\r\n"
)
DATA = AUDIO.replace(
    "audio 9 UDP/TLS/RTP/SAVPF 111", "application 9 UDP/DTLS/SCTP webrtc-datachannel"
)


def _without(name: str) -> str:
    return "".join(
        line for line in OFFER.splitlines(keepends=True) if not line.startswith(f"a={name}")
    )


def _with(*lines: str) -> str:
    return OFFER + "".join(f"{line}\r\n" for line in lines)


# Offers that are answered; what is odd about them is ignored.
ODD = {
    "as-it-is": OFFER,
    "lines-end-with-newlines": OFFER.replace("\r\n", "\n"),
    "two-blanks": _with("a=candidate:1  1 udp 2113937151 x.local 59735 typ host"),
    "two-blanks-before-the-address": _with("a=candidate:1 1 udp 1  x.local 59735 typ host"),
    "two-blanks-all-over": _with("a=candidate:1  1  udp  1  x.local  59735  typ  host"),
    "upper-case-name": _with(f"{HOST}X.LOCAL 59735 typ host"),
    "name": _with(f"{HOST}localhost 59735 typ host"),
    "huge-port": _with(f"{HOST}127.0.0.1 99999 typ host"),
    "longest-port": _with(f"{HOST}127.0.0.1 {'9' * 400} typ host"),
    "negative-port": _with(f"{HOST}127.0.0.1 -1 typ host"),
    "port-of-a-service": _with(f"{HOST}127.0.0.1 53 typ host"),
    "scope-id": _with(f"{HOST}fe80::1%lo 59735 typ host"),
    "everywhere": _with(f"{HOST}0.0.0.0 59735 typ host", f"{HOST}255.255.255.255 59735 typ host"),
    "many-hosts": _with(*(f"{HOST}224.0.0.{n} 5353 typ host" for n in range(200))),
    "relayed": _with("a=candidate:1 1 udp 1 192.0.2.9 59735 typ relay raddr x.local rport 9"),
    "reflexive": _with("a=candidate:1 1 udp 1 192.0.2.9 59735 typ srflx raddr 0.0.0.0 rport 9"),
    "second-component": _with("a=candidate:1 2 udp 1 127.0.0.1 59735 typ host"),
    "cut-short": _with("a=candidate:1 1 udp"),
    "no-candidate": _without("candidate"),
    "end-of-candidates": _with("a=end-of-candidates"),
    "end-and-no-candidate": _without("candidate") + "a=end-of-candidates\r\n",
    "data-attributes": _with("a=sctp-port:5000", "a=sctpmap:5000 webrtc-datachannel 1024"),
}  # fmt: skip
# Offers that are refused.
WRONG = {
    "data-channel": OFFER + DATA,
    "bundled-data-channel": (OFFER + DATA).replace("BUNDLE 0", "BUNDLE 0 1"),
    "data-channel-first": OFFER.replace("m=video", DATA + "m=video"),
    "data-channel-alone": OFFER[: OFFER.index("m=video")] + DATA,
    "audio": OFFER + AUDIO,
    "bundled-audio": (OFFER + AUDIO).replace("BUNDLE 0", "BUNDLE 0 1"),
    "audio-alone": OFFER[: OFFER.index("m=video")] + AUDIO,
    "two-videos": OFFER + OFFER[OFFER.index("m=video") :],
    "twenty-videos": OFFER + 20 * OFFER[OFFER.index("m=video") :].replace("mid:0", "mid:1"),
    "no-bundle": _without("group"),
    "empty-bundle": OFFER.replace("BUNDLE 0", "BUNDLE"),
    "bundle-of-another": OFFER.replace("BUNDLE 0", "BUNDLE 1"),
    "two-bundles": OFFER.replace("a=group:BUNDLE 0", "a=group:BUNDLE 0\r\na=group:BUNDLE 1"),
    "no-part": OFFER[: OFFER.index("m=video")],
    "no-mid": _without("mid"),
    "two-mids": _with("a=mid:1"),
    "no-fingerprint": _without("fingerprint"),
    "damaged-fingerprint": OFFER.replace(DIGEST, DIGEST[:-1]),
    "weak-fingerprint": OFFER.replace("sha-256", "md5"),
    "no-password": _without("ice-pwd"),
    "short-password": OFFER.replace("QZivJMK7+bddP+gzCY1ge7KW", "short"),
    "no-user": _without("ice-ufrag"),
    "no-setup": _without("setup"),
    "setup-of-a-server": OFFER.replace("setup:actpass", "setup:passive"),
    "ice-lite": OFFER.replace("a=group", "a=ice-lite\r\na=group"),
    "no-rtcp-mux": _without("rtcp-mux"),
    "keys-in-the-open": _with("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:xyz"),
    "plain-rtp": OFFER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
    "over-tcp": OFFER.replace("UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF"),
    "no-direction": _without("sendrecv"),
    "inactive": OFFER.replace("a=sendrecv", "a=inactive"),
    "two-directions": _with("a=recvonly"),
    "no-codec-of-ours": OFFER.replace("VP8", "XX").replace("H264", "YY"),
    "format-without-name": _without("rtpmap:98"),
    "format-twice": OFFER.replace(" 96 97 ", " 96 96 97 "),
    "format-of-rtcp": OFFER.replace("96", "72"),
    "format-too-large": OFFER.replace("96", "256"),
    "three-sources": _with("a=ssrc:1 cname:x"),
    "source-too-large": OFFER.replace("4120668778", "9999999999"),
    "tab": _with("a=candidate:1\t1 udp 1 x.local 59735 typ host"),
    "no-break-space": _with(f"{HOST}\u00a0x.local 59735 typ host"),
    "line-separator": _with(f"a=x\u2028{HOST}x.local 59735 typ host"),
    "form-feed": _with(f"a=x\x0c{HOST}x.local 59735 typ host"),
    "lone-carriage-return": _with(f"a=x\r{HOST}x.local 59735 typ host"),
    "zero": _with("a=x\x00"),
    "not-sdp": _with("hello"),
    "empty-line": OFFER.replace("a=mid", "\r\na=mid"),
    "empty": "",
    "only-newlines": "\n" * 100,
    "too-long": _with(*(f"a=x:{'x' * 900}" for _ in range(MAX_CHARACTERS // 900 + 1))),
    "too-many-lines": OFFER + "a=x\n" * 1001,
}


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPanel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webrtc, "CONNECT_S", 0.3)
        patch.setattr(webrtc, "_OFFERS_A_SECOND", 100.0)
        with running_panel(tmp_path_factory.mktemp("panel")) as panel:
            yield panel


def _post(panel: RunningPanel, sdp: str, *, camera: bool = False) -> tuple[int, dict[str, str]]:
    body = json.dumps({"type": "offer", "sdp": sdp, "camera": camera}).encode()
    status, answer = panel.request("POST", f"/offer?token={TOKEN}", body)
    return status, json.loads(answer)


def _ports() -> list[tuple[str, int]]:
    """Where this process, and so the panel, listens by UDP."""
    return [tuple(one.laddr) for one in psutil.Process().net_connections("udp")]


@contextlib.contextmanager
def _watched_ports() -> Iterator[set[tuple[str, int]]]:
    """Every port that is open at some time meanwhile."""
    seen: set[tuple[str, int]] = set()
    ended = threading.Event()

    def watch() -> None:
        while True:
            seen.update(_ports())
            if ended.wait(0.01):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
        seen.update(_ports())


def _wait_for_ports(count: int) -> None:
    end_s = time.monotonic() + EVENT_S
    while len(_ports()) != count:
        assert time.monotonic() < end_s, f"still open: {_ports()}"
        time.sleep(0.05)


@pytest.mark.parametrize("camera", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_odd_offers_open_one_port_of_the_loopback_and_no_other(
    panel: RunningPanel, name: str, camera: bool
) -> None:
    _wait_for_ports(0)
    with _watched_ports() as seen:  # a busy machine may answer after the port is closed again
        status, answer = _post(panel, ODD[name], camera=camera)
    opened = sorted(seen)
    assert status == 200, answer
    assert len(opened) == 1
    assert opened[0][0] == "127.0.0.1"
    candidates = [line for line in answer["sdp"].splitlines() if line.startswith("a=candidate")]
    assert [line.split()[4:6] for line in candidates] == [["127.0.0.1", str(opened[0][1])]]
    assert "m=application" not in answer["sdp"]
    assert ("a=sendrecv" if camera else "a=sendonly") in answer["sdp"].splitlines()
    _wait_for_ports(0)  # nobody came, and so it is closed


@pytest.mark.parametrize("name", WRONG)
def test_offers_of_something_else_are_refused_and_open_nothing(
    panel: RunningPanel, name: str
) -> None:
    _wait_for_ports(0)
    status, answer = _post(panel, WRONG[name])
    assert _ports() == []
    assert status == 400
    assert answer["error"].startswith("this is not an offer for WebRTC")
    assert "\n" not in answer["error"]


def test_ten_thousand_candidates_are_too_large(panel: RunningPanel) -> None:
    offer = _with(*(f"{HOST}127.0.0.1 {n} typ host" for n in range(10_000, 20_000)))
    body = json.dumps({"type": "offer", "sdp": offer}).encode()
    try:
        status, _ = panel.request("POST", f"/offer?token={TOKEN}", body)
    except (ConnectionResetError, BrokenPipeError):
        status = 413  # refused while it was still being sent
    assert status == 413
    assert _ports() == []


def test_camera_is_refused_where_no_video_is_sent(panel: RunningPanel) -> None:
    offer = OFFER.replace("a=sendrecv", "a=recvonly")
    assert _post(panel, offer, camera=True)[0] == 400
    assert _post(panel, offer)[0] == 200
    _wait_for_ports(0)


def test_browsers_that_never_come_have_no_more_than_their_places(
    panel: RunningPanel, tmp_path: Path
) -> None:
    _wait_for_ports(0)
    most = Limits().videos
    with pytest.MonkeyPatch.context() as patch, running_panel(tmp_path) as crowded:
        patch.setattr(webrtc, "CONNECT_S", EVENT_S)
        statuses = [_post(crowded, OFFER)[0] for _ in range(most + 3)]
        assert statuses == [200] * most + [503] * 3
        assert len(_ports()) == most
        time.sleep(webrtc.COMING_S)
        assert _post(crowded, OFFER)[0] == 200  # who waits longest without coming makes room
        _wait_for_ports(most)
        assert {address for address, _ in _ports()} == {"127.0.0.1"}
        assert crowded.get(f"/frame.jpg?token={TOKEN}")[0] == 200
    _wait_for_ports(0)


def test_what_is_written_is_what_was_read_and_nothing_else() -> None:
    offer = parse_sdp(ODD["many-hosts"])
    written = offer.sdp(with_camera=True, client="127.0.0.1")
    assert parse_sdp(written).codecs == offer.codecs
    assert [(codec.number, codec.name) for codec in offer.codecs] == [
        (96, "VP8"),
        (97, "rtx"),
        (102, "H264"),
    ]
    assert offer.sources == (3717247541, 4120668778)
    assert "candidate" not in written
    for word in ("transport-cc", "VP9", "msid", "toffset", "5353", ".local", "yQP2"):
        assert word not in written


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7"])
def test_another_machine_is_looked_for_where_it_asks_from_and_nowhere_else(client: str) -> None:
    ports = [*range(40_000, 40_020), 53, 1023, 65_535, 65_536]
    offer = parse_sdp(
        _without("candidate") + "".join(f"{HOST}10.0.0.1 {p} typ host\r\n" for p in ports)
    )
    lines = offer.sdp(with_camera=False, client=client).splitlines()
    candidates = [line.split() for line in lines if line.startswith("a=candidate")]
    assert len(candidates) == MAX_CANDIDATES
    assert {candidate[4] for candidate in candidates} == {client}
    assert [int(candidate[5]) for candidate in candidates] == ports[:MAX_CANDIDATES]


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
    ],
)
def test_addresses_of_http_are_those_of_webrtc(address: str, plain: str) -> None:
    assert plain_address(address) == plain


MUTATIONS: list[Callable[[list[str], int], list[str]]] = [
    lambda lines, n: lines[:n] + lines[n + 1 :],
    lambda lines, n: lines[: n + 1] + lines[n:],
    lambda lines, n: [*lines[:n], lines[n].replace(" ", "  "), *lines[n + 1 :]],
    lambda lines, n: [*lines[:n], lines[n][: len(lines[n]) // 2], *lines[n + 1 :]],
    lambda lines, n: [*lines[:n], lines[n] + "9" * 500, *lines[n + 1 :]],
    lambda lines, n: [*lines[:n], lines[n].replace(":", ":-", 1), *lines[n + 1 :]],
]


def test_each_line_may_be_missing_doubled_or_damaged() -> None:
    lines = OFFER.splitlines()
    for mutate in MUTATIONS:
        for number in range(len(lines)):
            sdp = "\r\n".join(mutate(lines, number)) + "\r\n"
            try:
                written = parse_sdp(sdp).sdp(with_camera=True, client="127.0.0.1")
            except ProtocolError:
                continue
            asyncio.run(_is_taken_by_aiortc(written))


async def _is_taken_by_aiortc(sdp: str) -> None:
    """Check that what was read is an offer, whatever it was read from."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        assert len(peer.getTransceivers()) == 1
        assert peer.sctp is None
    finally:
        await peer.close()


@pytest.mark.skipif(
    os.name != "posix", reason="the listening sockets of a process are told by /proc"
)
def test_webrtc_asks_nobody_outside(panel: RunningPanel) -> None:
    _wait_for_ports(0)
    assert _post(panel, OFFER)[0] == 200
    outside = [
        one
        for one in psutil.Process().net_connections("inet")
        if one.raddr and one.raddr.ip not in ("127.0.0.1", "::1")
    ]
    assert outside == []
    _wait_for_ports(0)
