"""VMC coming in: the expressions that VSeeFace and others send, shown by an avatar.

`vmc-in://HOST:PORT` listens there as a marionette does. It takes the names of VRM 1.0, of VRM 0 and
mien's own, in small letters or capitals, from `/VMC/Ext/Blend/Val`, and shows them together at
`/VMC/Ext/Blend/Apply`. Everything else of the protocol is left out.

Source: https://protocol.vmc.info/english.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Final, cast

from pythonosc.osc_packet import OscPacket, ParseError

from mien.engines.errors import DeviceError
from mien.runtime.avatar.adapters.link import Address, Receiver
from mien.runtime.avatar.adapters.vmc import APPLY, OLD_NAMES, VAL
from mien.runtime.avatar.protocol import Command, Steer
from mien.runtime.target import EMOTIONS, Target, finite_number

PRESETS: Final = {old.lower(): new for new, old in OLD_NAMES.items()} | {
    new.lower(): new for new in (*OLD_NAMES, *EMOTIONS)
}
# How far open and how wide the mouth is for each.
VOWELS: Final = {
    "aa": (0.9, 0.1), "ih": (0.35, 0.8), "ou": (0.35, -1.0), "ee": (0.55, 0.5), "oh": (0.6, -0.7),
}  # fmt: skip
LOOKS: Final = ("lookLeft", "lookRight", "lookUp", "lookDown")
RELAXED: Final = 0.4  # of happiness in a face that is `relaxed`
STEPS: Final = 20  # of an expression; smaller changes are noise
LARGEST: Final = 65_536  # bytes of a datagram
LOOK_S: Final = 0.2


class VmcReceiver(Receiver):
    """Shows what others send to a port. Raises DeviceError where it cannot listen there."""

    def __init__(self, address: Address, steer: Steer) -> None:
        super().__init__(address.text, steer)
        self._values: dict[str, float] = {}
        self._last: dict[str, object] = {}
        self._ended = threading.Event()
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.bind((address.host, address.port))
        except OSError as error:
            self._socket.close()
            raise DeviceError(f"cannot listen at {address.text}: {error.strerror}") from error
        self._socket.settimeout(LOOK_S)
        self._listening = threading.Thread(target=self._listen, name="mien-vmc", daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                self._read(self._socket.recv(LARGEST))

    def _read(self, datagram: bytes) -> None:
        """Take in a datagram; what is no OSC, or no known expression, is left out."""
        try:
            packet = OscPacket(datagram)
        except (ParseError, ValueError, IndexError, struct.error, RecursionError, OverflowError):
            return
        for timed in packet.messages:
            name, values = timed.message.address, list(timed.message)
            if name == VAL and len(values) == 2 and isinstance(values[0], str):
                preset, value = PRESETS.get(values[0].lower()), finite_number(values[1])
                if preset is not None and value is not None:
                    self._values[preset] = min(1.0, max(0.0, value))
            elif name == APPLY:
                self._apply()

    def _apply(self) -> None:
        """Show the values that have come, where they are others than those shown."""
        said: dict[str, object] = {"mix": self._mix(), "look": self._look()}
        changed = {name: value for name, value in said.items() if self._last.get(name) != value}
        is_shut = max(map(self._of, ("blink", "blinkLeft", "blinkRight"))) > 0.5
        blinks = is_shut and not self._last.get("shut")
        mouth = self._mouth()
        if changed or blinks or mouth != self._last.get("mouth") or mouth[0] > 0:
            look = said["look"]
            self.steer(
                Command(
                    target=cast("Target | None", said["mix"]),
                    expresses="mix" in changed,
                    blink=blinks,
                    look=cast("tuple[float, float] | None", look),
                    looks="look" in changed,
                    mouth=mouth,
                )
            )
        self._last = {**said, "mouth": mouth, "shut": is_shut}

    def _of(self, preset: str) -> float:
        return self._values.get(preset, 0.0)

    def _mix(self) -> Target | None:
        weights = {name: self._of(name) for name in EMOTIONS if name != "neutral"}
        weights["happy"] = max(weights["happy"], RELAXED * self._of("relaxed"))
        total = max(1.0, sum(weights.values()))
        found = [round(STEPS * weights.get(name, 0.0) / total) / STEPS for name in EMOTIONS]
        over = max(1.0, sum(found))
        return Target(tuple(share / over for share in found)) if any(found) else None

    def _look(self) -> tuple[float, float] | None:
        """Where to look; None until somebody has said so."""
        if not any(name in self._values for name in LOOKS):
            return None
        left, right, up, down = map(self._of, LOOKS)
        return (round(STEPS * (left - right)) / STEPS, round(STEPS * (down - up)) / STEPS)

    def _mouth(self) -> tuple[float, float]:
        opening = sum(self._of(name) * vowel[0] for name, vowel in VOWELS.items())
        width = sum(self._of(name) * vowel[1] for name, vowel in VOWELS.items())
        return (min(1.0, opening), min(1.0, max(-1.0, width)))

    def _finish(self) -> None:
        self._ended.set()
        self._listening.join(2 * LOOK_S)
        self._socket.close()


def open_receiver(address: Address, steer: Steer) -> VmcReceiver:
    """The link that listens at an address. Raises DeviceError."""
    return VmcReceiver(address, steer)
