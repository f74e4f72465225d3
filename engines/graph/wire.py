"""Protobuf messages taken apart and put together, as far as an ONNX file needs it.

Without `protobuf` or `onnx`, which are no part of the base install.

Stricter than protobuf itself, so that nothing can mean one thing here and another there: what a
model is refused for must not hide in a spelling that only the other reader understands.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_TAG = (1 << 32) - 1  # protobuf cuts larger ones off, and reads another field

# A number, a message or other bytes, or the bytes of a number of fixed size.
Field = tuple[int, "int | memoryview | bytes"]


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
        content = message[position : position + size]
        yield number, content if wire == BYTES else bytes(content)
        position += size


def part(value: int | memoryview | bytes) -> memoryview:
    """A field's bytes. Raises ValueError where it is a number."""
    if not isinstance(value, memoryview):
        raise ValueError("a number stands where a message is expected")  # noqa: TRY004 -- of a file
    return value


def integers(value: int | memoryview | bytes) -> list[int]:
    """The int64 numbers of a repeated field: one, or many that are packed. Raises ValueError."""
    if isinstance(value, int):
        return [_signed(value)]
    packed, numbers, position = part(value), [], 0
    while position < len(packed):
        number, position = _varint(packed, position)
        numbers.append(_signed(number))
    return numbers


def number_field(number: int, value: int) -> bytes:
    """A field with a number from 0."""
    return written(number << 3 | VARINT) + written(value)


def bytes_field(number: int, content: bytes | memoryview) -> bytes:
    """A field with a message or other bytes."""
    return written(number << 3 | BYTES) + written(len(content)) + bytes(content)


def text_field(number: int, text: str) -> bytes:
    """A field with a text."""
    return bytes_field(number, text.encode())


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def written(value: int) -> bytes:
    """A number from 0 in seven bits a byte."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


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
