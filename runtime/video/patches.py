"""What an edit changed in a frame, as few bytes: to be put into the same frame somewhere else.

A frame is decoded in two places, edited in one of them, and written in the other. Only the boxes of
its planes in which samples differ travel, as differences, with a checksum of what they are added
to: where the two were not decoded alike, that is told.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from mien.engines.errors import VideoError
from mien.runtime.frame import Frame, Plane

# Runs and single symbols, and no search for repeats: half the time of zlib's first level for
# differences, which are noise around 0, and fewer bytes.
_LEVEL, _RAW, _MEMORY = 1, -15, 9
_HEAD: Final = struct.Struct("<qBI")  # time stamp, number of boxes, bytes of them
_BOX: Final = struct.Struct("<B4III")  # plane, rows and columns (first, end), checksum, bytes


class MismatchError(VideoError):
    """Frames of one file that were decoded in two places are not the same."""


def packed_edit(frame: Frame, edited: Frame) -> bytes:
    """What turns `frame` into `edited`, for `EditReader`. Raises MismatchError without a time."""
    if frame.pts is None:
        raise MismatchError("a frame has no time")
    boxes = [
        _packed_box(number, old.samples, new.samples)
        for number, (old, new) in enumerate(zip(frame.planes, edited.planes, strict=True))
        if new.samples is not old.samples
    ]
    told = [box for box in boxes if box]
    body = b"".join(told)
    return _HEAD.pack(frame.pts, len(told), len(body)) + body


def _packed_box(number: int, old: np.ndarray, new: np.ndarray) -> bytes:
    """The differences within the smallest box that has them all; empty where there are none."""
    differs = old != new
    if differs.ndim == 3:
        differs = differs.any(2)
    rows = np.flatnonzero(differs.any(1))
    if not len(rows):
        return b""
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(differs[y0:y1].any(0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    before = np.ascontiguousarray(old[y0:y1, x0:x1])
    change = new[y0:y1, x0:x1] - before  # modulo 256 or 65536, as it is added again
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, _MEMORY, zlib.Z_RLE)
    data = packer.compress(np.ascontiguousarray(change).data) + packer.flush()
    return _BOX.pack(number, y0, y1, x0, x1, zlib.crc32(before.data), len(data)) + data


class EditReader:
    """Puts the edits of `packed_edit`, one after another, into the frames that they are of.

    read: gives the next so many bytes, fewer at the end only.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def edited(self, frame: Frame) -> Frame:
        """The frame with the next edit in it; itself where that is empty.

        Raises MismatchError where the edit is of another frame, or of one decoded otherwise.
        """
        head = self._read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise MismatchError("there are fewer frames")
        pts, count, size = _HEAD.unpack(head)
        body = self._read(size)
        if pts != frame.pts or len(body) != size:
            raise MismatchError("a frame has another time")
        planes, place = list(frame.planes), 0
        for _ in range(count):
            number, *corners, checksum, length = _BOX.unpack_from(body, place)
            place += _BOX.size
            data = zlib.decompress(body[place : place + length], _RAW)
            place += length
            if number >= len(planes):
                raise MismatchError("a frame has other planes")
            planes[number] = _with_box(planes[number], corners, data, checksum)
        return replace(frame, planes=tuple(planes)) if count else frame

    @property
    def is_at_end(self) -> bool:
        """Whether no edit is left. To be asked last."""
        return not self._read(1)


def _with_box(plane: Plane, corners: list[int], data: bytes, checksum: int) -> Plane:
    y0, y1, x0, x1 = corners
    before = np.ascontiguousarray(plane.samples[y0:y1, x0:x1])
    change = np.frombuffer(data, before.dtype)
    if change.size != before.size or zlib.crc32(before.data) != checksum:
        raise MismatchError("a frame was decoded otherwise")
    samples = plane.samples.copy()
    samples[y0:y1, x0:x1] += change.reshape(before.shape)
    return Plane(samples, plane.subsampling_xy)
