"""A WebRTC offer: read strictly, and written again from what was read.

What the panel's page offers is taken, and nothing else: one video, in a bundle of its own, over
DTLS; beside it, what comes by WHIP or WHEP may have one sound. Whatever else an offer says would
make aiortc do more than is asked for here: each part outside the bundle opens ports of its own,
and a candidate with a name asks the network for it.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from mien.apps.panel.protocol import ProtocolError

MAX_CHARACTERS: Final = 32 * 1024  # Chromium's offer has some 6,000
MAX_LINES: Final = 1000
MAX_CANDIDATES: Final = 8
_FORMATS: Final = 64
_EXTENSIONS: Final = (
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",  # for the camera's bit rate
)
_FEEDBACK: Final = ("nack", "nack pli", "goog-remb")
_DIGEST_BYTES: Final[Mapping[str, int]] = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_LINE: Final = re.compile(r"[a-z]=[ -~]*")
_MEDIA: Final = re.compile(r"video \d{1,5} UDP/TLS/RTP/SAVPF((?: \d{1,3})+)")
_MID: Final = re.compile(r"[\w{}.+-]{1,40}", re.ASCII)
_USER: Final = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD: Final = re.compile(r"[A-Za-z0-9+/]{22,256}")
_PRINT: Final = re.compile(r"[0-9A-F]{2}(?::[0-9A-F]{2})*")
_SOUND: Final = re.compile(r"audio \d{1,5} UDP/TLS/RTP/SAVPF((?: \d{1,3})+)")
_MAPPED: Final = re.compile(r"(VP8|H264|RTX)/90000", re.IGNORECASE)
_SOUNDS: Final[Mapping[str, re.Pattern[str]]] = {
    "opus/48000/2": re.compile(r"opus/48000(?:/2)?", re.IGNORECASE),  # GStreamer leaves the 2 out
    "PCMU/8000": re.compile(r"PCMU/8000(?:/1)?", re.IGNORECASE),
    "PCMA/8000": re.compile(r"PCMA/8000(?:/1)?", re.IGNORECASE),
}
_NUMBERED: Final = re.compile(r"(\d{1,3}) ([ -~]+)")
_EXTENSION: Final = re.compile(r"(\d{1,3})(?:/[a-z]+)? ([!-~]+)(?: [ -~]*)?")
_SOURCE: Final = re.compile(r"(\d{1,10}) [ -~]+")
_CANDIDATE: Final = re.compile(
    r"[!-~]+ 1 udp \d{1,10} ([!-~]+) (\d{1,5}) typ host(?: [ -~]*)?", re.IGNORECASE
)
# What holds for the whole bundle: said of the session, or of its first part (RFC 9143, 7.1.3).
_OF_SESSION: Final = ("ice-ufrag", "ice-pwd", "fingerprint", "setup", "ice-lite", "group")
_OF_BUNDLE: Final = (*_OF_SESSION[:-1], "rtcp-mux")
Direction = Literal["sendrecv", "recvonly", "sendonly", "inactive"]
_DIRECTIONS: Final[tuple[Direction, ...]] = ("sendrecv", "recvonly", "sendonly", "inactive")
_NAMES: Final[Mapping[str, str]] = {"VP8": "VP8", "H264": "H264", "RTX": "rtx"}
# What decoders are told; a number or six hexadecimal digits each.
_PARAMETERS: Final[Mapping[str, re.Pattern[str]]] = {
    "apt": re.compile(r"\d{1,3}"),
    "level-asymmetry-allowed": re.compile(r"[01]"),
    "packetization-mode": re.compile(r"[012]"),
    "profile-level-id": re.compile(r"[0-9A-Fa-f]{6}"),
}


@dataclass(frozen=True, slots=True)
class Codec:
    """A format of the video.

    name: `VP8`, `H264`, or `rtx`: packets of the format that its parameter `apt` names, sent again.
    """

    number: int
    name: str
    parameters: tuple[tuple[str, str], ...]
    feedback: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The codec in SDP."""
        yield f"a=rtpmap:{self.number} {self.name}/90000"
        for feedback in self.feedback:
            yield f"a=rtcp-fb:{self.number} {feedback}"
        if self.parameters:
            text = ";".join(f"{name}={value}" for name, value in self.parameters)
            yield f"a=fmtp:{self.number} {text}"


@dataclass(frozen=True, slots=True)
class Use:
    """What an offer is for.

    directions: that the video may have. with_sound: whether a sound may come beside it.
    """

    directions: tuple[Direction, ...]
    with_sound: bool = True


PAGE: Final = Use(("sendrecv", "recvonly"), with_sound=False)
WHIP: Final = Use(("sendonly", "sendrecv"))
WHEP: Final = Use(("recvonly", "sendrecv"))


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound beside the video.

    number, name: of its format, such as `opus/48000/2`. is_first: whether it comes before.
    """

    mid: str
    number: int
    name: str
    is_first: bool


@dataclass(frozen=True, slots=True)
class VideoOffer:
    """What an offer says.

    sends: whether there is video to come from the other side. fingerprints: hash and digest of the
    other side's certificate. extensions: number and URI of headers. sources: SSRCs of the video and
    of what is sent again. ports: of UDP, that the other side listens at. hosts: the IPv4 addresses
    that it says it has.
    """

    mid: str
    user: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]
    setup: str
    sends: bool
    codecs: tuple[Codec, ...]
    extensions: tuple[tuple[int, str], ...]
    sources: tuple[int, ...]
    ports: tuple[int, ...]
    hosts: tuple[str, ...] = ()
    sound: Sound | None = None

    def sdp(self, *, with_camera: bool, client: str, with_picture: bool = True) -> str:
        """The offer in SDP.

        with_camera: the other side's video is taken. with_picture: it gets a picture from here.
        client: the other side's address. From this machine it finds us by itself, and nobody needs
        to look for it; elsewhere a packet from here may open its way through a firewall.
        """
        taken: Direction = "sendrecv" if with_picture else "sendonly"
        direction = taken if with_camera else "recvonly"
        return "\r\n".join(self._lines(direction, client)) + "\r\n"

    def _lines(self, direction: Direction, client: str) -> Iterator[str]:
        parts = [(self.mid, list(self._video(direction, client)))]
        if self.sound is not None:
            lines = list(self._sound(self.sound, direction, client))
            parts.insert(0 if self.sound.is_first else 1, (self.sound.mid, lines))
        yield from ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "t=0 0")
        yield f"a=group:BUNDLE {' '.join(mid for mid, _ in parts)}"
        for _, lines in parts:
            yield from lines

    def _sound(self, sound: Sound, direction: Direction, client: str) -> Iterator[str]:
        yield f"m=audio 9 UDP/TLS/RTP/SAVPF {sound.number}"
        yield from self._transport(sound.mid, direction, client)
        yield f"a=rtpmap:{sound.number} {sound.name}"

    def _video(self, direction: Direction, client: str) -> Iterator[str]:
        yield f"m=video 9 UDP/TLS/RTP/SAVPF {' '.join(str(codec.number) for codec in self.codecs)}"
        yield from self._transport(self.mid, direction, client)
        for number, uri in self.extensions:
            yield f"a=extmap:{number} {uri}"
        for codec in self.codecs:
            yield from codec.lines()
        if direction != "recvonly":
            if len(self.sources) == 2:
                yield f"a=ssrc-group:FID {self.sources[0]} {self.sources[1]}"
            for source in self.sources:
                yield f"a=ssrc:{source} cname:browser"

    def _transport(self, mid: str, direction: Direction, client: str) -> Iterator[str]:
        """What all parts of the bundle say."""
        yield "c=IN IP4 0.0.0.0"
        yield "a=rtcp:9 IN IP4 0.0.0.0"
        yield f"a=mid:{mid}"
        yield f"a={direction}"
        yield from ("a=rtcp-mux", "a=rtcp-rsize")
        if not ipaddress.ip_address(client).is_loopback:
            for number, port in enumerate(self.ports, start=1):
                yield f"a=candidate:{number} 1 udp {2**31 - number} {client} {port} typ host"
        yield f"a=ice-ufrag:{self.user}"
        yield f"a=ice-pwd:{self.password}"
        for name, digest in self.fingerprints:
            yield f"a=fingerprint:{name} {digest}"
        yield f"a=setup:{self.setup}"


def parse_sdp(sdp: str, use: Use = PAGE) -> VideoOffer:
    """The offer of the panel's page, or of what `use` is for. Raises ProtocolError otherwise."""
    session, parts = _sections(sdp, 2 if use.with_sound else 1)
    is_first = len(parts) > 1 and parts[0][0].startswith("m=audio")
    media, others = parts[is_first], [part for part in parts if part is not parts[is_first]]
    values, common = _attributes(media[1:]), _attributes(session)
    for name in _OF_SESSION:  # what holds for all parts holds for this one
        if name in common:
            values.setdefault(name, common[name])
    if others:
        tagged = _attributes(parts[0][1:])
        for name in _OF_BUNDLE:
            if name in tagged:
                values.setdefault(name, tagged[name])
        values["candidate"] = [c for part in parts for c in _attributes(part).get("candidate", [])]
    mid = _only(values, "mid", _MID)
    sound = _sound_of(others[0], is_first=is_first) if others else None
    _check_bundle(values, [mid] if sound is None else [mid, sound.mid], use)
    if "rtcp-mux" not in values or "ice-lite" in values or "crypto" in values:
        raise _refused("no browser offers that")
    directions = [name for name in _DIRECTIONS if name in values]
    if len(directions) != 1 or directions[0] not in use.directions:
        what = "does not ask for the picture" if "recvonly" in use.directions else "sends no video"
        raise _refused(f"it {what}")
    return VideoOffer(
        mid=mid,
        user=_only(values, "ice-ufrag", _USER),
        password=_only(values, "ice-pwd", _PASSWORD),
        fingerprints=_fingerprints(values.get("fingerprint", [])),
        setup=_only(values, "setup", re.compile("actpass|active")),
        sends=directions != ["recvonly"],
        codecs=_codecs(media[0], values),
        extensions=_extensions(values.get("extmap", [])),
        sources=_sources(values.get("ssrc", [])),
        ports=_ports(values.get("candidate", [])),
        hosts=_hosts(values.get("candidate", [])),
        sound=sound,
    )


def parse_fragment(fragment: str) -> tuple[tuple[str, str] | None, tuple[int, ...]]:
    """What a fragment of SDP adds to an offer: the ICE user and password it is for, and ports.

    None where it names none. Source: RFC 8840, section 9; RFC 9725, section 4.3.2.
    Raises ProtocolError for anything else.
    """
    given = _attributes(_lines_of(fragment))
    values = {name: list(dict.fromkeys(texts)) for name, texts in given.items()}  # of each part
    is_named = "ice-ufrag" in values or "ice-pwd" in values
    if not is_named and "candidate" not in values and "end-of-candidates" not in values:
        raise _refused("the fragment has neither candidates nor an ICE user")
    named = None
    if is_named:
        named = _only(values, "ice-ufrag", _USER), _only(values, "ice-pwd", _PASSWORD)
    return named, _ports(values.get("candidate", []))


def _check_bundle(values: Mapping[str, list[str]], mids: Sequence[str], use: Use) -> None:
    groups = [text for text in values.get("group", []) if text.startswith("BUNDLE")]
    if not groups and use.with_sound and len(mids) == 1:  # by WHIP and WHEP one part needs none
        return
    if (
        len(groups) != 1
        or sorted(groups[0].split()[1:]) != sorted(mids)
        or len(set(mids)) != len(mids)
    ):
        raise _refused("it has no bundle of the video alone")


def _sound_of(part: Sequence[str], *, is_first: bool) -> Sound:
    """The sound beside a video, in a format that all of WebRTC has (RFC 7874)."""
    matched = _SOUND.fullmatch(part[0][2:])
    values = _attributes(part[1:])
    if matched is None:
        raise _refused("its other part is no sound over DTLS")
    mapped = _numbered(values.get("rtpmap", []))
    for number in (int(text) for text in matched[1].split()):
        for name, pattern in _SOUNDS.items():
            if number < 128 and any(map(pattern.fullmatch, mapped.get(number, []))):
                return Sound(_only(values, "mid", _MID), number, name, is_first)
    raise _refused("its sound is neither Opus nor G.711")


def _refused(why: str) -> ProtocolError:
    return ProtocolError(f"this is not an offer for WebRTC: {why}")


def _lines_of(sdp: str) -> list[str]:
    if len(sdp) > MAX_CHARACTERS:
        raise _refused(f"it has {len(sdp)} characters, more than {MAX_CHARACTERS}")
    lines = sdp.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(lines) > MAX_LINES:
        raise _refused(f"it has {len(lines)} lines, more than {MAX_LINES}")
    if not all(_LINE.fullmatch(line) for line in lines):
        raise _refused("it has lines that are not SDP")
    return lines


def _sections(sdp: str, most: int) -> tuple[list[str], list[list[str]]]:
    """The lines of the session, and of each part: one video, and `most` parts in all."""
    lines = _lines_of(sdp)
    starts = [number for number, line in enumerate(lines) if line.startswith("m=")]
    parts = [lines[start:end] for start, end in pairwise([*starts, len(lines)])]
    if not 1 <= len(parts) <= most:
        wanted = "one video" if most == 1 else "one video and perhaps its sound"
        raise _refused(f"it has {len(parts)} parts, not {wanted}")
    return lines[: starts[0]], parts


def _attributes(lines: Sequence[str]) -> dict[str, list[str]]:
    """The values of each attribute; of one without a value, an empty one."""
    values = defaultdict(list)
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            values[name].append(value)
    return dict(values)


def _only(values: Mapping[str, list[str]], name: str, pattern: re.Pattern[str]) -> str:
    given = values.get(name, [])
    if len(given) != 1 or not pattern.fullmatch(given[0]):
        raise _refused(f"it needs one valid {name}")
    return given[0]


def _fingerprints(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for value in given[:8]:
        name, _, digest = value.partition(" ")
        name, digest = name.lower(), digest.upper()
        if name not in _DIGEST_BYTES:
            continue
        if len(digest) != 3 * _DIGEST_BYTES[name] - 1 or not _PRINT.fullmatch(digest):
            raise _refused("its fingerprint is damaged")
        found.append((name, digest))
    if not found:
        raise _refused("it has no fingerprint")
    return tuple(found)


def _codecs(media: str, values: Mapping[str, list[str]]) -> tuple[Codec, ...]:
    """The codecs that the panel has too, in the order of the offer."""
    matched = _MEDIA.fullmatch(media[2:])
    if matched is None:
        raise _refused("its part is not video over DTLS")
    numbers = [int(number) for number in matched[1].split()]
    mapped = _numbered(values.get("rtpmap", []))
    is_sound = len(set(numbers)) == len(numbers) <= _FORMATS and all(
        number in mapped and len(mapped[number]) == 1 and (number < 64 or 96 <= number <= 127)
        for number in numbers
    )
    if not is_sound:
        raise _refused("its formats are damaged")
    parameters, feedback = _numbered(values.get("fmtp", [])), _numbered(values.get("rtcp-fb", []))
    found = [
        Codec(
            number,
            _NAMES[name[1].upper()],
            _parameters(parameters.get(number, [])),
            tuple(text for text in _FEEDBACK if text in feedback.get(number, [])),
        )
        for number in numbers
        if (name := _MAPPED.fullmatch(mapped[number][0]))
    ]
    pictures = {str(codec.number) for codec in found if codec.name != "rtx"}
    if not pictures:
        raise _refused("it has neither VP8 nor H264")
    return tuple(
        codec
        for codec in found
        if codec.name != "rtx" or dict(codec.parameters).get("apt") in pictures
    )


def _numbered(given: Sequence[str]) -> dict[int, list[str]]:
    """What is said of each format, by its number."""
    found = defaultdict(list)
    for value in given:
        if matched := _NUMBERED.fullmatch(value):
            found[int(matched[1])].append(matched[2])
    return found


def _parameters(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = (part.strip().partition("=") for part in ";".join(given).split(";"))
    found = {
        name: value
        for name, _, value in pairs
        if name in _PARAMETERS and _PARAMETERS[name].fullmatch(value)
    }
    return tuple(found.items())


def _extensions(given: Sequence[str]) -> tuple[tuple[int, str], ...]:
    matched = [match for value in given if (match := _EXTENSION.fullmatch(value))]
    found = {match[2]: int(match[1]) for match in matched if match[2] in _EXTENSIONS}
    return tuple((number, uri) for uri, number in found.items() if 1 <= number <= 14)


def _sources(given: Sequence[str]) -> tuple[int, ...]:
    matched = [match for value in given if (match := _SOURCE.fullmatch(value))]
    found = list(dict.fromkeys(int(match[1]) for match in matched))
    if len(found) > 2 or any(source >= 2**32 for source in found):
        raise _refused("it has more than one video")
    return tuple(found)


def _ports(given: Sequence[str]) -> tuple[int, ...]:
    """The ports of candidates. The other side is where it asks from, whatever they say."""
    matched = [match for value in given if (match := _CANDIDATE.fullmatch(value))]
    found = dict.fromkeys(int(match[2]) for match in matched)
    return tuple(port for port in found if 1024 <= port <= 65535)[:MAX_CANDIDATES]


def _hosts(given: Sequence[str]) -> tuple[str, ...]:
    """The IPv4 addresses of candidates that a machine in a network can have."""
    matched = [match for value in given if (match := _CANDIDATE.fullmatch(value))]
    found = dict.fromkeys(match[1] for match in matched if _is_host(match[1]))
    return tuple(found)[:MAX_CANDIDATES]


def _is_host(address: str) -> bool:
    try:
        ip = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return not (ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local)
