"""Files that are made to hang mien, to read other files in its name, or to leave it fuller."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mien.engines.errors import VideoError
from mien.runtime.live.sources.file import FileDevice
from mien.runtime.live.sources.source import open_source
from mien.runtime.video import VideoOptions, edit_video, identity, probe, read_frames
from mien.runtime.video.reading.source import Picture, VideoSource
from tests.runtime.video.clips import damage, truncate

Clip = Callable[..., Path]
PATIENCE_S = 60
X265 = {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}}


def run(script: str, **values: object) -> subprocess.CompletedProcess[str]:
    """What a script of its own process gave; one that hangs fails here."""
    code = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    code += "\nfrom pathlib import Path\n" + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def unopenable(clip: Clip, name: str = "in.mp4", **settings: object) -> Path:
    """A clip whose decoder raises at every call: its parameter sets are noise."""
    path = clip(name, **X265, **settings)
    content = bytearray(path.read_bytes())
    start = content.index(b"hvcC") + 34
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(content)
    return path


def test_a_decoder_that_never_opens_ends_the_edit(clip: Clip, tmp_path: Path) -> None:
    source = unopenable(clip, frames=5)
    with av.open(str(source)) as container:
        for _ in range(3):  # as long as it is asked
            with pytest.raises(av.error.InvalidDataError):
                container.streams.video[0].decode(None)
    script = """
        from mien.engines.errors import VideoError
        from mien.runtime.live.sources.file import FileDevice
        from mien.runtime.video import edit_video, identity, probe, read_frames
        for read in (
            lambda: edit_video(Path(source), Path(target), identity),
            lambda: list(read_frames(Path(source))),
            lambda: print(probe(Path(source)).has_video),
            lambda: FileDevice(Path(source)),
        ):
            try:
                read()
            except VideoError as error:
                print(error)
    """
    lines = run(script, source=str(source), target=str(tmp_path / "out.mp4")).stdout.splitlines()
    assert len(lines) == 3, lines
    assert "5 of 5 frames could not be decoded" in lines[0]
    assert lines[1] == "True"
    assert "no frame that can be decoded" in lines[2]


def test_reading_looks_at_the_stop_also_where_nothing_comes(clip: Clip) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 30:
            raise KeyError

    with (
        VideoSource(unopenable(clip, frames=60), check=look) as video,
        pytest.raises(KeyError),
    ):
        list(video.items())


def test_a_cancel_ends_an_edit_in_which_nothing_can_be_decoded(clip: Clip, tmp_path: Path) -> None:
    source, cancel = unopenable(clip, frames=100), threading.Event()
    cancel.set()
    with pytest.raises(VideoError, match=r"cancelled|no frame"):
        edit_video(source, tmp_path / "out.mp4", identity, cancel=cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_camera_of_a_file_can_be_closed_while_nothing_is_decoded(clip: Clip) -> None:
    device = FileDevice(clip(frames=3, rate=Fraction(50)))
    device.read()
    device.read()
    device.interrupt()
    with pytest.raises(VideoError, match="being closed"):
        device.read()
    device.close()


@pytest.mark.parametrize("rate", [Fraction(1, 100_000), Fraction(90_000)])
def test_a_camera_of_a_file_keeps_a_pace_whatever_rate_it_declares(
    clip: Clip, rate: Fraction
) -> None:
    device = FileDevice(clip("in.mkv", frames=1, rate=rate))
    began_s = time.monotonic()
    for _ in range(4):
        device.read()
    device.close()
    assert 0.05 < time.monotonic() - began_s < PATIENCE_S


# Other files


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "concat": "ffconcat version 1.0\nfile secret.mp4\nduration 1\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nsecret.ts\n#EXT-X-ENDLIST\n",
    "hls of a host": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet><Representation>'
    "<BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "rtsp": "rtsptext\nrtsp://127.0.0.1:9/x\n",
    "metadata": ";FFMETADATA1\ntitle=x\n",
    "microdvd": "{0}{25}secret.mp4\n",
}


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".txt", ".ffconcat"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_list_of_other_files_is_refused(
    kind: str, suffix: str, clip: Clip, tmp_path: Path
) -> None:
    clip("secret.mp4", frames=5)
    clip("secret.ts", frames=5)
    source = tmp_path / f"in{suffix}"
    source.write_text(PLAYLISTS[kind])
    for read in (
        lambda: edit_video(source, tmp_path / "out.mp4", identity),
        lambda: probe(source),
        lambda: next(read_frames(source)),
        lambda: open_source(str(source)),
    ):
        with pytest.raises(VideoError, match="cannot be read as a video") as caught:
            read()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.mp4").exists()


def test_a_list_that_ffmpeg_would_follow_is_one(clip: Clip, tmp_path: Path) -> None:
    clip("secret.mp4", frames=5)
    source = tmp_path / "in.mp4"
    source.write_text(PLAYLISTS["ffconcat"])
    with av.open(f"file:{source}") as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


@pytest.mark.parametrize("name", ["img%d.png", "img%02d.mp4", "subfile,,start,0,end,9,,:a.mp4"])
def test_a_name_is_a_name_and_no_pattern(name: str, tmp_path: Path) -> None:
    for number, level in ((1, 10), (2, 20), (3, 30)):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), np.full((32, 48, 3), level, np.uint8))
    (tmp_path / "img1.png").replace(tmp_path / name)
    frames = list(read_frames(tmp_path / name))
    assert [int(frame.planes[0].samples.mean()) for frame in frames] == [10]


def alias(path: Path) -> bytes:
    """A data reference that names another file, as QuickTime writes it."""
    name = path.name.encode()
    target = os.fsencode(path)
    record = bytes(10) + b"\x04disk".ljust(28, b"\0") + bytes(12)
    record += bytes((len(name),)) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1)
    record += bytes(16) + struct.pack(">hH", 2, len(target)) + target + b"\0" * (len(target) % 2)
    record += struct.pack(">hH", -1, 0)
    return struct.pack(">I", len(record) + 12) + b"alis" + bytes(4) + record


def test_a_movie_does_not_read_the_file_that_it_refers_to(clip: Clip, tmp_path: Path) -> None:
    secret = clip("secret.mov", frames=5)
    content = secret.read_bytes()
    start = content.index(b"dref") - 4
    size = struct.unpack(">I", content[start : start + 4])[0]
    reference = alias(secret)
    dref = struct.pack(">I", 16 + len(reference)) + b"dref" + bytes(4) + struct.pack(">I", 1)
    grown = 16 + len(reference) - size
    moov = bytearray(content[:start] + dref + reference + content[start + size :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = moov.index(box) - 4
        moov[at : at + 4] = struct.pack(">I", struct.unpack(">I", moov[at : at + 4])[0] + grown)
    mdat = moov.index(b"mdat") + 4
    end = mdat - 8 + struct.unpack(">I", moov[mdat - 8 : mdat - 4])[0]
    moov[mdat:end] = bytes(end - mdat)  # its own samples are empty: what comes is of the other
    source = tmp_path / "in.mov"
    source.write_bytes(moov)
    with av.open(str(source), options={"enable_drefs": "1", "use_absolute_path": "1"}) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == 5
    with pytest.raises(VideoError, match="no frame that can be decoded"):
        edit_video(source, tmp_path / "out.mov", identity)


# Descriptors


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors cannot be counted here")
@pytest.mark.parametrize("name", ["out.mp4", "out.ogv", "out.mxf", "out.gif", "out.nonsense"])
def test_no_way_an_edit_ends_leaves_a_descriptor(name: str, clip: Clip, tmp_path: Path) -> None:
    sources = [
        clip("whole.mkv", frames=5, audio_tracks=1),
        damage(clip("damaged.mkv", frames=30)),
        truncate(clip("cut.mp4", frames=30), 0.5),
        unopenable(clip, "unopenable.mp4", frames=5),
        clip("vp9.webm", frames=5, codec="libvpx-vp9", options={}),
    ]
    errors = []  # kept, as by a caller that collects them

    def fail(_: object) -> None:
        raise RuntimeError

    before = descriptors()
    for source in sources:
        for process in (identity, fail):
            try:
                edit_video(source, tmp_path / name, process, VideoOptions(overwrite=True))
            except (VideoError, RuntimeError) as error:  # noqa: PERF203 -- one way each
                errors.append(error)
    assert errors
    assert descriptors() == before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors cannot be counted here")
def test_no_way_reading_ends_leaves_a_descriptor(clip: Clip) -> None:
    whole = clip("whole.mp4", frames=4, rate=Fraction(100))
    others = [unopenable(clip, "unopenable.mp4", frames=2), truncate(clip("cut.mp4"), 0.5)]
    errors, before = [], descriptors()
    for path in (whole, *others):
        for read in (probe, lambda path: next(read_frames(path), None), FileDevice):
            try:
                result = read(path)
            except VideoError as error:
                errors.append(error)
                continue
            if isinstance(result, FileDevice):
                for _ in range(9):  # over its end, where the file is opened again
                    result.read()
                result.close()
    with VideoSource(whole) as video:  # left in the middle
        assert isinstance(next(video.items()), Picture)
    assert errors
    assert descriptors() == before
