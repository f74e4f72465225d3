"""A video source in the user's PipeWire session, through its own library, libpipewire.

The library is called as it is, for whoever runs PipeWire has it: there is nothing else to install.
A frame is copied once, into memory that the reader sees, and no process lies between. (GStreamer's
`pipewiresink` of PipeWire 0.3.65 stops for good where a reader is late by 16 frames: it waits for a
buffer, and what gives buffers back is its own next frame.)

Source of names and numbers: PipeWire's headers `pipewire/stream.h`, `spa/pod/pod.h`,
`spa/param/format.h`, `spa/param/buffers.h` and `spa/buffer/*.h`, which are stable since 0.3.0.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from collections.abc import Mapping
from ctypes import POINTER, Structure, c_char_p, c_int, c_int32, c_int64, c_uint32, c_void_p
from fractions import Fraction
from typing import Any, Final

import numpy as np

from mien.engines.errors import DeviceError

LIBRARY: Final = "libpipewire-0.3.so.0"
_CONNECT_S: Final = 5.0  # until PipeWire has made the source known
_ERROR, _PAUSED, _STREAMING = -1, 2, 3  # of enum pw_stream_state
_OUTPUT: Final = 1  # PW_DIRECTION_OUTPUT
_ANY: Final = 0xFFFFFFFF  # PW_ID_ANY
_MAP_BUFFERS, _DRIVER = 4, 8  # of enum pw_stream_flags
_FORMAT, _BUFFERS, _META, _ENUM_FORMAT = 4, 5, 6, 3  # of enum spa_param_type
_HEADER: Final = struct.Struct("=IIqqQ")  # flags, offset, pts in ns, dts - pts, number
_HEADER_META: Final = 1  # SPA_META_Header
_MOST_BUFFERS: Final = 8
_GIVE_POINTERS: Final = (
    "pw_thread_loop_new",
    "pw_thread_loop_get_loop",
    "pw_properties_new_string",
    "pw_stream_new_simple",
    "pw_stream_dequeue_buffer",
)


class _Chunk(Structure):
    _fields_ = (("offset", c_uint32), ("size", c_uint32), ("stride", c_int32), ("flags", c_int32))


class _Data(Structure):
    _fields_ = (
        ("type", c_uint32),
        ("flags", c_uint32),
        ("fd", c_int64),
        ("mapoffset", c_uint32),
        ("maxsize", c_uint32),
        ("data", c_void_p),
        ("chunk", POINTER(_Chunk)),
    )


class _Meta(Structure):
    _fields_ = (("type", c_uint32), ("size", c_uint32), ("data", c_void_p))


class _Buffer(Structure):
    _fields_ = (
        ("n_metas", c_uint32),
        ("n_datas", c_uint32),
        ("metas", POINTER(_Meta)),
        ("datas", POINTER(_Data)),
    )


class _StreamBuffer(Structure):  # struct pw_buffer; what follows is not looked at
    _fields_ = (("buffer", POINTER(_Buffer)),)


_PARAM_CHANGED = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)


class _Events(Structure):  # struct pw_stream_events, version 0
    _fields_ = (
        ("version", c_uint32),
        ("destroy", c_void_p),
        ("state_changed", c_void_p),
        ("control_info", c_void_p),
        ("io_changed", c_void_p),
        ("param_changed", _PARAM_CHANGED),
        ("others", c_void_p * 8),  # add_buffer, remove_buffer, process and newer ones: none
    )


def pod(kind: int, body: bytes) -> bytes:
    """A value as PipeWire takes it (spa/pod/pod.h): size, type, body, filled up to 8 bytes."""
    return struct.pack("=II", len(body), kind) + body + bytes(-len(body) % 8)


def id_pod(value: int) -> bytes:
    """A member of an enumeration."""
    return pod(3, struct.pack("=I", value))


def int_pod(value: int) -> bytes:
    """A whole number of 32 bits."""
    return pod(4, struct.pack("=i", value))


def pair_pod(kind: int, first: int, second: int) -> bytes:
    """Two numbers: a rectangle (kind 10) or a fraction (kind 11)."""
    return pod(kind, struct.pack("=II", first, second))


def choice_pod(kind: int, *values: int) -> bytes:
    """Whole numbers to choose from: a range (kind 1: default, least, most) or flags (kind 4)."""
    return pod(19, struct.pack(f"=IIII{len(values)}i", kind, 0, 4, 4, *values))


def object_pod(kind: int, param: int, fields: Mapping[int, bytes]) -> bytes:
    """A parameter: its properties by their key, each a value of this module."""
    parts = [struct.pack("=II", key, 0) + value for key, value in fields.items()]
    return pod(15, struct.pack("=II", kind, param) + b"".join(parts))


def format_pod(size_wh: tuple[int, int], rate: Fraction) -> bytes:
    """The one format of the source: raw video, planar 4:2:0, of one size and rate."""
    fields = {
        1: id_pod(2),  # media type: video
        2: id_pod(1),  # media subtype: raw
        0x20001: id_pod(2),  # SPA_VIDEO_FORMAT_I420
        0x20003: pair_pod(10, *size_wh),
        0x20004: pair_pod(11, rate.numerator, rate.denominator),
    }
    return object_pod(0x40003, _ENUM_FORMAT, fields)


def buffers_pod(size_wh: tuple[int, int]) -> bytes:
    """The buffers that a frame goes into: one block of memory each, which the other side maps."""
    width, height = size_wh
    fields = {
        1: choice_pod(1, 4, 2, _MOST_BUFFERS),  # how many
        2: int_pod(1),  # blocks
        3: int_pod(width * height * 3 // 2),
        4: int_pod(width),  # stride
        6: choice_pod(4, 1 << 1 | 1 << 2),  # SPA_DATA_MemPtr, SPA_DATA_MemFd
    }
    return object_pod(0x40004, _BUFFERS, fields)


def header_pod() -> bytes:
    """A request for room beside each buffer, for the time and number of its frame."""
    return object_pod(0x40005, _META, {1: id_pod(_HEADER_META), 2: int_pod(_HEADER.size)})


def load_library(name: str = LIBRARY) -> ctypes.CDLL:
    """The library, with its functions declared and initialised. Raises DeviceError without it."""
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise DeviceError(f"the library {name} is not installed") from error
    for function in _GIVE_POINTERS:
        getattr(library, function).restype = c_void_p
    library.pw_init(None, None)
    library.pw_log_set_level(1)  # errors only: standard error is for mien's own lines
    return library


class PipeWireStream:
    """A source of video that other programs of the session can choose.

    properties: of the node, by PipeWire's names for them. size_wh: both even. rate: that is stated;
    frames may come at any time. Methods may be called from any thread.
    Raises DeviceError where there is no PipeWire, or it refuses.
    """

    def __init__(
        self, properties: Mapping[str, str], size_wh: tuple[int, int], rate: Fraction
    ) -> None:
        self._library = load_library()
        self._size_wh, self._seq = size_wh, 0
        self._lock = threading.Lock()  # nothing is asked of what another thread destroys
        self._stream: c_void_p | None = None
        self._keep: list[object] = []  # what the library holds pointers to
        self._loop = c_void_p(self._library.pw_thread_loop_new(b"mien-pipewire", None))
        try:
            self._open(properties, rate)
            self._library.pw_thread_loop_start(self._loop)
            self._wait_until_known()
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> int:
        """How it is, as of `enum pw_stream_state`."""
        with self._lock:
            if self._stream is None:
                return 0
            self._library.pw_thread_loop_lock(self._loop)
            try:
                return int(self._library.pw_stream_get_state(self._stream, None))
            finally:
                self._library.pw_thread_loop_unlock(self._loop)

    @property
    def is_read(self) -> bool:
        """Whether a program takes frames from it now."""
        return self.state == _STREAMING

    @property
    def is_lost(self) -> bool:
        """Whether PipeWire has ended, or has thrown the source out."""
        return self.state < _PAUSED

    def push(self, pixels: np.ndarray, time_s: float) -> bool:
        """Whether the frame went out; not where nobody reads, or a reader holds all buffers.

        pixels: uint8, Y, U and V one after the other, contiguous. time_s: of time.monotonic.
        """
        with self._lock:
            if self._stream is None:
                return False
            self._library.pw_thread_loop_lock(self._loop)
            try:
                return self._pushed(self._stream, pixels, time_s)
            finally:
                self._library.pw_thread_loop_unlock(self._loop)

    def close(self) -> None:
        """Take the source away. May be called twice."""
        with self._lock:
            loop, self._loop = self._loop, c_void_p(None)
            stream, self._stream = self._stream, None
            if loop.value is not None:
                self._library.pw_thread_loop_stop(loop)  # which waits for its thread
                if stream is not None:
                    self._library.pw_stream_destroy(stream)
                self._library.pw_thread_loop_destroy(loop)

    def _open(self, properties: Mapping[str, str], rate: Fraction) -> None:
        library = self._library
        told = c_void_p(library.pw_properties_new_string(b""))
        for key, value in properties.items():
            library.pw_properties_set(told, key.encode(), value.encode())
        changed = _PARAM_CHANGED(self._param_changed)
        events = _Events(version=0, param_changed=changed)
        self._keep += [changed, events]
        inner = c_void_p(library.pw_thread_loop_get_loop(self._loop))
        name = c_char_p(properties.get("node.name", "mien").encode())
        stream = library.pw_stream_new_simple(inner, name, told, ctypes.byref(events), None)
        if not stream:
            raise DeviceError("PipeWire's library cannot be used: it lacks its configuration")
        self._stream = c_void_p(stream)
        params = self._params(format_pod(self._size_wh, rate))
        flags = c_int(_MAP_BUFFERS | _DRIVER)
        code = library.pw_stream_connect(self._stream, _OUTPUT, c_uint32(_ANY), flags, params, 1)
        if code < 0:
            raise DeviceError(f"no PipeWire is running for this user (error {-code})")

    def _params(self, *pods: bytes) -> Any:
        """The values as an array of pointers, kept as long as the stream."""
        texts = [ctypes.create_string_buffer(value, len(value)) for value in pods]
        array = (c_void_p * len(texts))(*(ctypes.addressof(text) for text in texts))
        self._keep += [*texts, array]
        return array

    def _param_changed(self, _data: Any, param: int, value: Any) -> None:
        """Ask for buffers, once the reader has agreed to the format; in PipeWire's thread."""
        if param == _FORMAT and value and self._stream is not None:
            wanted = self._params(buffers_pod(self._size_wh), header_pod())
            self._library.pw_stream_update_params(self._stream, wanted, 2)

    def _wait_until_known(self) -> None:
        ends_s = time.monotonic() + _CONNECT_S
        while (state := self.state) < _PAUSED:
            if state == _ERROR or time.monotonic() > ends_s:
                raise DeviceError("PipeWire does not take a camera from this user")
            time.sleep(0.01)

    def _pushed(self, stream: c_void_p, pixels: np.ndarray, time_s: float) -> bool:
        library = self._library
        if library.pw_stream_get_state(stream, None) != _STREAMING:
            return False
        address = library.pw_stream_dequeue_buffer(stream)
        is_filled = bool(address) and self._fill(address, pixels, time_s)
        if address:
            library.pw_stream_queue_buffer(stream, c_void_p(address))
        # without a buffer as well: this is what brings used ones back
        if library.pw_stream_is_driving(stream):
            library.pw_stream_trigger_process(stream)
        return is_filled

    def _fill(self, address: int, pixels: np.ndarray, time_s: float) -> bool:
        """Whether the frame was copied into the buffer; one that is too small is left empty."""
        buffer = ctypes.cast(address, POINTER(_StreamBuffer)).contents.buffer.contents
        data = buffer.datas[0]
        fits = bool(data.data) and data.maxsize >= pixels.nbytes
        chunk = data.chunk.contents
        chunk.offset, chunk.flags, chunk.stride = 0, 0, self._size_wh[0]
        chunk.size = pixels.nbytes if fits else 0
        if fits:
            ctypes.memmove(data.data, pixels.ctypes.data, pixels.nbytes)
        for index in range(buffer.n_metas):
            meta = buffer.metas[index]
            if meta.type == _HEADER_META and meta.size >= _HEADER.size:
                header = _HEADER.pack(0, 0, int(time_s * 1e9), 0, self._seq)
                ctypes.memmove(meta.data, header, len(header))
        self._seq += fits
        return fits
