"""Protobuf messages taken apart, as far as an ONNX file needs it, without `protobuf` or `onnx`.

Stricter than protobuf itself, so that nothing can mean one thing here and another there: what a
model is refused for must not hide in a spelling that only the other reader understands.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_TAG = (1 << 32) - 1  # protobuf cuts larger ones off, and reads another field

Field = tuple[int, "int | memoryview"]


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order. Raises ValueError where it is none."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag > MAX_TAG:
            raise ValueError(f"a field has the number {number}")
        if wire == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == BYTES:
            size, position = _varint(message, position)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {wire}")
        if size > len(message) - position:
            raise ValueError("it ends within a field")
        yield number, message[position : position + size]
        position += size


def part(value: int | memoryview) -> memoryview:
    """A field's bytes. Raises ValueError where it is a number."""
    if isinstance(value, int):
        raise ValueError("a number stands where a message is expected")  # noqa: TRY004 -- of a file
    return value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is longer than 64 bits")
