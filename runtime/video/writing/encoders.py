"""Which encoder and pixel format a video is written with, and its settings."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import cast

import av
from av.codec.codec import UnknownCodecError
from av.sidedata.sidedata import Type as SideDataType

from mien.engines.errors import VideoError
from mien.runtime.video.formats import FormatLayout, format_layout, stored_layout
from mien.runtime.video.memory import Thrift
from mien.runtime.video.planes import side_data

# Encoders for each codec family, best first.
_ENCODERS = {
    "h264": ("libx264", "libopenh264", "libx264rgb"),
    "hevc": ("libx265",),
    "vp9": ("libvpx-vp9",),
    "vp8": ("libvpx",),
    "av1": ("libsvtav1", "libaom-av1"),
    "mpeg4": ("mpeg4",),
    "mpeg2video": ("mpeg2video",),
    "mpeg1video": ("mpeg1video",),
    "prores": ("prores_ks",),
    "mjpeg": ("mjpeg",),
    "ffv1": ("ffv1",),
    "huffyuv": ("huffyuv",),
    "ffvhuff": ("ffvhuff",),
    "utvideo": ("utvideo",),
    "dnxhd": ("dnxhd",),
    "qtrle": ("qtrle",),
    "png": ("png",),
    "rawvideo": ("rawvideo",),
    "theora": ("libtheora",),
    "flv1": ("flv",),
    "magicyuv": ("magicyuv",),
    "cfhd": ("cfhd",),
    "gif": ("gif",),
    "apng": ("apng",),
}
_ALIASES = {"h265": "hevc", "x264": "h264", "x265": "hevc", "avc": "h264", "libx264rgb": "h264"}
_LOSSLESS = frozenset(
    ("ffv1", "huffyuv", "ffvhuff", "utvideo", "qtrle", "png", "rawvideo", "magicyuv", "apng")
)
_QSCALE = frozenset({"mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "flv"})
_SPEED = {
    "libx264": ("preset", "faster"),
    "libx264rgb": ("preset", "faster"),
    "libx265": ("preset", "superfast"),
    "libvpx-vp9": ("cpu-used", "6"),
    "libvpx": ("cpu-used", "6"),
    "libsvtav1": ("preset", "10"),
    "libaom-av1": ("cpu-used", "8"),
}
# These take pairs of samples only where chroma is subsampled.
_EVEN_SIZES_ONLY = frozenset({"libx264", "libx264rgb", "libx265", "libsvtav1", "libopenh264"})
# The time base is written into the stream with 16 bits.
_SHORT_TIME_BASE = frozenset({"mpeg4"})
_FALLBACKS = (
    "libx264",
    "libx264rgb",
    "libx265",
    "libvpx-vp9",
    "libsvtav1",
    "mpeg4",
    "ffv1",
    "libvpx",
    "mpeg2video",
    "rawvideo",
)
_ALPHA_FALLBACKS = ("prores_ks", "qtrle", "libvpx-vp9", "png", "ffv1")
# These write the transparency beside the picture, in a place that only Matroska has for it.
_ALPHA_BESIDE = frozenset({"libvpx", "libvpx-vp9"})
_MAX_SHORT_TIME_BASE = 65535
# What an encoder names among its formats and then refuses to open with.
_REFUSED_FORMATS = {"libvpx-vp9": ("yuva422p", "yuva444p", "gbrap")}
# These are kinds of file of their own, and in others next to nothing reads them.
_ONLY_IN = {"gif": "gif", "apng": "apng"}
PALETTE = "pal8"
# ProRes holds 12 bits, but this encoder writes 10; the camera original is rarely worth more.
_MAY_LOSE_DEPTH = frozenset({"prores_ks"})
_THREADS = 8  # every x264 thread keeps frames of its own: memory grows with them
_QP_TO_LAMBDA = 118
_LOOKAHEAD = frozenset({"libx264", "libx264rgb"})
_BIG_PICTURE_BYTES = 2 << 20
_GIF_NOTE = "a GIF has 256 colours a frame, which were chosen again"


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """An encoder, the pixel format it is given, and what has to be said about the choice."""

    name: str
    pixel_format: str
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What of a source decides its encoder. odd_size: width or height is odd."""

    codec: str
    pixel_format: str
    odd_size: bool
    time_base: Fraction


def family_of(codec: str) -> str:
    """The codec family of a decoder's, an encoder's or a user's name for it."""
    lowered = codec.lower()
    lowered = _ALIASES.get(lowered, lowered)
    for family, names in _ENCODERS.items():
        if lowered in (family, *names) or lowered.removeprefix("lib") == family:
            return family
    return {"libdav1d": "av1", "libvpx-vp9": "vp9", "msmpeg4v3": "mpeg4"}.get(lowered, lowered)


def encoder_formats(name: str) -> list[str] | None:
    """Pixel formats the encoder accepts, empty where it takes any, None where it is missing."""
    try:
        codec = av.codec.Codec(name, "w")
    except UnknownCodecError:
        return None
    if codec.type != "video":
        return None
    names = [video_format.name for video_format in codec.video_formats or []]
    return [name for name in names if name not in _REFUSED_FORMATS.get(codec.name, ())]


def has_decoder(name: str) -> bool:
    """Whether FFmpeg's decoder of that name is there."""
    try:
        av.codec.Codec(name, "r")
    except UnknownCodecError:
        return False
    return True


def choose_encoders(
    requested: str | None, source: SourceFacts, accepts: Callable[[str], bool]
) -> list[EncoderChoice]:
    """What to write a source with, best first; a later one is for when opening the first fails.

    requested: a user's codec, which is never replaced; None for the source's family.
    accepts: whether the destination's container can hold what an encoder makes.
    Raises: VideoError where the codec is unknown or unfit, or would lose bit depth.
    """
    if requested is not None:
        return [_for_request(requested, source, accepts)]
    family = family_of(source.codec)
    own = _ENCODERS.get(family, ())
    choices = []
    layout = format_layout(source.pixel_format)
    alpha = layout is not None and layout.alpha
    for name in (*own, *(n for n in (_ALPHA_FALLBACKS if alpha else _FALLBACKS) if n not in own)):
        formats = encoder_formats(name)
        if formats is None or not _fits(name, source) or not accepts(name):
            continue
        chosen, notes = _format_for(name, source, formats, may_lose=name in own)
        if chosen is None:
            continue
        if name not in own:
            notes = (f"written by {name}: {source.codec} cannot be written here as it is", *notes)
        choices.append(EncoderChoice(name, chosen, notes))
    if not choices:
        lost = "bit depth, colour or transparency" if alpha else "bit depth or colour"
        raise VideoError(
            f"no encoder here writes {source.pixel_format} without losing {lost} "
            f"into this kind of file; choose an output that ends in {'.mov or ' * alpha}.mkv"
        )
    return sorted(choices, key=lambda choice: len(choice.notes))


def _for_request(
    requested: str, source: SourceFacts, accepts: Callable[[str], bool]
) -> EncoderChoice:
    family = family_of(requested)
    own = _ENCODERS.get(family, ())
    names = own if requested not in own else (requested,)
    if not names and encoder_formats(requested) is not None:
        names = (requested,)
    present = [name for name in names if encoder_formats(name) is not None]
    if not present:
        known = ", ".join(f for f, e in _ENCODERS.items() if any(encoder_formats(n) for n in e))
        raise VideoError(f"there is no encoder for the codec {requested!r} here; known are {known}")
    for name in present:
        chosen, notes = _format_for(name, source, encoder_formats(name) or [], may_lose=True)
        if chosen is not None and _fits(name, source):
            if accepts(name):
                return EncoderChoice(name, chosen, notes)
            raise VideoError(
                f"this kind of file cannot hold what {name} makes; "
                "choose an output that ends in .mkv, or another codec"
            )
    raise VideoError(
        f"the encoder {present[0]} cannot keep the {source.pixel_format} frames and the times "
        "of this video; let the codec be chosen, or use h264 or ffv1"
    )


def _fits(name: str, source: SourceFacts) -> bool:
    return name not in _SHORT_TIME_BASE or source.time_base.denominator <= _MAX_SHORT_TIME_BASE


def has_place(encoder: str, container: str) -> bool:
    """Whether a container is where people look for what an encoder makes."""
    return _ONLY_IN.get(encoder, container) == container


def keeps_alpha(encoder: str, container: str) -> bool:
    """Whether the transparency that an encoder writes is read again from the container."""
    return encoder not in _ALPHA_BESIDE or container in ("matroska", "webm")


def _format_for(
    name: str, source: SourceFacts, formats: list[str], *, may_lose: bool
) -> tuple[str | None, tuple[str, ...]]:
    """What an encoder is given, and notes on how it differs; None where too much would be lost.

    may_lose: whether it may take fewer bits, where its kind of file is known by other things.
    """
    layout = format_layout(source.pixel_format)
    if name == "gif":
        return (PALETTE, (_GIF_NOTE,)) if layout is not None else (None, ())
    chosen, notes = nearest_format(source.pixel_format, formats, name, odd=source.odd_size)
    if chosen is not None or not may_lose or name not in _MAY_LOSE_DEPTH or layout is None:
        return chosen, notes
    depth = max((s.depth for f in formats if (s := stored_layout(f)) is not None), default=0)
    shallow = replace(layout, depth=min(layout.depth, depth))
    kept = [f for f in formats if (s := stored_layout(f)) is not None and _keeps(shallow, s)]
    if not kept:
        return None, ()
    chosen = min(kept, key=lambda f: _cost(shallow, cast("FormatLayout", stored_layout(f))))
    note = f"stored as {chosen}: {name} writes {depth} bits, and the video has {layout.depth}"
    return chosen, (note,)


def nearest_format(
    pixel_format: str, formats: list[str], encoder: str, *, odd: bool
) -> tuple[str | None, tuple[str, ...]]:
    """The accepted format that loses nothing, and notes on how it differs; None if all lose."""
    source = format_layout(pixel_format)
    if source is None:
        return None, ()
    odd = odd and encoder in _EVEN_SIZES_ONLY
    odd = odd and source.subsampling_xy != (1, 1)
    if not odd and (not formats or pixel_format in formats):
        return pixel_format, ()
    candidates = []
    for name in formats:
        layout = stored_layout(name)
        if layout is None or not _keeps(source, layout):
            continue
        if odd and layout.subsampling_xy != (1, 1):
            continue
        candidates.append((_cost(source, layout), name))
    if not candidates:
        return None, ()
    chosen = min(candidates)[1]
    if _same_samples(source, chosen):
        return chosen, ()
    if odd:
        why = f"{encoder} takes no odd width or height with shared colour samples"
    else:
        why = f"{encoder} does not take {pixel_format}"
    return chosen, (f"stored as {chosen}, as {why}; nothing is lost",)


def _keeps(source: FormatLayout, target: FormatLayout) -> bool:
    if target.kind != source.kind or target.depth < source.depth:
        return False
    if source.alpha and not target.alpha:
        return False
    coarse, fine = target.subsampling_xy, source.subsampling_xy
    return coarse[0] <= fine[0] and coarse[1] <= fine[1]


def _cost(source: FormatLayout, target: FormatLayout) -> tuple[int, int, int]:
    step = target.subsampling_xy
    samples = 16 // (step[0] * step[1])
    return (target.depth - source.depth, samples, int(target.full_range != source.full_range))


def _same_samples(source: FormatLayout, name: str) -> bool:
    target = stored_layout(name)
    assert target is not None
    return (
        target.depth == source.depth
        and target.subsampling_xy == source.subsampling_xy
        and target.kind == source.kind
    )


def frame_bytes(pixel_format: str, size_wh: tuple[int, int]) -> int:
    """Bytes one frame takes."""
    layout = format_layout(pixel_format)
    if layout is None:
        return 4 * size_wh[0] * size_wh[1]
    samples = sum(count / (step[0] * step[1]) for count, step in layout.planes)
    return round(samples * layout.item_size * size_wh[0] * size_wh[1])


def encoder_options(
    name: str, quality: int, speed: str | None, *, threads: int, picture_bytes: int
) -> dict[str, str]:
    """Options of the encoder for quality 0..100; it looks ahead less far at big pictures.

    80 is meant to look like the source: CRF 19 for x264, 21 for x265, 23 for VP9 and AV1,
    quantiser 3 for MPEG-4 and Motion JPEG. 100 is lossless where the encoder can be.
    """
    options = {"threads": str(min(threads, _THREADS))}
    if name in _SPEED:
        option, default = _SPEED[name]
        options[option] = speed or default
    if name in _LOOKAHEAD and picture_bytes > _BIG_PICTURE_BYTES:
        # 1080p: 8 frames of 8 bits less are 60 MB less, 10 bits twice that.
        options["rc-lookahead"] = "5"
        if picture_bytes > 2 * _BIG_PICTURE_BYTES:
            options.update({"rc-lookahead": "3", "bf": "1", "refs": "1"})
    options.update(_quality_options(name, quality))
    if name in ("libvpx-vp9", "libvpx"):
        options.update({"b": "0", "deadline": "good"})
        options.update({"row-mt": "1"} if name == "libvpx-vp9" else {})
    return options


def kind_options(choice: EncoderChoice, profile: str | None) -> dict[str, str]:
    """Options that the kind of video asks for. profile: that of the source, as FFmpeg names it."""
    if choice.name == "libvpx" and choice.pixel_format.startswith("yuva"):
        return {"auto-alt-ref": "0"}  # with it VP8 refuses transparency
    if choice.name == "prores_ks" and profile == "XQ":
        return {"profile": "4444xq"}
    return {}


def _quality_options(name: str, quality: int) -> dict[str, str]:
    lossless = quality == 100
    if name in ("libx264", "libx264rgb"):
        return {"qp": "0"} if lossless else {"crf": f"{51 - 0.4 * quality:.1f}"}
    if name == "libx265":
        return {} if lossless else {"crf": f"{51 - 0.375 * quality:.1f}"}
    if name in ("libvpx-vp9", "libvpx", "libaom-av1", "libsvtav1"):
        if lossless and name == "libvpx-vp9":
            return {"lossless": "1"}
        return {"crf": str(max(round(63 - 0.5 * quality), 4 if name == "libvpx" else 0))}
    if name in _QSCALE:
        quantiser = max(1.0, 1 + 30 * (1 - quality / 100) ** 1.7)
        scale = str(round(quantiser * _QP_TO_LAMBDA))
        return {"flags": "+qscale", "global_quality": scale, "qmin": "1"}
    return {}


def is_lossless(name: str, quality: int) -> bool:
    """Whether the encoder at this quality gives back exactly the samples it was given."""
    return name in _LOSSLESS or (
        quality == 100 and name in ("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1")
    )


def thrifty(
    options: dict[str, str], name: str, thrift: Thrift, speed: str | None
) -> dict[str, str]:
    """An encoder's options with those that spare memory. speed: the user's own preset, if any."""
    changed = dict(thrift.options)
    preset = changed.pop("speed", None)
    if preset is not None and speed is None:
        changed[_SPEED[name][0]] = preset
    return options | changed


def parameter_option(
    name: str, picture: av.VideoFrame, quality: int, threads: int, thrift: Thrift
) -> dict[str, str]:
    """The encoder's own parameter string: lossless mode, HDR facts of the first frame, thrift."""
    more = [*_hdr_parameters(name, picture), *thrift.parameters]
    if name == "libx265":
        own = ["log-level=error", f"pools={threads}", "frame-threads=1"]
        return {"x265-params": ":".join(own + ["lossless=1"] * (quality == 100) + more)}
    if name == "libx264" and more:
        return {"x264-params": ":".join(more)}
    if name == "libsvtav1":
        own = ["lossless=1"] * (quality == 100) + more
        return {"svtav1-params": ":".join(own)} if own else {}
    return {}


def _hdr_parameters(name: str, picture: av.VideoFrame) -> list[str]:
    mastering = side_data(picture, SideDataType.MASTERING_DISPLAY_METADATA)
    light = side_data(picture, SideDataType.CONTENT_LIGHT_LEVEL)
    keys = {
        "libx265": ("master-display", "max-cll"),
        "libx264": ("mastering-display", "cll"),
        "libsvtav1": ("mastering-display", "content-light"),
    }.get(name)
    if keys is None:
        return []
    parameters = []
    if mastering is not None and (text := _mastering_text(mastering, scaled=name != "libsvtav1")):
        parameters.append(f"{keys[0]}={text}")
    if light is not None and len(light) >= 8:
        maximum, average = struct.unpack_from("<II", light)
        parameters.append(f"{keys[1]}={maximum},{average}")
    return parameters


def _mastering_text(data: bytes, *, scaled: bool) -> str | None:
    """AVMasteringDisplayMetadata as `G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)`.

    scaled: in units of 0.00002 and 0.0001 cd/m2 (x264, x265), else as decimals (SVT-AV1).
    """
    if len(data) < 88:
        return None
    numbers = struct.unpack_from("=20i2i", data)
    if not (numbers[20] and numbers[21]):
        return None
    values = [numbers[i] / (numbers[i + 1] or 1) for i in range(0, 20, 2)]
    red, green, blue, white = values[0:2], values[2:4], values[4:6], values[6:8]
    darkest, brightest = values[8], values[9]

    def pair(label: str, values: list[float], unit: int) -> str:
        if scaled:
            return f"{label}({round(values[0] * unit)},{round(values[1] * unit)})"
        return f"{label}({values[0]:.5f},{values[1]:.5f})"

    colours = zip(("G", "B", "R", "WP"), (green, blue, red, white), strict=True)
    light = pair("L", [brightest, darkest], 10000)
    return "".join(pair(label, values, 50000) for label, values in colours) + light
