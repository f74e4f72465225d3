"""Animated GIF and PNG: telling them from stills, how often they play, and a GIF's palettes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from mien.engines.errors import VideoError

Kind = Literal["gif", "apng", "webp"]
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS: Final = 1000  # before the first picture of a PNG
_MAX_BLOCKS: Final = 100_000  # of a GIF, until its second picture
_GIF_LOOP: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
FOREVER: Final = 0


def animation_kind(path: Path) -> Kind | None:
    """Which kind of animated picture a file is, None for a still and for anything else.

    Raises: VideoError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
            if head.startswith(_PNG):
                return "apng" if _apng_plays(file) is not None else None
            if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
                return "webp" if head[20:21] and head[20] & 0x02 else None
            if head.startswith(b"GIF8"):
                return "gif" if _gif_facts(file)[0] > 1 else None
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error
    return None


def check_animation(path: Path, kind: Kind) -> None:
    """Raise VideoError for a kind of animation that cannot be edited."""
    if kind == "webp":
        raise VideoError(
            f"{path} is an animated WebP, which FFmpeg does not decode; "
            "turn it into an APNG or a GIF first, and edit that"
        )


def plays(path: Path) -> int:
    """How often an animated GIF or PNG is shown, `FOREVER` where it does not end."""
    with path.open("rb") as file:
        if file.read(8) == _PNG:
            shown = _apng_plays(file)
            return 1 if shown is None else shown
        return _gif_facts(file)[1]


def container_options(path: Path, kind: str) -> dict[str, str]:
    """Options of the muxer `kind` (`gif`, `apng`) that let its file play as often as the source."""
    if kind not in ("apng", "gif") or animation_kind(path) not in ("apng", "gif"):
        return {}
    if kind == "apng":
        return {"plays": str(min(plays(path), 65535))}
    shown = plays(path)
    # A GIF says how often it begins again: not at all is said by saying nothing.
    return {"loop": str({FOREVER: 0, 1: -1}.get(shown, min(shown - 1, 65535)))}


def _apng_plays(file: BinaryIO) -> int | None:
    """How often a PNG is played, None where it is none that is animated."""
    file.seek(len(_PNG))
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return None
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"acTL":
            body = file.read(8)
            return int.from_bytes(body[4:], "big") if len(body) == 8 else None
        file.seek(size + 4, 1)
    return None


def _gif_facts(file: BinaryIO) -> tuple[int, int]:
    """How many pictures a GIF has, counted up to two, and how often they are shown."""
    file.seek(10)
    packed = file.read(3)
    if len(packed) < 3:
        return 0, 1
    file.seek(_table_bytes(packed[0]), 1)
    pictures, shown = 0, 1
    for _ in range(_MAX_BLOCKS):
        kind = file.read(1)
        if kind == b"!":
            label = file.read(1)
            blocks = list(_sub_blocks(file, 2))
            if label == b"\xff" and len(blocks) > 1 and blocks[0] in _GIF_LOOP:
                again = int.from_bytes(blocks[1][1:3], "little")
                shown = again + 1 if again else FOREVER
        elif kind == b",":
            pictures += 1
            if pictures > 1:
                break
            place = file.read(9)
            file.seek(_table_bytes(place[8]) + 1 if len(place) == 9 else 0, 1)
            list(_sub_blocks(file, 0))
        else:
            break
    return pictures, shown


def _table_bytes(packed: int) -> int:
    return 3 * (2 << (packed & 7)) if packed & 0x80 else 0


def _sub_blocks(file: BinaryIO, wanted: int) -> Iterator[bytes]:
    """The first `wanted` sub-blocks of a GIF's block; the file then stands behind all of them."""
    seen = 0
    while length := file.read(1):
        if not length[0]:
            return
        if seen < wanted:
            yield file.read(length[0])
        else:
            file.seek(length[0], 1)
        seen += 1


class PaletteMaker:
    """Pictures brought to 256 colours, each with a palette of its own."""

    def __init__(self, like: VideoFrame) -> None:
        self._graph = graph = Graph()
        source = graph.add_buffer(
            width=like.width,
            height=like.height,
            format=like.format,
            time_base=like.time_base,
        )
        split, make = graph.add("split"), graph.add("palettegen", "stats_mode=single")
        use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
        source.link_to(split)
        split.link_to(make, 0, 0)
        split.link_to(use, 1, 0)
        make.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()

    def paletted(self, picture: VideoFrame) -> VideoFrame:
        """`picture` as `pal8`, with its own time. Raises: VideoError."""
        try:
            self._graph.vpush(picture)
            made = self._graph.vpull()
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError("a palette for the picture cannot be made") from error
        assert isinstance(made, VideoFrame)
        made.pts, made.duration = picture.pts, picture.duration
        return made
