"""What a watermark says, in bits, and the code that keeps them whole through noise.

A convolutional code whose decoder gives the likeliest messages, and not just the one: the error
check finds the right one among them, so that far weaker marks are read than by the likeliest alone.
"""

from __future__ import annotations

import binascii
import secrets
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.engines.errors import UsageError

FORMAT: Final = 1
NUMBER_BITS: Final = 28
PAYLOAD_BITS: Final = 48

# The best code of rate 1/3 and constraint length 9 (Larsen 1973), in octal.
GENERATORS: Final = (0o557, 0o663, 0o711)
CONSTRAINT: Final = 9
CODED_BITS: Final = len(GENERATORS) * (PAYLOAD_BITS + CONSTRAINT - 1)


@dataclass(frozen=True, slots=True)
class Payload:
    """What the watermark says.

    number: 0..2^28-1, of one run. format: 0..15, of this layout of bits.
    Raises UsageError for numbers outside.
    """

    number: int
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not 0 <= self.number < 1 << NUMBER_BITS or not 0 <= self.format < 16:
            raise UsageError(
                f"a watermark holds a number of 0..{(1 << NUMBER_BITS) - 1} and a format of 0..15, "
                f"not {self.number} and {self.format}"
            )

    @classmethod
    def drawn(cls) -> Payload:
        """A payload with a random number."""
        return cls(secrets.randbelow(1 << NUMBER_BITS))

    @property
    def identifier(self) -> str:
        """The number as people compare it: 7 hexadecimal digits."""
        return f"{self.number:07x}"

    def bits(self) -> np.ndarray:
        """Format (4), number (28), CRC-16 of them: uint8 (48,), 0 or 1."""
        said = (self.format << NUMBER_BITS | self.number).to_bytes(4, "big")
        whole = said + binascii.crc_hqx(said, 0xFFFF).to_bytes(2, "big")
        return np.unpackbits(np.frombuffer(whole, np.uint8))

    @classmethod
    def of_bits(cls, bits: np.ndarray) -> Payload | None:
        """The payload of 48 bits, None where the format is unknown or the error check fails."""
        whole = np.packbits(bits.astype(np.uint8)).tobytes()
        said = int.from_bytes(whole[:4], "big")
        if binascii.crc_hqx(whole[:4], 0xFFFF) != int.from_bytes(whole[4:], "big"):
            return None
        payload = cls(said & (1 << NUMBER_BITS) - 1, said >> NUMBER_BITS)
        return payload if payload.format == FORMAT else None


def encoded(bits: np.ndarray) -> np.ndarray:
    """The coded bits of a payload's: float32 (168,), -1 or 1, ended by zeros."""
    register, coded = 0, []
    for bit in [*bits.tolist(), *[0] * (CONSTRAINT - 1)]:
        register = (register << 1 | bit) & ((1 << CONSTRAINT) - 1)
        coded += [(register & taps).bit_count() & 1 for taps in GENERATORS]
    return np.array(coded, np.float32) * 2 - 1


def likeliest(soft: np.ndarray, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest messages, best first: bits uint8 (count, 48), and how well each correlates.

    soft: float (168,), the likelier a coded bit is 1 the larger, in any unit. The correlation is in
    the same; -inf where there are fewer messages.
    Source: Seshadri and Sundberg 1994, "List Viterbi decoding algorithms", the parallel one.
    """
    states = 1 << (CONSTRAINT - 1)
    registers = np.arange(2 * states)  # the state before, and the new bit
    ones = [
        [(register & tap).bit_count() & 1 for register in range(2 * states)] for tap in GENERATORS
    ]
    signs = np.array(ones, np.float64) * 2 - 1
    gains = soft.reshape(-1, len(GENERATORS)).astype(np.float64) @ signs
    scores = np.full((states, count), -np.inf)
    scores[0, 0] = 0.0
    chosen = []
    for gain in gains:
        # Register r = (oldest bit, state); it leads to the state r mod `states`.
        reached = scores[registers >> 1] + gain[:, None]
        both = np.concatenate([reached[:states], reached[states:]], 1)
        best = np.argpartition(-both, count - 1, 1)[:, :count]
        scores = np.take_along_axis(both, best, 1)
        chosen.append(best)
    order = np.argsort(-scores[0], kind="stable")
    state, rank = np.zeros(count, np.int64), order.copy()
    bits = np.zeros((count, len(gains)), np.uint8)
    for place in range(len(gains) - 1, -1, -1):
        bits[:, place] = state & 1
        took = chosen[place][state, rank]
        is_upper = took >= count
        state, rank = (state + states * is_upper) >> 1, took - count * is_upper
    return bits[:, :PAYLOAD_BITS], scores[0][order]


def payload_in(soft: np.ndarray, least: float, count: int) -> tuple[Payload | None, float]:
    """The likeliest payload whose error check holds, and its correlation with `soft`.

    least: the correlation that it must have, in the unit of `soft`: chance passes the check once in
    2^20. count: how many of the likeliest messages are tried.
    """
    for bits, score in zip(*likeliest(soft, count), strict=True):
        if score < least:
            break
        payload = Payload.of_bits(bits)
        if payload is not None:
            return payload, float(score)
    return None, 0.0
