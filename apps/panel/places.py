"""How much the panel takes on: places for a bounded number, who makes room for whom, and rates."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from operator import itemgetter
from typing import Final, Generic, Protocol, TypeVar

TENURE_S: Final = 1.0  # a place is kept this long before it may be taken by somebody newer
STALLED_S: Final = 0.5  # somebody who takes nothing for this long makes room first


class Holder(Protocol):
    """Somebody with a place. address: the machine it comes from."""

    address: str

    def spare(self, now_s: float) -> tuple[int, float] | None:
        """How well it can be spared, the highest first; None where it cannot."""
        ...

    def make_room(self) -> None:
        """End what it does: the place is another's now."""
        ...


SomeHolder = TypeVar("SomeHolder", bound=Holder)


class Places(Generic[SomeHolder]):
    """A bounded number of places, where a newcomer takes that of whoever can best be spared.

    Of the places, one other machine has at most half, and all others together three quarters: what
    is left is for the person at this machine.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[SomeHolder, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[SomeHolder]:
        return iter(list(self._held))

    def __contains__(self, holder: object) -> bool:
        return holder in self._held

    def take(self, holder: SomeHolder) -> bool:
        """Whether there is a place for it; somebody else may have had to make room."""
        rivals = self._rivals(machine_of(holder.address))
        if rivals is not None:
            now_s = time.monotonic()
            spared = [(how, rival) for rival in rivals if (how := rival.spare(now_s)) is not None]
            if not spared:
                return False
            _, rival = max(spared, key=itemgetter(0))
            self.free(rival)
            rival.make_room()
        self._held[holder] = None
        return True

    def free(self, holder: SomeHolder) -> None:
        """Give the place back; it may be another's by now."""
        self._held.pop(holder, None)

    def _rivals(self, machine: str | None) -> list[SomeHolder] | None:
        """Who may have to make room for one more from there; None where there is room."""
        if machine is not None:
            others = [held for held in self._held if machine_of(held.address) is not None]
            same = [held for held in others if machine_of(held.address) == machine]
            if len(same) >= max(1, self._most // 2):
                return same
            if len(others) >= max(1, 3 * self._most // 4):
                return others
        return list(self._held) if len(self._held) >= self._most else None


def machine_of(address: str) -> str | None:
    """The machine of an address, None for this one. An IPv6 network of 64 bits is one machine."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return None if ip.is_loopback else str(ipaddress.ip_network((ip, 64), strict=False))
        ip = ip.ipv4_mapped
    return None if ip.is_loopback else str(ip)


class Rate:
    """So many events a second, and `burst` of them at once."""

    def __init__(self, a_second: float, burst: int) -> None:
        self._each_s = 1 / a_second
        self._slack_s = burst / a_second
        self._paid_s = time.monotonic()  # until when the events so far are paid for

    def wait_s(self) -> float:
        """How long until the next event is due, 0 where it is."""
        return max(0.0, self._paid_s + self._each_s - self._slack_s - time.monotonic())

    def take(self) -> None:
        """Count one event."""
        self._paid_s = max(self._paid_s, time.monotonic()) + self._each_s
