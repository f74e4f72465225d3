"""Awkward clips, made with PyAV: small, deterministic, one oddity each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# Quarter turns clockwise as a player shows them: FFmpeg's display matrix, 16.16 fixed point.
ONE, LAST = 1 << 16, 1 << 30
MATRICES = {
    0: (ONE, 0, 0, 0, ONE, 0, 0, 0, LAST),
    1: (0, ONE, 0, -ONE, 0, 0, 0, 0, LAST),
    2: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, LAST),
    3: (0, -ONE, 0, ONE, 0, 0, 0, 0, LAST),
}
SUBTITLE_CODECS = {".mkv": "subrip", ".mp4": "mov_text", ".mov": "mov_text", ".webm": "webvtt"}


@dataclass(frozen=True)
class ClipSpec:
    """A clip to make. pts are in units of time_base; None counts frames at `rate`."""

    size_wh: tuple[int, int] = (160, 120)
    frames: int = 24
    rate: Fraction = Fraction(25)
    time_base: Fraction | None = None
    pts: Sequence[int] | None = None
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "12", "preset": "ultrafast"})
    audio_tracks: int = 0
    subtitle: bool = False
    chapters: bool = False
    cover: bool = False
    attachment: bool = False
    rotation: int = 0
    mirrored: bool = False
    sample_aspect_ratio: Fraction | None = None
    full_range: bool = False
    colours: tuple[int, int, int] = (2, 2, 2)  # unspecified; primaries, transfer, matrix
    metadata: dict[str, str] = field(default_factory=dict)
    picture: Callable[[int, int, int], np.ndarray] | None = None  # (index, width, height) -> RGB


def rgb_picture(index: int, width: int, height: int) -> np.ndarray:
    """A gradient with a moving bright square: uint8 (height, width, 3), RGB."""
    x = np.linspace(0, 200, width)[None, :]
    y = np.linspace(20, 230, height)[:, None]
    picture = np.stack([x + 0 * y, y + 0 * x, (x + y) / 2], axis=-1).astype(np.uint8)
    left, top = 5 * index % max(1, width - 16), height // 3
    picture[top : top + 16, left : left + 16] = (250, 240, 30)
    return picture


def make_clip(path: Path, spec: ClipSpec | None = None) -> Path:
    """The clip of `spec` at `path`, its kind from the suffix."""
    spec = spec or ClipSpec()
    with av.open(str(path), "w") as output:
        output.metadata.update(spec.metadata)
        video = _add_video(output, spec)
        extras = _Extras(output, spec, path)
        if spec.chapters:
            output.set_chapters(_chapters())
        output.start_encoding()
        extras.write()
        for frame in (*video_frames(spec, video.codec_context.time_base), None):
            output.mux([_timed(packet, spec) for packet in video.encode(frame)])
    return path


def _timed(packet: av.Packet, spec: ClipSpec) -> av.Packet:
    """The packet with a time to decode it at, which x265 does not set for one or two frames.

    What is there instead is what was in memory: now and then a muxer refuses it.
    """
    if spec.codec == "libx265" and spec.frames <= 2:
        packet.dts = packet.pts
    return packet


def _add_video(output: av.container.OutputContainer, spec: ClipSpec) -> av.VideoStream:
    base = spec.time_base or 1 / spec.rate
    video = output.add_stream(
        spec.codec,
        rate=spec.rate,
        options=spec.options,
        width=spec.size_wh[0],
        height=spec.size_wh[1],
        time_base=base,
    )
    video.time_base = base
    video.codec_context.pix_fmt = spec.pixel_format
    video.codec_context.color_range = 2 if spec.full_range else 1
    primaries, transfer, matrix = spec.colours
    video.codec_context.color_primaries = primaries
    video.codec_context.color_trc = transfer
    video.codec_context.colorspace = matrix
    if spec.sample_aspect_ratio:
        video.codec_context.sample_aspect_ratio = spec.sample_aspect_ratio
    if spec.rotation or spec.mirrored:
        a, b, u, c, d, *rest = MATRICES[spec.rotation]
        if spec.mirrored:
            a, c = -a, -c
        video.set_display_matrix((a, b, u, c, d, *rest))
    return video


def video_frames(spec: ClipSpec, time_base: Fraction) -> list[av.VideoFrame]:
    """The frames of a clip before encoding."""
    step = round(1 / (spec.rate * time_base))
    frames = []
    for index in range(spec.frames):
        rgb = (spec.picture or rgb_picture)(index, *spec.size_wh)
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format=spec.pixel_format,
            dst_color_range=2 if spec.full_range else 1,
            dst_colorspace=None if spec.colours[2] == 2 else spec.colours[2],
            threads=1,
        )
        frame.pts = spec.pts[index] if spec.pts is not None else index * step
        frame.time_base = time_base
        frame.duration = step
        frames.append(frame)
    return frames


class _Extras:
    """The streams beside the video."""

    def __init__(self, output: av.container.OutputContainer, spec: ClipSpec, path: Path) -> None:
        self._output = output
        self._seconds = float(spec.frames / spec.rate)
        self._audio = [self._add_audio(track, path) for track in range(spec.audio_tracks)]
        self._subtitle = None
        self._subtitle_codec = SUBTITLE_CODECS.get(path.suffix, "")
        if spec.subtitle:
            self._subtitle = output.add_mux_stream(self._subtitle_codec)
            self._subtitle.time_base = Fraction(1, 1000)
            self._subtitle.metadata["language"] = "deu"
        self._cover = None
        if spec.cover:
            self._cover = output.add_stream("mjpeg", rate=25, width=64, height=64)
            self._cover.codec_context.pix_fmt = "yuvj420p"
            self._cover.disposition = av.stream.Disposition.attached_pic
        if spec.attachment:
            output.add_attachment("font.ttf", "application/x-truetype-font", b"not a font" * 30)

    def _add_audio(self, track: int, path: Path) -> av.AudioStream:
        name = "libopus" if path.suffix == ".webm" else "aac"
        audio = self._output.add_stream(name, rate=48000, layout="mono")
        audio.metadata["language"] = ("eng", "fra", "spa")[track]
        flags = av.stream.Disposition
        audio.disposition = flags.default if track == 0 else flags.hearing_impaired
        return audio

    def write(self) -> None:
        if self._cover is not None:
            rgb = rgb_picture(0, 64, 64)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                format="yuvj420p", threads=1
            )
            frame.pts = 0
            self._output.mux(self._cover.encode(frame))
            self._output.mux(self._cover.encode(None))
        if self._subtitle is not None:
            self._write_subtitles()
        for track, audio in enumerate(self._audio):
            self._write_audio(audio, 220.0 * (track + 1))

    def _write_subtitles(self) -> None:
        assert self._subtitle is not None
        for start, text in ((0, "one"), (400, "two")):
            data = text.encode()
            if self._subtitle_codec == "mov_text":
                data = len(data).to_bytes(2, "big") + data
            packet = av.Packet(data)
            packet.stream = self._subtitle
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = 300
            self._output.mux(packet)

    def _write_audio(self, audio: av.AudioStream, pitch_hz: float) -> None:
        samples = int(48000 * self._seconds)
        sound = np.sin(np.arange(samples) / 48000 * pitch_hz * 2 * np.pi).astype(np.float32)
        for start in range(0, samples, 960):
            part = sound[None, start : start + 960] * 0.3
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            for ready in _resampled(frame, audio):
                self._output.mux(audio.encode(ready))
        self._output.mux(audio.encode(None))


def _resampled(frame: av.AudioFrame, audio: av.AudioStream) -> list[av.AudioFrame]:
    """The frame in the format the encoder takes."""
    wanted = audio.codec_context.format.name
    if wanted == "fltp":
        return [frame]
    return av.AudioResampler(format=wanted, layout="mono", rate=48000).resample(frame)


def _chapters() -> list[dict[str, object]]:
    base = Fraction(1, 1000)
    return [
        {"id": 1, "start": 0, "end": 400, "time_base": base, "metadata": {"title": "first"}},
        {"id": 2, "start": 400, "end": 960, "time_base": base, "metadata": {"title": "second"}},
    ]


def truncate(path: Path, share: float) -> Path:
    """The file cut off after `share` of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damage(path: Path, *, start: float = 0.4, length: int = 600) -> Path:
    """The file with `length` bytes from `start` of it overwritten with noise."""
    data = bytearray(path.read_bytes())
    begin = int(len(data) * start)
    data[begin : begin + length] = np.random.default_rng(1).bytes(length)
    path.write_bytes(bytes(data))
    return path
