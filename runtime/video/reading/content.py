"""What kind of video a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mien.engines.errors import VideoError
from mien.runtime.video.animation import animation_kind

_HEAD_BYTES: Final = 4096
_BOXES: Final = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp"))
_MOV: Final = (".mov", ".qt", ".mp4", ".m4v")
_MP4: Final = (".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".f4v", ".ismv", ".qt")
_3GP: Final = (".3gp", ".3g2", ".mp4", ".m4v", ".mov")
_MKV: Final = (".mkv", ".mk3d")
_WEBM: Final = (".webm", ".mkv")
_TS: Final = (".ts", ".mts", ".m2ts", ".m2t", ".tp", ".trp")
_MPG: Final = (".mpg", ".mpeg", ".vob", ".m2p", ".mpe")
_PNG: Final = (".png", ".apng")
# Brands of pictures and of sound in the boxes of MP4.
_NO_VIDEO: Final = (
    *(b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"msf1", b"hevc", b"hevx", b"avif"),
    *(b"avis", b"M4A ", b"M4B ", b"crx ", b"jxl ", b"jp2 "),
)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """How a kind of file begins. suffixes: it is known by, the best first."""

    start: bytes
    suffixes: tuple[str, ...]


_BEGINNINGS: Final = (
    _Beginning(b"OggS", (".ogv", ".ogg", ".ogm")),
    _Beginning(b"FLV\x01", (".flv",)),
    _Beginning(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), (".wmv", ".asf")),
    _Beginning(b"\0\0\x01\xba", _MPG),
    _Beginning(b"\0\0\x01\xb3", (".mpg", ".mpeg", ".m2v", ".m1v", ".mpv")),
    _Beginning(bytes.fromhex("060e2b34020501010d010201"), (".mxf",)),
    _Beginning(b"YUV4MPEG2 ", (".y4m",)),
    _Beginning(b"nut/multimedia container", (".nut",)),
    _Beginning(b"DKIF", (".ivf",)),
)


def video_suffixes(path: Path) -> tuple[str, ...]:
    """The suffixes that fit the video in a file, the best first; none for what is not known.

    Raises: VideoError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error
    if head[4:8] in _BOXES:
        return _of_boxes(head)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _WEBM if b"webm" in head[:64] else _MKV
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return (".avi", ".divx")
    if _is_transport(head):
        return _TS
    for known in _BEGINNINGS:
        if head.startswith(known.start):
            return known.suffixes
    kind = animation_kind(path)
    return {"gif": (".gif",), "apng": _PNG}.get(kind or "", ())


def _of_boxes(head: bytes) -> tuple[str, ...]:
    brand = head[8:12] if head[4:8] == b"ftyp" else b"qt  "
    if head[4:8] in (b"moof", b"styp"):
        brand = b"iso6"
    if brand in _NO_VIDEO:
        return ()
    if brand == b"qt  ":
        return _MOV
    return _3GP if brand[:3] in (b"3gp", b"3g2") else _MP4


def _is_transport(head: bytes) -> bool:
    """Whether it begins with two packets of a transport stream, of 188 or 192 bytes."""
    plain = head[:1] == b"G" == head[188:189]
    return plain or head[4:5] == b"G" == head[196:197]


def result_suffix(source: Path) -> str:
    """What the name of a video's result ends in: as its own does, where that fits the file."""
    fitting = video_suffixes(source)
    if not fitting or source.suffix.lower() in fitting:
        return source.suffix
    return fitting[0]
