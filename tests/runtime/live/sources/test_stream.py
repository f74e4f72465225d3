"""Streams over real loopback sockets and pipes in place of a camera."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
import pytest

from mien.engines.errors import DeviceError, UsageError
from mien.runtime.live.sources.camera import CameraSource
from mien.runtime.live.sources.source import open_source
from mien.runtime.live.sources.stream import is_stream, stream_source
from mien.runtime.live.values import Captured
from tests.runtime.live.stand_ins import PATIENCE_S, wait_until

Body = Callable[["LiveServer", io.BufferedIOBase], None]
BOUNDARY = "frame"


@dataclass
class LiveServer:
    """An HTTP server that sends what it is told, for as long as it is told."""

    body: Body
    kind: str = "video/mp2t"
    length: int | None = None
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def serving(server: LiveServer) -> Iterator[LiveServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.connections += 1
            self.send_response(200)
            self.send_header("Content-Type", server.kind)
            self.end_headers()
            with contextlib.suppress(OSError, av.error.FFmpegError):  # the reader has gone
                server.body(server, self.wfile)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}/live"
        try:
            yield server
        finally:
            server.stopping.set()
            http.shutdown()
            thread.join()


def picture(level: int, size_wh: tuple[int, int] = (96, 64)) -> np.ndarray:
    return np.full((size_wh[1], size_wh[0], 3), level, np.uint8)


def jpegs(sizes: tuple[tuple[int, int], ...] = ((96, 64),), count: int = 10_000) -> Body:
    """Live MJPEG: ever brighter pictures, ten of each size in turn."""

    def send(server: LiveServer, file: io.BufferedIOBase) -> None:
        for index in range(count):
            if server.stopping.wait(0.01):
                return
            size_wh = sizes[index // 10 % len(sizes)]
            data = cv2.imencode(".jpg", picture(index % 200, size_wh))[1].tobytes()
            head = (
                f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            )
            file.write(head.encode() + data + b"\r\n")
            file.flush()

    return send


def mjpeg_server(body: Body) -> LiveServer:
    return LiveServer(body, f"multipart/x-mixed-replace; boundary={BOUNDARY}")


def transport_stream(count: int = 10_000) -> Body:
    """Live MPEG-TS with H.264, a key frame in ten."""

    def send(server: LiveServer, file: io.BufferedIOBase) -> None:
        with av.open(Unseekable(file), "w", format="mpegts", options={"flush_packets": "1"}) as out:
            video = out.add_stream("libx264", rate=50, options={"tune": "zerolatency"})
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            video.codec_context.gop_size = 10
            for index in range(count):
                if server.stopping.wait(0.02):
                    return
                shown = av.VideoFrame.from_ndarray(picture(index % 200), format="rgb24")
                shown.pts, shown.time_base = index, Fraction(1, 50)
                out.mux(video.encode(shown))

    return send


class Unseekable:
    """A socket's file for PyAV, without what a socket cannot do."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._file.flush()
        return len(data)


def newest(source: CameraSource, after: int = -1) -> Captured:
    captured = source.newest(after, PATIENCE_S)
    assert captured is not None, source.message
    return captured


def luma(captured: Captured) -> float:
    return float(captured.frame.planes[0].samples.mean())


@pytest.mark.parametrize(
    ("server", "form"),
    [(mjpeg_server(jpegs()), "yuvj420p"), (LiveServer(transport_stream()), "yuv420p")],
    ids=["mjpeg", "mpeg-ts"],
)
def test_a_live_stream_is_a_camera(server: LiveServer, form: str) -> None:
    with serving(server):
        source = open_source(f"{server.url}?key=secret")
        assert source.facts.name == server.url
        assert (source.facts.size_wh, source.facts.pixel_format) == ((96, 64), form)
        first = newest(source)
        second = newest(source, first.index + 9)  # coders may round one level away
        third = newest(source, second.index)
        assert first.captured_s <= second.captured_s <= third.captured_s <= time.monotonic()
        assert luma(first) < luma(third)
        assert source.message is None
        source.close()


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(DeviceError) as caught:
        open_source("http://me:word@127.0.0.1:1/video?key=word")
    assert "word" not in str(caught.value)
    assert "http://127.0.0.1:1/video" in str(caught.value)


def test_a_slow_reader_gets_the_newest_picture_and_not_the_next_one() -> None:
    with serving(mjpeg_server(jpegs())) as server:
        source = open_source(server.url)
        before = newest(source)
        wait_until(lambda: newest(source).index > before.index + 20)
        captured = newest(source)
        assert captured.index > before.index + 20
        source.close()


def test_a_stream_that_breaks_off_is_connected_to_again() -> None:
    with serving(mjpeg_server(jpegs(count=12))) as server:
        source = stream_source(server.url)
        wait_until(lambda: source.message)
        assert (source.message or "").startswith(server.url)
        before = newest(source)
        newest(source, before.index)
        assert server.connections >= 2
        source.close()


def test_a_stream_changes_its_size() -> None:
    with serving(mjpeg_server(jpegs(((96, 64), (64, 96))))) as server:
        source = open_source(server.url)
        for size_wh in ((96, 64), (64, 96), (96, 64)):
            wait_until(
                lambda: (newest(source).frame.width, newest(source).frame.height) == size_wh  # noqa: B023
            )
            wait_until(lambda: source.facts.size_wh == size_wh)  # noqa: B023
        source.close()


def test_a_stream_takes_the_size_that_is_asked_for() -> None:
    with serving(mjpeg_server(jpegs())) as server:
        source = open_source(server.url, file_room_wh=(48, 48))
        assert source.facts.size_wh == (48, 32)
        source.close()


SESSION = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:video\r\n"
)


class RtspCamera(socketserver.StreamRequestHandler):
    """A camera that sends H.264 by RTP inside its RTSP connection, one NAL unit a packet."""

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            headers = {}
            while (header := self.rfile.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            method, body, more = line.split()[0], "", ""
            if method == "DESCRIBE":
                body = SESSION
                more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            status = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\nSession: 1\r\n"
            self.wfile.write(f"{status}{more}\r\n{body}".encode())
            if method == "PLAY":
                with contextlib.suppress(OSError, av.error.FFmpegError):  # the reader has gone
                    self.play()
                return

    def play(self) -> None:
        video = av.CodecContext.create("libx264", "w")
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.framerate, video.time_base = Fraction(50), Fraction(1, 50)
        video.gop_size, video.options = 10, {"tune": "zerolatency", "preset": "ultrafast"}
        sequence = 0
        for index in range(10_000):
            shown = av.VideoFrame.from_ndarray(picture(index % 200), format="rgb24")
            shown.pts, shown.time_base = index, Fraction(1, 50)
            for packet in video.encode(shown):
                units = [unit for unit in re.split(b"\0?\0\0\1", bytes(packet)) if unit]
                for place, unit in enumerate(units):
                    last = 128 if place == len(units) - 1 else 0
                    head = struct.pack(">BBHII", 128, 96 | last, sequence % 65536, 1800 * index, 7)
                    data = head + unit
                    self.wfile.write(struct.pack(">cBH", b"$", 0, len(data)) + data)
                    sequence += 1
            time.sleep(0.02)


def test_an_rtsp_camera_is_a_camera() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RtspCamera) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            port = server.server_address[1]
            source = open_source(f"RTSP://me:word@127.0.0.1:{port}/video")
            assert source.facts.name == f"rtsp://127.0.0.1:{port}/video"
            assert source.facts.size_wh == (96, 64)
            first = newest(source)
            later = newest(source, first.index)
            for _ in range(10):  # one that is lost on the way is shown as the one before it
                if luma(later) > luma(first):
                    break
                later = newest(source, later.index)
            assert luma(first) < luma(later)
            assert source.message is None
            source.close()
        finally:
            server.shutdown()
            thread.join()


def amf(*values: object) -> bytes:
    """Values as RTMP has them (Action Message Format 0)."""
    parts = []
    for value in values:
        if isinstance(value, str):
            parts.append(b"\x02" + struct.pack(">H", len(value)) + value.encode())
        elif isinstance(value, dict):
            pairs = (
                struct.pack(">H", len(key)) + key.encode() + amf(one) for key, one in value.items()
            )
            parts.append(b"\x03" + b"".join(pairs) + b"\x00\x00\x09")
        else:
            parts.append(b"\x05" if value is None else b"\x00" + struct.pack(">d", value))
    return b"".join(parts)


class RtmpServer(socketserver.StreamRequestHandler):
    """A server that lets anybody play its one stream, as far as FFmpeg asks for it."""

    def handle(self) -> None:
        hello = self.rfile.read(1537)
        self.wfile.write(b"\x03" + bytes(1536) + hello[1:])
        self.rfile.read(1536)
        self.send(1, struct.pack(">I", 1 << 24))  # the size of chunks: each message is one
        self.answer("connect", "_result", None, {"code": "NetConnection.Connect.Success"})
        self.answer("createStream", "_result", None, 1)
        self.answer("play", "onStatus", None, {"code": "NetStream.Play.Start"})
        with contextlib.suppress(OSError, av.error.FFmpegError):  # the reader has gone
            self.play()

    def answer(self, asked: str, kind: str, *values: object) -> None:
        """Wait for a command, and answer it by its number."""
        heard = b""
        while amf(asked) not in heard or len(heard.partition(amf(asked))[2]) < 9:
            heard += self.connection.recv(4096)
        (number,) = struct.unpack(">d", heard.partition(amf(asked))[2][1:9])
        self.send(20, amf(kind, number, *values))

    def send(self, kind: int, data: bytes, time_ms: int = 0) -> None:
        head = time_ms.to_bytes(3, "big") + len(data).to_bytes(3, "big") + bytes([kind])
        self.wfile.write(b"\x04" + head + struct.pack("<I", int(kind == 9)) + data)

    def play(self) -> None:
        """Send each tag of an FLV as a message of its own."""
        file = io.BytesIO()
        with av.open(Unseekable(file), "w", format="flv", options={"flush_packets": "1"}) as out:
            video = out.add_stream("libx264", rate=50, options={"tune": "zerolatency"})
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            video.codec_context.gop_size = 10
            place = 13  # behind the file's own header
            for index in range(10_000):
                shown = av.VideoFrame.from_ndarray(picture(index % 200), format="rgb24")
                shown.pts, shown.time_base = index, Fraction(1, 50)
                out.mux(video.encode(shown))
                data = file.getvalue()
                while len(data) >= place + 11:
                    size = int.from_bytes(data[place + 1 : place + 4], "big")
                    if data[place] == 9:
                        tag = data[place + 11 : place + 11 + size]
                        self.send(9, tag, int.from_bytes(data[place + 4 : place + 7], "big"))
                    place += size + 15
                time.sleep(0.02)


def test_a_stream_of_rtmp_is_a_camera() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RtmpServer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            port = server.server_address[1]
            source = open_source(f"rtmp://127.0.0.1:{port}/live/clip?key=word")
            assert source.facts.name == f"rtmp://127.0.0.1:{port}/live/clip"
            assert source.facts.size_wh == (96, 64)
            first = newest(source)
            second = newest(source, first.index + 9)  # coders may round one level away
            assert luma(first) < luma(second)
            source.close()
        finally:
            server.shutdown()
            thread.join()


def silent(server: LiveServer, file: io.BufferedIOBase) -> None:
    del file
    server.stopping.wait(PATIENCE_S)


def headed_only(server: LiveServer, file: io.BufferedIOBase) -> None:
    """Send a transport stream that says what will come, and no picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as out:
        video = out.add_stream("libx264", rate=50)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        out.start_encoding()
    while not server.stopping.wait(0.02):
        file.write(buffer.getvalue() or b"\x47" + bytes([0x1F, 0xFF, 0x10]) + bytes(184))
        file.flush()


def nonsense(server: LiveServer, file: io.BufferedIOBase) -> None:
    del server
    file.write(b"<html>no video</html>" * 400)


@pytest.mark.parametrize("body", [silent, headed_only, nonsense])
def test_a_stream_that_never_starts_is_refused_in_one_line(body: Body) -> None:
    with serving(LiveServer(body)) as server:
        with pytest.raises(DeviceError) as caught:
            stream_source(server.url, start_s=0.5)
        assert server.url in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_paused_stream_is_let_go_and_taken_again() -> None:
    with serving(LiveServer(transport_stream())) as server:
        source = open_source(server.url)
        source.pause()
        wait_until(lambda: source.newest(-1, 0) is None)
        before = server.connections
        source.resume()
        newest(source)
        assert server.connections > before
        source.close()


def test_a_playlist_may_not_name_a_file_of_this_machine(clip: Callable[..., Path]) -> None:
    path = clip("own.ts", frames=5)

    def playlist(server: LiveServer, file: io.BufferedIOBase) -> None:
        del server
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", f"file://{path}"]
        file.write("\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode())

    server = LiveServer(playlist, "application/vnd.apple.mpegurl")
    with serving(server), pytest.raises(DeviceError):
        stream_source(f"{server.url}/list.m3u8", start_s=2)


def test_hls_segments_are_played_at_their_own_pace(
    clip: Callable[..., Path],
) -> None:
    data = clip("part.ts", frames=8, rate=Fraction(50), size_wh=(96, 64)).read_bytes()
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            is_list = self.path.endswith(".m3u8")
            parts = [f"#EXTINF:0.16,\npart{index}.ts" for index in range(3)]
            head = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
            text = "\n".join([*head, *parts, "#EXT-X-ENDLIST", ""]).encode()
            body = text if is_list else data
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            source = stream_source(f"http://127.0.0.1:{http.server_address[1]}/list.m3u8")
            assert source.facts.size_wh == (96, 64)
            newest(source, newest(source).index)
            source.close()
        finally:
            http.shutdown()
            thread.join()
    assert "/part0.ts" in asked


def test_a_live_playlist_is_followed(tmp_path: Path) -> None:
    stopping = threading.Event()

    def write() -> None:
        options = {"hls_time": "0.2", "hls_list_size": "3", "hls_flags": "delete_segments"}
        with av.open(str(tmp_path / "live.m3u8"), "w", format="hls", options=options) as out:
            video = out.add_stream("libx264", rate=50, options={"tune": "zerolatency"})
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            video.codec_context.gop_size = 10
            for index in range(10_000):
                shown = av.VideoFrame.from_ndarray(picture(index % 200), format="rgb24")
                shown.pts, shown.time_base = index, Fraction(1, 50)
                out.mux(video.encode(shown))
                if stopping.wait(0.02):
                    return

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    make = functools.partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), make) as http:
        http.daemon_threads = True
        threads = [
            threading.Thread(target=write),
            threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}),
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until((tmp_path / "live.m3u8").exists)
            source = open_source(f"http://127.0.0.1:{http.server_address[1]}/live.m3u8")
            first = newest(source)
            wait_until(lambda: newest(source).index >= first.index + 20)  # of several segments
            assert source.message is None
            source.close()
        finally:
            stopping.set()
            http.shutdown()
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("what", ["gopher://host/video", "file:///etc/passwd", "concat://a|b"])
def test_other_schemes_are_refused_with_those_that_are_known(what: str) -> None:
    assert is_stream(what)
    with pytest.raises(UsageError, match=r"known: rtsp, .*standard input"):
        open_source(what)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="is no address of a stream") as caught:
        open_source("http://me:secret@[bad/video")
    assert "secret" not in str(caught.value)


def test_srt_without_its_library_names_another_way() -> None:
    with pytest.raises(DeviceError) as caught:
        stream_source("srt://127.0.0.1:9?mode=caller", start_s=1)
    text = str(caught.value)
    assert "srt://" in text
    assert "is it being sent" in text or "mien camera --source -" in text or "no picture" in text


READ_STDIN = """
import json, sys
from mien.runtime.live.sources.source import open_source

source, seen, after = open_source("-"), [], -1
while not source.has_ended or source.newest(after, 0) is not None:
    captured = source.newest(after, 0.1)
    if captured is not None:
        after = captured.index
        seen.append(round(float(captured.frame.planes[0].samples.mean())))
print(json.dumps([source.facts.name, source.facts.size_wh, seen, source.message]))
"""


@pytest.mark.parametrize("form", ["yuv4mpegpipe", "matroska", "mpegts"])
def test_a_video_on_standard_input_is_played_to_its_end(form: str) -> None:
    data = io.BytesIO()
    with av.open(data, "w", format=form) as out:
        codec = "rawvideo" if form == "yuv4mpegpipe" else "libx264"
        video = out.add_stream(codec, rate=20)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(12):
            shown = av.VideoFrame.from_ndarray(picture(20 * index, (64, 48)), format="rgb24")
            out.mux(video.encode(shown))
        out.mux(video.encode(None))
    done = subprocess.run(
        [sys.executable, "-c", READ_STDIN],
        input=data.getvalue(),
        capture_output=True,
        timeout=2 * PATIENCE_S,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    name, size, seen, message = json.loads(done.stdout)
    assert (name, size, message) == ("standard input", [64, 48], "standard input has ended")
    assert seen == sorted(seen)
    assert len(seen) >= 8  # paced: none is overtaken on a machine that keeps up


def test_srt_comes_in_by_a_program_that_knows_it() -> None:
    """A caller sends live MPEG-TS by SRT, a listener takes it and hands it to standard input."""
    asked = [str(shutil.which("gst-inspect-1.0")), "--exists", "srtsrc"]
    if shutil.which("gst-launch-1.0") is None or subprocess.run(asked, check=False).returncode:
        pytest.skip("GStreamer's elements of SRT are not installed")
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = f"srt://127.0.0.1:{free.getsockname()[1]}"
    gst = ("gst-launch-1.0", "-q")
    with contextlib.ExitStack() as ended:

        def begun(*command: str, **pipes: Any) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(command, **pipes)
            ended.callback(process.wait)
            ended.callback(process.kill)
            return process

        pipe = subprocess.PIPE
        listener = begun(*gst, "srtsrc", f"uri={address}?mode=listener", "!", "fdsink", stdout=pipe)
        reader = begun(sys.executable, "-c", READ_STDIN, stdin=listener.stdout, stdout=pipe)
        sink = ("srtsink", f"uri={address}?mode=caller")
        caller = begun(*gst, "fdsrc", "blocksize=1316", "!", *sink, stdin=pipe)
        assert listener.stdout is not None
        assert caller.stdin is not None
        listener.stdout.close()  # its end is the reader's alone
        transport_stream(100)(LiveServer(nonsense), caller.stdin)
        caller.stdin.close()
        said, _ = reader.communicate(timeout=2 * PATIENCE_S)
    name, size, seen, message = json.loads(said)
    assert (name, size, message) == ("standard input", [96, 64], "standard input has ended")
    assert seen == sorted(seen)
    assert len(seen) >= 20
