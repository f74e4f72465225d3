"""What a container says of a whole stream beside its samples: cropping, stereo, sphere, HDR.

PyAV has no names for it; the lines that FFmpeg prints about a stream have, when it is verbose.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, cast

import av
import av.error
from av.codec import CodecContext
from av.container import InputContainer, OutputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from mien.engines.errors import VideoError
from mien.runtime.video.planes import side_data
from mien.runtime.video.reading.source import open_input

_CHROMA_LOCATION: Final = re.compile(r"[(, ](topleft|bottomleft|left|center|top|bottom)[,)]")
_HEADING: Final = "Side data:"
# As FFmpeg names them, and as they are named to people.
_NAMES: Final = {
    "Frame Cropping": "the cropping",
    "Stereo 3D": "the arrangement of the two views (stereo 3D)",
    "Spherical Mapping": "the mapping of the sphere (360 degrees)",
    "Mastering display metadata": "the mastering display (HDR)",
    "Content light level metadata": "the content light level (HDR)",
    "Ambient viewing environment": "the ambient viewing environment (HDR)",
    "DOVI configuration record": "Dolby Vision",
    "ICC Profile": "the ICC profile",
    "3D Reference Displays Information": "the reference displays (stereo 3D)",
    "HEVC alpha": "the layer of transparency",
}
# What is made again with the packets, or is handed over in another way.
_OTHERWISE: Final = ("CPB properties", "cpb", "Display Matrix", "displaymatrix")
_DESCRIBED: Final = (
    "width",
    "height",
    "pix_fmt",
    "level",
    "sample_aspect_ratio",
    "color_range",
    "colorspace",
    "color_primaries",
    "color_trc",
    "framerate",
    "field_order",  # PyAV 18 and later
    "codec_tag",
)
DOLBY_VISION: Final = "DOVI configuration record"
_IN_FRAMES: Final = {
    "Stereo 3D": SideDataType.STEREO3D,
    "Spherical Mapping": SideDataType.SPHERICAL,
    "Mastering display metadata": SideDataType.MASTERING_DISPLAY_METADATA,
    "Content light level metadata": SideDataType.CONTENT_LIGHT_LEVEL,
    "Ambient viewing environment": SideDataType.AMBIENT_VIEWING_ENVIRONMENT,
    "ICC Profile": SideDataType.ICC_PROFILE,
}


def _lines(container: InputContainer, stream: Stream) -> list[str]:
    """What FFmpeg prints about a stream: its own line first, then those below it."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.VERBOSE)
    av.logging.set_libav_level(av.logging.VERBOSE)
    try:
        text = str(cast("Any", container).dumps_format())  # not in the stubs
    finally:
        av.logging.set_level(level)
        av.logging.set_libav_level(av.logging.INFO)  # FFmpeg's own default
    start = f"Stream #0:{stream.index}"
    found: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith((f"{start}[", f"{start}(", f"{start}:")):
            found.append(stripped)
        elif stripped.startswith("Stream #") and found:
            break
        elif found:
            found.append(stripped)
    return found


def chroma_location(container: InputContainer, stream: Stream) -> str | None:
    """Where the chroma samples lie, as FFmpeg names it, None where the stream does not say."""
    lines = _lines(container, stream)
    match = _CHROMA_LOCATION.search(lines[0]) if lines else None
    return match.group(1) if match else None


def stream_side_data(container: InputContainer, stream: Stream) -> dict[str, str]:
    """What the container says of the stream, by FFmpeg's names for it."""
    lines = _lines(container, stream)
    if _HEADING not in lines:
        return {}
    below = lines[lines.index(_HEADING) + 1 :]
    facts = [line.partition(":") for line in below if line]
    # The first word after the name of some stands before any colon.
    named = {_known(name): value.strip() for name, _, value in facts}
    return {
        name: value
        for name, value in named.items()
        if not name.startswith(_OTHERWISE) and not value.startswith("2D,")  # no stereo at all
    }


def _known(name: str) -> str:
    """FFmpeg's name of side data, written as here."""
    lowered = name.strip().lower()
    return next((known for known in _NAMES if lowered.startswith(known.lower())), name.strip())


def add_stream_like(
    output: OutputContainer, source: VideoStream, encoder: VideoCodecContext
) -> VideoStream:
    """A stream of `output` with what its source's container says of it, for an encoder's packets.

    The source has to be of the encoder's codec. PyAV lets nothing of this be set, but it hands it
    on where a stream is copied; so the stream is one that is copied, and then described again.
    Called once the encoder is open.
    """
    stream = output.add_stream_from_template(source, opaque=True)
    context = stream.codec_context
    for name in _DESCRIBED:
        if hasattr(encoder, name) and getattr(encoder, name) is not None:
            setattr(context, name, getattr(encoder, name))
    context.bit_rate = encoder.bit_rate or 0
    context.extradata = encoder.extradata
    stream.time_base = encoder.time_base
    return stream


def new_encoder(name: str) -> VideoCodecContext:
    """An encoder that belongs to no stream."""
    return cast("VideoCodecContext", CodecContext.create(name, "w"))


def lost_side_data(wanted: Collection[str], written: Path, index: int) -> list[str]:
    """Those of FFmpeg's names that a finished file says nothing of, neither it nor its frames."""
    try:
        with open_input(written) as again:
            stream = again.streams[index]
            kept = set(stream_side_data(again, stream))
            missing = [name for name in wanted if name not in kept]
            if any(name in _IN_FRAMES for name in missing):
                first = next(again.decode(stream), None)
                missing = [name for name in missing if not _is_in(first, name)]
    except (VideoError, av.error.FFmpegError, OSError, ValueError, IndexError):
        return list(wanted)
    return missing


def _is_in(picture: object, name: str) -> bool:
    kind = _IN_FRAMES.get(name)
    if kind is None or not isinstance(picture, av.VideoFrame):
        return False
    return side_data(picture, kind) is not None


def loss_note(names: Collection[str], suffix: str, why: str = "") -> str:
    """What is to be said of side data that the output does not have."""
    told = ", ".join(_NAMES.get(name, name) for name in names)
    return f"{told} left out: {why or f'{suffix} files do not keep it'}"
